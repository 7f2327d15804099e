#!/usr/bin/env python3
"""Reads a mail with Python's own parser and prints what it found, as JSON: an independent judge of the mails that we write.

    python3 tests/servers/parse_mail.py FILE.eml          an object
    python3 tests/servers/parse_mail.py FILE.eml FILE.eml… a list of them

    subject, from, to, cc, reply_to    decoded
    people         {"from": [["name", "address"]], "to": …, "cc": …, "reply_to": …}
    headers        every header, decoded, lower-case name → list of values
    structure      content types, nested: ["multipart/alternative", ["text/plain", "text/html"]]
    text, html     decoded bodies, or null
    hrefs          of the HTML part, in order, entities decoded
    attachments    [{"name", "type", "bytes"}]
    defects        everything the parser grumbled about, header defects included: want []
    max_line_octets, lines_over_998, bare_line_endings, eight_bit    of the raw file
"""

import email
import email.policy
import email.utils
import html.parser
import json
import pathlib
import re
import sys
from email.header import decode_header, make_header


class Hrefs(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for key, value in attributes if tag == "a" and key == "href"]


def structure(part):
    if part.is_multipart():
        return [part.get_content_type(), [structure(child) for child in part.iter_parts()]]
    return part.get_content_type()


def defects(message):
    found = []
    for part in message.walk():
        found += [repr(defect) for defect in part.defects]
        for key, value in part.items():
            found += [f"{key}: {defect!r}" for defect in value.defects]
    return found


def judge(raw):
    message = email.message_from_bytes(raw, policy=email.policy.default)
    text, html_part = message.get_body(("plain",)), message.get_body(("html",))
    page = html_part.get_content() if html_part else None
    hrefs = Hrefs()
    hrefs.feed(page or "")
    headers = {}
    for key, value in message.items():
        headers.setdefault(key.lower(), []).append(str(value))
    lines = re.split(rb"\r\n|\n", raw)

    def one(key):
        return headers.get(key, [None])[0]

    # The older way to names: the newer one puts a space between two encoded words (RFC 2047, section 6.2 says not to; Python 3.11).
    as_written = email.message_from_bytes(raw, policy=email.policy.compat32)

    def people(key):
        pairs = email.utils.getaddresses(map(str, as_written.get_all(key, [])))
        return [[str(make_header(decode_header(name))), address] for name, address in pairs]

    return {
        "subject": one("subject"),
        "from": one("from"),
        "to": one("to"),
        "cc": one("cc"),
        "reply_to": one("reply-to"),
        "people": {key: people(key.replace("_", "-")) for key in ("from", "to", "cc", "reply_to")},
        "headers": headers,
        "structure": structure(message),
        "text": text.get_content() if text else None,
        "html": page,
        "hrefs": hrefs.found,
        "attachments": [
            {"name": part.get_filename(), "type": part.get_content_type(), "bytes": len(part.get_payload(decode=True) or b"")}
            for part in message.iter_attachments()
        ],
        "defects": defects(message),
        "max_line_octets": max(map(len, lines)),
        "lines_over_998": sum(len(line) > 998 for line in lines),
        "bare_line_endings": len(re.findall(rb"(?<!\r)\n|\r(?!\n)", raw)),
        "eight_bit": any(octet > 127 for octet in raw),
    }


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    judged = [judge(pathlib.Path(path).read_bytes()) for path in sys.argv[1:]]
    json.dump(judged if len(judged) > 1 else judged[0], sys.stdout, ensure_ascii=False, indent=1)
    print()
