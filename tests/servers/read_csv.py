#!/usr/bin/env python3
"""Reads a table on standard input as Python's csv module does, and writes its rows as JSON: a judge for manifests in CSV.

    .test/venv/bin/python tests/servers/read_csv.py [SEPARATOR] < manifest.csv

With commas strictly: a quotation mark that RFC 4180 does not allow is an error. With another separator as a spreadsheet does whose locale
has that one: what then stands outside of quotation marks is text.
"""

import csv
import io
import json
import sys

if __name__ == "__main__":
    text = sys.stdin.buffer.read().decode("utf-8-sig")
    separator = sys.argv[1] if len(sys.argv) > 1 else ","
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=separator == ",")
    json.dump(list(rows), sys.stdout)
