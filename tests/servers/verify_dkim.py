#!/usr/bin/env python3
"""Verifies the DKIM signatures of mails with dkimpy, against records that are given instead of the DNS.

    python3 tests/servers/verify_dkim.py RECORDS.json FILE.eml…

    RECORDS.json    {"selector._domainkey.domain": "\\"v=DKIM1; …\\" \\"…\\""}: TXT records as a zone file has them

Prints for each file a list with an object for each signature in it, from the first: {"verified", "algorithm", "selector", "names"}.
"""

import json
import pathlib
import re
import sys

import dkim


def unquoted(record):
    return "".join(re.findall(r'"([^"]*)"', record))


def judge(raw, records):
    def dns(name, timeout=5):
        return records.get(name.decode().rstrip("."), "").encode() or None

    signatures = re.split(rb"\r\n\r\n", raw, maxsplit=1)[0].lower().count(b"dkim-signature:")
    found = []
    for index in range(signatures):
        verifier = dkim.DKIM(raw)
        try:
            verified = verifier.verify(idx=index, dnsfunc=dns)
        except dkim.DKIMException as error:
            verified = str(error)
        fields = verifier.signature_fields
        names = [name.strip().decode().lower() for name in fields.get(b"h", b"").split(b":")]
        found.append(
            {
                "verified": verified,
                "algorithm": fields.get(b"a", b"").decode(),
                "selector": fields.get(b"s", b"").decode(),
                "names": names,
            }
        )
    return found


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    records = {name: unquoted(text) for name, text in json.loads(pathlib.Path(sys.argv[1]).read_text()).items()}
    json.dump([judge(pathlib.Path(path).read_bytes(), records) for path in sys.argv[2:]], sys.stdout)
    print()
