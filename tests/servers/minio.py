#!/usr/bin/env python3
"""Runs MinIO over a directory, and ends it when standard input is closed.

    python3 tests/servers/minio.py DIR [REGION]

Its key is AKIAIOSFODNN7EXAMPLE with the secret `secret-of-tests`. Says `ready PORT` when it listens on 127.0.0.1:PORT. Exit 69 with the
reason if it cannot run here: `make peers` builds it.
"""

import pathlib
import sys

from serving import cannot, free_port, serve

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / ".test/peers/bin/minio"


def main():
    if not PROGRAM.exists():
        cannot("MinIO is not built: make peers")
    directory, region = pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "eu-west-1"
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = {
        "HOME": str(directory),
        "MINIO_ROOT_USER": "AKIAIOSFODNN7EXAMPLE",
        "MINIO_ROOT_PASSWORD": "secret-of-tests",
        "MINIO_REGION_NAME": region,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        # A key of its own, so that it encrypts: https://docs.min.io/enterprise/aistor-object-store/reference/aistor-server/settings/
        "MINIO_KMS_SECRET_KEY": "reports:bXktbWluaW8ta2V5LW9mLTMyLWJ5dGVzLWZvci10c3Q=",
    }
    command = [PROGRAM, "server", directory / "data", "--quiet", "--address", f"127.0.0.1:{port}"]
    serve(command, port, "MinIO", environment)


if __name__ == "__main__":
    main()
