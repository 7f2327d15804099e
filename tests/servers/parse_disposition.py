#!/usr/bin/env python3
"""Says which file name others' parsers find in Content-Disposition headers.

    .test/venv/bin/python tests/servers/parse_disposition.py < headers.txt > names.jsonl

One header's value a line in; one JSON object a line out: {"disposition", "exact", "plain"}. `exact` is what werkzeug finds, which knows
filename* (RFC 8187); `plain` what Python's email package finds, which takes the first of the two, as old clients do.
"""

import email
import email.policy
import json
import sys

from werkzeug.http import parse_options_header

for line in sys.stdin:
    value = line.rstrip("\n")
    message = email.message_from_string(f"Content-Disposition: {value}\n\n", policy=email.policy.default)
    assert list(message.keys()) == ["Content-Disposition"], "one header, whatever the name"
    disposition, options = parse_options_header(value)
    assert disposition == message["Content-Disposition"].content_disposition
    print(json.dumps({"disposition": disposition, "exact": options["filename"], "plain": message.get_filename()}))
