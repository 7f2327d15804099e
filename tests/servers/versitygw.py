#!/usr/bin/env python3
"""Runs versitygw, an S3 gateway that verifies every signature, and ends it when standard input is closed.

    python3 tests/servers/versitygw.py DIR [REGION]

    DIR/objects   its buckets, one folder each

Its key is AKIAIOSFODNN7EXAMPLE with the secret `secret-of-tests`. Says `ready PORT` when it listens on 127.0.0.1:PORT. Exit 69 with the
reason if it cannot run here: tests/peers/servers.sh builds it.
"""

import pathlib
import socket
import subprocess
import sys
import time

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / ".test/peers/bin/versitygw"
PATIENCE = 30


def cannot(reason):
    print(reason, file=sys.stderr)
    sys.exit(69)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def main():
    if not PROGRAM.exists():
        cannot("versitygw is not built: tests/peers/servers.sh versitygw")
    directory, region = pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "eu-west-1"
    (directory / "objects").mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [PROGRAM, "--port", f"127.0.0.1:{port}", "--region", region, "--quiet", "posix", directory / "objects"]
    keys = {"ROOT_ACCESS_KEY": "AKIAIOSFODNN7EXAMPLE", "ROOT_SECRET_KEY": "secret-of-tests"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=keys)
    try:
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                cannot("versitygw did not start")
            time.sleep(0.05)
        print(f"ready {port}", flush=True)
        sys.stdin.read()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
