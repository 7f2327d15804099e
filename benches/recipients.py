#!/usr/bin/env python3
"""A job of 10,000 recipients with a prefix each: the CPU that a recipient takes, and the memory of the whole job.

    python3 benches/recipients.py --program target/dist/handout [--recipients 10000] [--files 3]

Started by `make recipients`. The recipients come from a CSV file. S3 and the relay are simulated by this process, whose work is not counted: the bucket
has FILES files below each recipient's prefix, and the relay takes each mail at once. Everything else is real: `handout job run` lists each prefix, signs,
writes audit lines and the ledger with their syncs, renders, and sends mails by SMTP.

Prints the CPU and the time of a job with one recipient and of the whole job, the difference for each recipient, and the highest resident memory. Ends with
1 if a recipient has no mail, takes more than 3 ms, or the memory is above 96 MiB. Both bounds are for the profile `dist` or `release`.
"""

import argparse
import http.server
import json
import os
import pathlib
import re
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

#: The bounds: milliseconds of CPU for each recipient, and MiB.
MOST_CPU_MS, MOST_MIB = 3.0, 96

CONFIG = """
state_dir = "{home}/state"
[connections.reports]
endpoint_url = "http://127.0.0.1:{s3}"
region = "eu-west-1"
[links]
rate = "1000000/s"
[mail]
transport = "smtp"
from = "Reports <reports@sender.example>"
[mail.smtp]
host = "127.0.0.1"
port = {smtp}
tls = "none"
rate = "1000000/s"
[[list]]
name = "customers"
source = "{home}/{count}.csv"
[[allow]]
connection = "reports"
bucket = "acme-reports"
prefix = "customers/"
recipients = ["*@acme.example"]
lists = ["customers"]
"""


class Store(http.server.BaseHTTPRequestHandler):
    """ListObjectsV2 of a prefix `customers/<n>/…`."""

    protocol_version = "HTTP/1.1"
    files = 3

    def setup(self):
        super().setup()
        self.connection.setsockopt(6, 1, 1)  # TCP_NODELAY

    def log_message(self, *_):
        pass

    def do_GET(self):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True))
        entry = "<LastModified>2026-11-28T10:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>51200</Size><StorageClass>STANDARD</StorageClass>"
        prefix = query.get("prefix", "")
        keys = [f"{prefix}report-{at}.pdf" for at in range(self.files)] if re.fullmatch(r"customers/\d+/", prefix) else []
        rows = "".join(f"<Contents><Key>{key}</Key>{entry}</Contents>" for key in keys)
        body = (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>acme-reports</Name>'
            f"<KeyCount>{len(keys)}</KeyCount><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Relay(socketserver.StreamRequestHandler):
    """Takes each mail and forgets it."""

    taken = set()

    def say(self, text):
        self.wfile.write(text + b"\r\n")

    def handle(self):
        self.say(b"220 relay.example ESMTP")
        receiver = b""
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"EHLO":
                self.say(b"250-relay.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8")
            elif verb == b"DATA":
                self.say(b"354 go on")
                while self.rfile.readline() != b".\r\n":
                    pass
                Relay.taken.add(receiver)
                self.say(b"250 2.0.0 taken")
            elif verb == b"QUIT":
                return self.say(b"221 bye")
            else:
                receiver = line if verb == b"RCPT" else receiver
                self.say(b"250 2.0.0 ok")


class Relays(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def serve(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def job(program, home, count, ports):
    """Seconds of CPU, seconds, and MiB of a job with so many recipients."""
    rows = "".join(f"r{at}@acme.example,{at}\n" for at in range(count))
    (home / f"{count}.csv").write_text(f"address,vars.customer\n{rows}")
    config = home / f"{count}.toml"
    config.write_text(CONFIG.format(home=home, count=count, **ports))
    order = {
        "v": 1,
        "id": f"weekly-{count}",
        "scheduled_at": "2026-11-23T06:00:00Z",
        "from": {"connection": "reports", "bucket": "acme-reports", "prefix": "customers/{{recipient.vars.customer}}/"},
        "email": {"to": {"list": "customers"}, "subject": "Reports for customer {{recipient.vars.customer}}"},
    }
    (home / "job.json").write_text(json.dumps(order))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [str(program), "job", "run", str(home / "job.json"), "--json", "--config", str(config)]
    Relay.taken = set()
    began = time.monotonic()
    with open(home / "out.json", "wb") as out, open(home / "log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode != 0:
        sys.exit(f"recipients: handout ended with {process.returncode}:\n{(home / 'log').read_text()[-2000:]}")
    report = json.loads((home / "out.json").read_text())
    if report["accepted"] != count or len(Relay.taken) != count:
        sys.exit(f"recipients: {report['accepted']} of {count} mails were accepted, and {len(Relay.taken)} recipients have one")
    return usage.ru_utime + usage.ru_stime, seconds, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--recipients", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=3)
    wanted = parser.parse_args()
    Store.files = wanted.files
    store = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
    store.daemon_threads = True
    ports = {"s3": serve(store), "smtp": serve(Relays(("127.0.0.1", 0), Relay))}
    home = pathlib.Path(tempfile.mkdtemp(prefix="handout-recipients-"))
    try:
        spent = {}
        for count in (1, wanted.recipients):
            spent[count] = job(wanted.program.resolve(), home, count, ports)
            cpu, seconds, mib = spent[count]
            print(f"{count:>7,} recipients: {cpu:.2f} s CPU, {seconds:.2f} s, {mib:.1f} MiB at most")
    finally:
        shutil.rmtree(home)
    each = (spent[wanted.recipients][0] - spent[1][0]) * 1000 / max(wanted.recipients - 1, 1)
    mib = spent[wanted.recipients][2]
    print(f"{each:.2f} ms CPU a recipient (at most {MOST_CPU_MS}), {mib:.1f} MiB (at most {MOST_MIB})")
    return 1 if each > MOST_CPU_MS or mib > MOST_MIB else 0


if __name__ == "__main__":
    sys.exit(main())
