#!/usr/bin/env python3
"""Runs versitygw, an S3 gateway that verifies every signature, and ends it when standard input is closed.

    python3 tests/servers/versitygw.py DIR [REGION]

    DIR/objects   its buckets, one folder each

Its key is AKIAIOSFODNN7EXAMPLE with the secret `secret-of-tests`. Says `ready PORT` when it listens on 127.0.0.1:PORT. Exit 69 with the
reason if it cannot run here: tests/peers/servers.sh builds it.
"""

import pathlib
import sys

from serving import cannot, free_port, serve

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / ".test/peers/bin/versitygw"


def main():
    if not PROGRAM.exists():
        cannot("versitygw is not built: tests/peers/servers.sh versitygw")
    directory, region = pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "eu-west-1"
    (directory / "objects").mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [PROGRAM, "--port", f"127.0.0.1:{port}", "--region", region, "--quiet", "posix", directory / "objects"]
    keys = {"ROOT_ACCESS_KEY": "AKIAIOSFODNN7EXAMPLE", "ROOT_SECRET_KEY": "secret-of-tests"}
    serve(command, port, "versitygw", keys)


if __name__ == "__main__":
    main()
