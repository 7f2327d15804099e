#!/usr/bin/env python3
"""Reads a table on standard input as Python's csv module does, and writes its rows as JSON: a judge for manifests in CSV.

    .test/venv/bin/python tests/servers/read_csv.py < manifest.csv

Strictly: a quotation mark that RFC 4180 does not allow is an error.
"""

import csv
import io
import json
import sys

if __name__ == "__main__":
    text = sys.stdin.buffer.read().decode()
    json.dump(list(csv.reader(io.StringIO(text, newline=""), strict=True)), sys.stdout)
