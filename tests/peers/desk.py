"""Where a proof works: a directory with a configuration, in which the real program is run, and a plain HTTP client that changes no path."""

import dataclasses
import email
import email.policy
import html
import http.client
import json
import os
import pathlib
import re
import subprocess
import tempfile
import urllib.parse

from checker import links_of
from servers import REGION

HERE = pathlib.Path(__file__).resolve().parent

CONFIG = """
state_dir = "{dir}/state"
[connections.store]
region = "{region}"
endpoint_url = "{store.url}"
access_key_id = "{store.access_key}"
secret_access_key_file = "s3-secret"
{connection}
[mail]
from = "Reports <reports@sender.example>"
{mail}
[http]
listen = "127.0.0.1:0"
{more}
"""

RULE = """
[[allow]]
connection = "store"
bucket = "{bucket}"
recipients = ["*@acme.example"]
publish = ["s3://{bucket}-out/"]
"""


class Wrong(Exception):
    """What a proof found."""


class Skipped(Exception):
    """Why a proof cannot be made here."""


def need(right, words):
    if not right:
        raise Wrong(words)


@dataclasses.dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def fetch(url, **headers):
    """GET; the path goes out as it stands in the URL."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def suite(test, variable, *server):
    """Runs one of the suites of `tests/it/peers.rs` against a server."""
    command = ["cargo", "test", "--locked", "--quiet", "--test", "it", test, "--", "--exact", "--nocapture"]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RUST_BACKTRACE": "0", variable: " ".join(server)}, cwd=HERE.parents[1])
    need(ended.returncode == 0 and "1 passed" in ended.stdout and "skipped" not in ended.stderr, (ended.stdout + ended.stderr)[-1500:])


def environment():
    """Nothing of AWS but what a proof says."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"}


def json_lines(text):
    """Not `splitlines`: U+2028 ends no line of JSON."""
    return [json.loads(line) for line in text.split("\n") if line]


class Desk:
    def __init__(self, program, store, region=REGION, connection="", mail="", more=""):
        self.program, self.store = program, store
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="handout-desk-"))
        (self.dir / "s3-secret").write_text(store.secret_key)
        (self.dir / "s3-secret").chmod(0o600)
        self.config = self.dir / "config.toml"
        self.config.write_text(CONFIG.format(dir=self.dir, region=region, store=store, connection=connection, mail=mail, more=more))

    def with_bucket(self, name):
        """A bucket that jobs may hand out, and one into which they publish."""
        for bucket in (name, f"{name}-out"):
            self.store.bucket(bucket)
        return self.allowing(name)

    def allowing(self, bucket):
        with open(self.config, "a") as config:
            config.write(RULE.format(bucket=bucket))
        return bucket

    def run(self, *words, input=None):
        return subprocess.run(
            [self.program, *words, "--config", self.config], input=input, capture_output=True, text=True, timeout=300, env=environment()
        )

    def said(self, *words, input=None):
        """What a command that must succeed prints."""
        ended = self.run(*words, input=input)
        need(ended.returncode == 0, f"handout {words[0]}: exit {ended.returncode}: {(ended.stderr or ended.stdout)[-500:]}")
        return ended.stdout

    def links(self, bucket, keys, *more):
        """Key -> link, as `handout presign` makes them."""
        words = ["presign", "--connection", "store", "--json", "--no-audit", "--keys-from", "-", *more, f"s3://{bucket}"]
        lines = json_lines(self.said(*words, input="".join(f"{key}\n" for key in keys)))
        return {line["key"]: line["url"] for line in lines}

    def link(self, bucket, key, *more):
        return self.links(bucket, [key], *more)[key]

    def job(self, id, bucket, **fields):
        """Does a job now; its result."""
        order = {"v": 1, "id": id, "from": {"connection": "store", "bucket": bucket, "prefix": ""}, **fields}
        return json.loads(self.said("job", "run", "--json", "-", input=json.dumps(order)))

    def published(self, address):
        """What stands in the store at an s3:// address."""
        bucket, _, key = address.removeprefix("s3://").partition("/")
        return self.store.client().get_object(Bucket=bucket, Key=key)

    def listed(self, result):
        """The lines of a job's list in JSON."""
        return json_lines(self.published(result["manifests"][0])["Body"].read().decode())

    def mail_links(self):
        """The links in the mails of the outbox."""
        for path in (self.dir / "state/outbox").glob("*.eml"):
            message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            yield from links_of(message.get_body(("html",)).get_content().encode(), True)


def hrefs(page):
    return [html.unescape(link) for link in re.findall(r'href="(http[^"]+X-Amz-Signature[^"]+)"', page)]
