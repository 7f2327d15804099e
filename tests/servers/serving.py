"""What the servers of the tests share: a free port, a program that is waited for, and an end when standard input is closed."""

import socket
import subprocess
import sys
import time

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


def serve(command, port, name, environment=None, details=lambda: ""):
    """Runs a program until standard input is closed, and says `ready PORT` when it listens."""
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=environment, **silent)
    try:
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                cannot(f"{name} did not start{details()}")
            time.sleep(0.05)
        print(f"ready {port}", flush=True)
        sys.stdin.read()
    finally:
        process.terminate()
        process.wait()
