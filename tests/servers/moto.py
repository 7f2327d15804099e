#!/usr/bin/env python3
"""S3 and SQS of moto, in memory, on a free port of 127.0.0.1.

    .test/venv/bin/python tests/servers/moto.py [--port N]

Prints `ready <port>` when it listens, and ends when its standard input is closed: a test that dies takes it along. Any credentials will do.
Use it for conditional writes, listings, odd keys, versions and queues; it never checks a signature. All is forgotten at the end. A second
PurgeQueue within 60 s is refused, so a test wants a queue name of its own.
"""

import argparse
import logging
import os
import sys
import threading

# moto looks at these when it is imported; and nothing here may ever reach a real account.
os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_EC2_METADATA_DISABLED="true")

# This file is called what it starts: do not import ourselves.
sys.path = [entry for entry in sys.path if os.path.realpath(entry or ".") != os.path.dirname(os.path.realpath(__file__))]

from moto.moto_server import threaded_moto_server  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402


class Atomic(threaded_moto_server.DomainDispatcherApplication):
    """S3 decides a conditional write at one instant; moto looks and then writes, so that on a busy machine two of twelve win."""

    conditional = threading.Lock()

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] == "PUT" and ("HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ):
            with self.conditional:
                return list(super().__call__(environ, start_response))
        if environ["REQUEST_METHOD"] == "GET" and "uploadId=" in environ.get("QUERY_STRING", ""):
            return [as_s3_lists_parts(b"".join(super().__call__(environ, start_response)))]
        return super().__call__(environ, start_response)


def as_s3_lists_parts(body):
    """moto calls the root of this answer by another name than S3, and the SDK rejects it. White space keeps the length."""
    named = body.replace(b"ListPartsResponse", b"ListPartsResult")
    return named + b"\n" * (len(body) - len(named))


threaded_moto_server.DomainDispatcherApplication = Atomic


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    wanted = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=wanted.port, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    print(f"ready {port}", flush=True)
    try:
        sys.stdin.buffer.read()
    except KeyboardInterrupt:
        pass
    server.stop()


if __name__ == "__main__":
    main()
