#!/usr/bin/env python3
"""Runs SeaweedFS with its S3 gateway over a directory, and ends it when standard input is closed.

    python3 tests/servers/weed.py DIR

Its key is AKIAIOSFODNN7EXAMPLE with the secret `secret-of-tests`. Says `ready PORT` when it listens on 127.0.0.1:PORT. Exit 69 with the
reason if it cannot run here: tests/peers/servers.sh weed builds it.
"""

import json
import pathlib
import sys

from serving import cannot, free_port, serve

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / ".test/peers/bin/weed"


def main():
    if not PROGRAM.exists():
        cannot("SeaweedFS is not built: tests/peers/servers.sh weed")
    directory = pathlib.Path(sys.argv[1])
    (directory / "data").mkdir(parents=True, exist_ok=True)
    key = {"accessKey": "AKIAIOSFODNN7EXAMPLE", "secretKey": "secret-of-tests"}
    identity = {"name": "tests", "credentials": [key], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    configuration = directory / "s3.json"
    configuration.write_text(json.dumps({"identities": [identity]}))
    names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port.grpc"]
    ports = [f"-{name}={free_port()}" for name in names]
    port = free_port()
    # Few small volumes: with the default, the first object of a bucket has no room.
    command = [PROGRAM, "server", f"-dir={directory / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", f"-s3.config={configuration}"]
    command += [f"-s3.port={port}", "-master.volumeSizeLimitMB=64", "-volume.max=100", *ports]
    serve(command, port, "SeaweedFS", {"HOME": str(directory)})


if __name__ == "__main__":
    main()
