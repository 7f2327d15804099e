"""The servers behind the lines: versitygw and ElasticMQ, or moto for both; each a process of its own, ended by its id."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request

import boto3
from botocore.config import Config

from cloud import Moto
from line import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2] / ".test/faults"
REGION = "eu-west-1"
ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"

ELASTICMQ = """
node-address {{ protocol = http, host = "127.0.0.1", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = "127.0.0.1", sqs-limits = strict }}
rest-stats {{ enabled = false }}
aws {{ region = "{region}", accountId = "000000000000" }}
"""


def client(service, port):
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5}, max_pool_connections=20)
    return boto3.client(
        service, endpoint_url=f"http://127.0.0.1:{port}", region_name=REGION, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, config=config
    )


class Real:
    """versitygw and ElasticMQ, as `tests/faults/servers.sh` made them."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="handout-peers-"))
        self.s3_port, self.sqs_port = free_port(), free_port()
        (self.dir / "objects").mkdir()
        (self.dir / "elasticmq.conf").write_text(ELASTICMQ.format(port=self.sqs_port, region=REGION))
        keys = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        gateway = [ROOT / "bin/versitygw", "--port", f"127.0.0.1:{self.s3_port}", "--region", REGION, "--keep-alive", "--quiet", "posix", self.dir / "objects"]
        self.processes = [
            self.start("versitygw", gateway, keys),
            self.start("elasticmq", ["java", "-Xmx512m", f"-Dconfig.file={self.dir}/elasticmq.conf", "-cp", f"{ROOT}/elasticmq/*", "org.elasticmq.server.Main"]),
        ]
        until_it_answers(self.s3_port, self.processes[0])
        until_it_answers(self.sqs_port, self.processes[1])

    def start(self, name, command, environment=None):
        with open(self.dir / f"{name}.log", "w") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(environment or {})}, start_new_session=True
            )

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


class Small:
    """moto for both."""

    def __init__(self):
        self.moto = Moto()
        self.s3_port = self.sqs_port = self.moto.port

    def stop(self):
        self.moto.stop()


def until_it_answers(port, process, patience=60):
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2)
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server on port {port} did not start: {process.args}")
