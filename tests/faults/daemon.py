"""A world of one daemon: real servers behind lines, two relays, a queue, and a watch that looks at the daemon from outside."""

import contextlib
import http.client
import itertools
import json
import pathlib
import re
import secrets
import signal
import sqlite3
import subprocess
import threading
import time

from checker import ACCESS_KEY, SECRET_KEY, Secret
from line import Line, free_port
from relay import Relay
from servers import REGION, client
from world import Worker

CONFIG = """
state_dir = "{state}"
secret_key_file = "{dir}/secret.key"
[queue]
{queue}
grace_period = "5s"
[connections.reports]
region = "{region}"
endpoint_url = "{store}"
access_key_id = "{id}"
secret_access_key_file = "{dir}/s3-secret"
[connections.second]
region = "{region}"
endpoint_url = "{second}"
access_key_id = "{id}"
secret_access_key_file = "{dir}/s3-secret"
{more}
[mail]
transport = "smtp"
from = "Reports <reports@sender.example>"
[mail.smtp]
host = "127.0.0.1"
port = {relay}
tls = "none"
username = "handout"
password_file = "{dir}/password"
rate = "1000/s"
[mail.relays.bulk]
host = "127.0.0.1"
port = {bulk}
tls = "none"
username = "handout"
password_file = "{dir}/password"
rate = "1000/s"
[ledger]
{ledger}
on_doubt = "hold"
[audit]
min_free = "{min_free}"
[http]
listen = "127.0.0.1:{http}"
"""

RULE = """
[[allow]]
connection = "{connection}"
bucket = "{bucket}"
recipients = ["*@acme.example", "*@hangs.example"]
relays = ["default", "bulk"]
publish = ["s3://{pages}/"]
"""

SQS = """kind = "sqs"
url = "{url}"
parked_url = "{parked}"
endpoint_url = "{endpoint}"
region = "eu-west-1\""""

BOOKS = """[connections.books]
region = "eu-west-1"
endpoint_url = "{endpoint}"
access_key_id = "{id}"
secret_access_key_file = "{dir}/s3-secret\""""

LEDGER = """kind = "s3"
connection = "books"
bucket = "{bucket}\""""

EMBEDDED = """[connections.local]
directory = "{dir}/buckets"
[embedded]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}\""""


class World:
    """With servers the queue is SQS and the ledger in S3; without, both are one SQLite file, and the store is the daemon's own endpoint."""

    make_relay = Relay

    def __init__(self, directory, program, servers, disk=None, min_free="100MiB"):
        self.dir, self.program, self.servers = pathlib.Path(directory), program, servers
        (self.dir / "logs").mkdir(parents=True, exist_ok=True)
        self.state = pathlib.Path(disk or self.dir) / "state"
        self.name = f"faults-{secrets.token_hex(4)}"
        self.numbers = itertools.count()
        self.relays = {name: self.make_relay(self.dir / name) for name in ("relay", "bulk")}
        secret = secrets.token_bytes(32)
        (self.dir / "secret.key").write_bytes(secret)
        (self.dir / "password").write_text("secret\n")
        self.http = free_port()
        self.lines = {name: Line(relay.port) for name, relay in self.relays.items()}
        values = self.with_servers() if servers else self.alone(Secret(secret))
        (self.dir / "s3-secret").write_text(values.pop("secret") + "\n")
        urls = {name: self.lines[name].url for name in ("store", "second")}
        ports = {name: self.lines[name].port for name in self.relays}
        text = CONFIG.format(dir=self.dir, state=self.state, http=self.http, min_free=min_free, **urls, **ports, **values)
        for connection in ("reports", "second"):
            text += RULE.format(connection=connection, bucket=self.bucket, pages=self.pages)
        self.config = self.dir / "config.toml"
        self.config.write_text(text)
        queue_keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_EC2_METADATA_DISABLED": "true"}
        self.worker = Worker(program, self.config, self.dir / "logs/daemon.log", queue_keys)
        self.watch = None
        self.submitted = {}  # job -> when

    def with_servers(self):
        servers = self.servers
        self.s3, self.sqs = client("s3", servers.s3_port), client("sqs", servers.sqs_port)
        self.bucket, self.pages, ledger = (f"{self.name}-{what}" for what in ("reports", "pages", "ledger"))
        for bucket in (self.bucket, self.pages, ledger):
            self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        for number in range(2):
            self.s3.put_object(Bucket=self.bucket, Key=f"2026/report {number}.pdf", Body=b"%PDF")
        self.url, self.parked = (self.sqs.create_queue(QueueName=f"{self.name}-{what}")["QueueUrl"] for what in ("jobs", "parked"))
        self.lines.update({name: Line(servers.s3_port) for name in ("store", "second", "ledger")}, queue=Line(servers.sqs_port))
        id, secret = ACCESS_KEY, SECRET_KEY
        return {
            "region": REGION,
            "id": id,
            "secret": secret,
            "queue": SQS.format(url=self.url, parked=self.parked, endpoint=self.lines["queue"].url),
            "ledger": LEDGER.format(bucket=ledger),
            "more": BOOKS.format(endpoint=self.lines["ledger"].url, id=id, dir=self.dir),
        }

    def alone(self, secret):
        """The daemon's own endpoint, asked through a line; its keys are derived from the installation's secret."""
        self.bucket, self.pages = "reports", "pages"
        for bucket in (self.bucket, self.pages):
            (self.dir / "buckets" / bucket / "2026").mkdir(parents=True)
        for number in range(2):
            (self.dir / f"buckets/reports/2026/report {number}.pdf").write_text("%PDF")
        port = free_port()
        self.lines.update({name: Line(port) for name in ("store", "second")})
        return {
            "region": "us-east-1",
            "id": "HANDOUT" + secret.derive(b"embedded-credentials", b"local", b"id")[:13].upper(),
            "secret": secret.derive(b"embedded-credentials", b"local", b"secret"),
            "queue": "",
            "ledger": "",
            "more": EMBEDDED.format(dir=self.dir, port=port),
        }

    # --- The daemon ---

    def start(self):
        self.worker.start()
        self.watch = Watch(self.http, self.worker.process.pid)

    def stop(self, patience):
        """How long SIGTERM takes, and the exit code; nothing where it had to be killed."""
        began = time.monotonic()
        self.worker.process.send_signal(signal.SIGTERM)
        code = self.worker.wait(patience)
        took = time.monotonic() - began
        if code is None:
            self.worker.kill()
            self.worker.wait(10)
        self.watch.stop()
        return (took if code is not None else float("inf")), code

    def close(self):
        if self.worker.process and self.worker.process.poll() is None:
            self.worker.kill()
            self.worker.wait(10)
        if self.watch:
            self.watch.stop()
        for line in self.lines.values():
            line.stop()
        for relay in self.relays.values():
            relay.stop()

    def wait_until_open(self):
        """Jobs can be put into the queue: a SQLite file is made by the start."""
        if not self.servers:
            deadline = time.monotonic() + 30
            while not self.worker.is_ready() and time.monotonic() < deadline:
                time.sleep(0.05)

    # --- Faults ---

    def fault(self, edge, mode):
        if mode.startswith("at "):
            self.relays[edge].silent_at(mode.removeprefix("at "))
            if mode == "at greeting":
                self.lines[edge].reset_kept()  # those have had their greeting
        else:
            self.lines[edge].becomes(mode)

    def heal(self, edge):
        if edge in self.relays:
            self.relays[edge].well()
        self.lines[edge].becomes("open")

    # --- Jobs ---

    def submit(self, number=1, store="store", relay="relay", gallery=False, zip=False, names=None, to="ann@acme.example"):
        """Puts jobs on the queue, straight and not through its line; their ids. `names` are the files, which are listed otherwise."""
        ids = [f"{self.name}-{next(self.numbers)}" for _ in range(number)]
        self.enqueue([self.job(id, store, relay, gallery, zip, names, to) for id in ids])
        self.submitted.update(dict.fromkeys(ids, time.monotonic()))
        return ids

    def enqueue(self, jobs):
        bodies = [json.dumps(job) for job in jobs]
        if self.servers:
            for at in range(0, len(bodies), 10):
                entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[at : at + 10])]
                assert not self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries).get("Failed")
        else:
            now = int(time.time() * 1000)
            with self.database() as database:
                rows = [(body, now, now) for body in bodies]
                database.executemany("INSERT INTO message (body, visible_at, enqueued_at) VALUES (?, ?, ?)", rows)

    def put_large_files(self):
        """Files whose ZIP has a part of 12 MiB."""
        for number in range(3):
            self.s3.put_object(Bucket=self.bucket, Key=f"large/{number}.bin", Body=bytes(4 << 20))

    def put_many_files(self):
        """Files whose names fill more than a packet."""
        for number in range(40):
            self.s3.put_object(Bucket=self.bucket, Key=f"many/{number:02}-{'x' * 60}.pdf", Body=b"%PDF")

    def job(self, id, store, relay, gallery, zip=False, names=None, to="ann@acme.example"):
        job = {
            "v": 1,
            "id": id,
            "from": {"connection": {"store": "reports", "second": "second"}[store], "bucket": self.bucket, "prefix": "2026/"},
            "email": {"to": [to], "subject": "Report [{{job.id}}]", "relay": {"relay": "default", "bulk": "bulk"}[relay]},
        }
        if names:
            job["from"] |= names
        if gallery:
            job["gallery"] = {"publish": {"bucket": self.pages}}
        if zip:
            job["from"]["prefix"] = "large/"
            job["zip"] = {"publish": {"bucket": self.pages}}
        return job

    @contextlib.contextmanager
    def database(self):
        with contextlib.closing(sqlite3.connect(self.state / "handout.sqlite", timeout=10)) as database, database:
            database.execute("PRAGMA wal_autocheckpoint = 0")
            yield database

    def mails(self, job):
        return [at for relay in self.relays.values() for at in relay.mailed.get(job, [])]

    def mailed(self, jobs, since, patience, but=0):
        """How long after `since` each job was mailed, in order; infinite for those that were not in time. `but` so many are not waited for."""
        deadline = time.monotonic() + patience
        while True:
            times = sorted(min(self.mails(job)) for job in jobs if self.mails(job))
            if len(times) >= len(jobs) - but or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        took = [max(0.0, at - since) for at in times]
        return (took + [float("inf")] * len(jobs))[: len(jobs) - but]

    # --- What is left ---

    def log_lines(self):
        with open(self.worker.log, "rb") as log:
            return sum(1 for _ in log)

    def outages_told(self, kind, name):
        """How often the log told that an outage of an edge began, and that it ended."""
        with open(self.worker.log, "rb") as log:
            lines = [line for line in map(json.loads, log) if (line.get("edge"), line.get("edge.name")) == (kind, name)]
        return tuple(sum(line["message"].endswith(words) for line in lines) for words in ("; what needs it waits", " is back"))

    def metric(self, name, labels):
        text = self.watch.ask("/metrics")[1]
        found = re.search(rf"^{name}{{{re.escape(labels)}}} (\S+)$", text, re.MULTILINE)
        return found and float(found.group(1))

    def audit_lines(self):
        for path in sorted((self.state / "audit").glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                with contextlib.suppress(ValueError):  # a last line that a death has cut is no line
                    yield json.loads(line)

    def verify(self):
        """What `handout audit verify` finds, if anything."""
        ended = subprocess.run([self.program, "audit", "verify", "--config", self.config], capture_output=True, text=True, timeout=120)
        return None if ended.returncode == 0 else ended.stdout + ended.stderr

    def when_settled(self, since, patience):
        """How long after `since` the queue was empty."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.count_left() == 0:
                return time.monotonic() - since
            time.sleep(0.3)
        return None

    def count_left(self):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(map(int, attributes.values()))

    def count_parked(self):
        if self.servers:
            attributes = self.sqs.get_queue_attributes(QueueUrl=self.parked, AttributeNames=["ApproximateNumberOfMessages"])
            return int(attributes["Attributes"]["ApproximateNumberOfMessages"])
        with self.database() as database:
            return database.execute("SELECT count(*) FROM message WHERE state = 'parked'").fetchone()[0]


class Watch:
    """Asks `/ready` five times a second, and `/live` and `/proc` once."""

    EVERY = 0.2

    def __init__(self, port, pid):
        self.port, self.pid = port, pid
        self.samples = []  # (when, status of /ready, its text, status of /live); the status is 0 where nothing answered
        self.peak_kb = self.peak_descriptors = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def look(self):
        live = 0
        for number in itertools.count():
            if self.over.wait(self.EVERY):
                return
            status, text = self.ask("/ready")
            if number % 5:
                self.samples.append((time.monotonic(), status, text, live))
                continue
            live, _ = self.ask("/live")
            self.samples.append((time.monotonic(), status, text, live))
            with contextlib.suppress(OSError, AttributeError):
                status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
                self.peak_kb = max(self.peak_kb, int(re.search(r"RssAnon:\s+(\d+)", status).group(1)))
                self.peak_descriptors = max(self.peak_descriptors, len(list(pathlib.Path(f"/proc/{self.pid}/fd").iterdir())))

    def ask(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def stop(self):
        self.over.set()
        self.thread.join()

    def first(self, since, status, words=""):
        """When `/ready` first answered so, in seconds after `since`."""
        for at, answered, text, _ in list(self.samples):
            if at >= since and answered == status and re.search(words, text):
                return at - since
        return None

    def when_ready(self, since, patience):
        return self.wait(patience, lambda: self.first(since, 200))

    def wait(self, patience, look):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if (found := look()) is not None:
                return found
            time.sleep(0.05)
        return None

    def not_live(self):
        """What `/live` said instead of 200, once it had answered."""
        answered = list(itertools.dropwhile(lambda sample: sample[3] == 0, list(self.samples)))
        return sorted({sample[3] for sample in answered if sample[3] not in (0, 200)})
