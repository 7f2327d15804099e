"""A world of one machine: a directory with objects, a queue and a ledger in one SQLite file, a sink, and the worker that is killed."""

import contextlib
import hashlib
import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import sqlite3
import subprocess
import time
import tomllib

from checker import Evidence
from sink import Sink

MAX_DOUBTS = 5
PEOPLE = 40
PATIENCE = 20.0


class Worker:
    """One `handout run`, started again and again in one state directory."""

    def __init__(self, program, config, log, environment=None):
        self.program, self.config, self.log = program, config, log
        self.environment = {**os.environ, **(environment or {})}
        self.process = None
        self.log_from = 0

    def start(self, failpoint=None, limits=None):
        environment = dict(self.environment)
        if failpoint:
            environment["HANDOUT_FAILPOINT"] = failpoint
        self.log_from = self.log.stat().st_size if self.log.exists() else 0
        # The harness kills, and no message does: without this, jobs would be parked for deaths of which they are innocent.
        # tests/it/poison.rs is about messages that kill.
        state = tomllib.loads(pathlib.Path(self.config).read_text())["state_dir"]
        shutil.rmtree(pathlib.Path(state) / "deliveries", ignore_errors=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "run", "--config", self.config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                preexec_fn=limits,
                start_new_session=True,  # Ctrl-C is for the harness
            )

    def kill(self):
        self.process.send_signal(signal.SIGKILL)

    def wait(self, seconds):
        """The exit code (negative: the signal), or nothing when it still runs."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def is_ready(self):
        with open(self.log, "rb") as log:
            log.seek(self.log_from)
            return b'"message":"ready"' in log.read()

    def wait_until_ready(self):
        deadline = time.monotonic() + PATIENCE
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the worker did not start:\n{self.tail()}")
            time.sleep(0.005)

    def tail(self):
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self):
        """An orderly end; the exit code."""
        self.process.terminate()
        code = self.wait(PATIENCE)
        if code is None:
            self.kill()
            self.process.wait()
        return code


class Submissions:
    """What was put on the queue, for the checker."""

    def __init__(self, world):
        self.log = open(world / "submitted.jsonl", "a")

    def note(self, id, body, job, recipients, expect):
        sha256 = hashlib.sha256(body.encode()).hexdigest()
        line = {"id": id, "job": job, "body_sha256": sha256, "recipients": recipients, "expect": expect}
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()


class Jobs:
    """Makes up jobs; the same seed makes up the same."""

    def __init__(self, rng, name, connection, publish, bucket="reports"):
        self.rng, self.name, self.connection, self.publish, self.bucket = rng, name, connection, publish, bucket
        self.count = 0
        self.asked = []

    def next(self):
        """What to submit next, in order: (body, job, recipients, what must become of it)."""
        luck = self.rng.random()
        if luck < 0.05 and self.asked:
            # Whichever of the two comes first has the id; the other is parked.
            body, job, recipients = self.rng.choice(self.asked)
            return [(json.dumps({**json.loads(body), "vars": {"customer": "another"}}), job, recipients, "done")]
        if luck < 0.12:
            return [self.refused()]
        body, job, recipients = self.good()
        self.asked.append((body, job, recipients))
        # At least once is what queues deliver.
        copies = 2 if luck > 0.85 else 1
        return [(body, job, recipients, "done")] * copies

    def refused(self):
        body, job, recipients = self.good()
        order = json.loads(body)
        order["email"]["to"] = ["mallory@evil.example"]
        return json.dumps(order), job, recipients, "parked"

    def good(self):
        self.count += 1
        job = f"{self.name}-{self.count}"
        recipients = [f"p{number}@acme.example" for number in self.rng.sample(range(PEOPLE), self.rng.randint(1, 4))]
        order = {
            "v": 1,
            "id": job,
            "from": {"connection": self.connection, "bucket": self.bucket, "prefix": "2026/"},
            "email": {"to": recipients, "subject": "Report [{{job.id}}]"},
        }
        luck = self.rng.random()
        if luck < 0.25:
            order["gallery"] = {"publish": self.publish}
        elif luck < 0.4:
            order["manifest"] = {"format": "jsonl", "publish": self.publish}
        return json.dumps(order), job, recipients


#: How the worlds send, whatever else they are made of.
MAIL = """
[mail]
transport = "smtp"
from = "Reports <reports@sender.example>"
[mail.smtp]
host = "127.0.0.1"
port = {port}
tls = "none"
username = "handout"
password_file = "{dir}/password"
rate = "1000/s"
"""

CONFIG = """
state_dir = "{dir}/state"
secret_key_file = "{dir}/secret.key"
[queue]
visibility_timeout = "30s"
max_in_flight = 4
max_receives = {max_receives}
grace_period = "5s"
[connections.local]
directory = "{dir}/buckets"
[embedded]
listen = "127.0.0.1:0"
public_url = "http://127.0.0.1:9470"
""" + MAIL + """[ledger]
on_doubt = "{on_doubt}"
[audit]
rotate_size = "1MB"
min_free = "1KB"
[http]
listen = "127.0.0.1:0"
[[allow]]
connection = "local"
bucket = "reports"
recipients = ["*@acme.example"]
publish = ["dir:{dir}/pages"]
"""


class SqliteWorld:
    """One worker, one state directory."""

    #: Queue and ledger are one file, and nobody works while the worker is dead: one look sees an instant.
    still = True
    #: How long a worker takes to start, and to do what waits for it; in seconds.
    start_takes, work_takes, patience = 0.09, 0.3, 2.0
    #: How many messages wait for it at the least.
    least = 3

    def __init__(self, directory, program, rng, on_doubt, objects=2, max_receives=100000, **facts):
        self.dir = pathlib.Path(directory)
        self.rng = rng
        for name in ("buckets/reports/2026", "pages", "logs"):
            (self.dir / name).mkdir(parents=True)
        for number in range(objects):
            (self.dir / f"buckets/reports/2026/report {number}.pdf").write_text("%PDF")
        password, secret = secrets.token_urlsafe(18), secrets.token_bytes(32)
        (self.dir / "password").write_text(password + "\n")
        (self.dir / "secret.key").write_bytes(secret)
        self.sink = Sink(self.dir, ["state/audit"], password)
        delays = random.Random(rng.random())
        self.sink.delay = lambda: delays.choice((0, 0.002, 0.01, 0.02, 0.08))
        config = self.dir / "config.toml"
        config.write_text(CONFIG.format(dir=self.dir, port=self.sink.ports[0], on_doubt=on_doubt, max_receives=max_receives))
        self.worker = Worker(program, config, self.dir / "logs/worker.log")
        self.workers = [self.worker]
        self.jobs = Jobs(rng, self.dir.name, "local", {"dir": f"{self.dir}/pages"})
        self.facts = {
            "on_doubt": on_doubt,
            "secret": secret.hex(),
            "passwords": [password],
            "queue": {"kind": "sqlite", "file": "state/handout.sqlite"},
            "ledger": {"kind": "sqlite", "file": "state/handout.sqlite"},
            "audit": ["state/audit"],
            "pages": ["pages"],
            # A file is dated by the kernel's last tick, up to 10 ms ago.
            "page_clock": 0.012,
            "texts": ["logs/*", "state/audit/*", "state/handout.sqlite*"],
            "max_doubts": MAX_DOUBTS,
            **facts,
        }
        (self.dir / "facts.json").write_text(json.dumps(self.facts, indent=1))
        self.submitted = Submissions(self.dir)
        self.labels = {}
        self.seen = Evidence({})
        # The first start makes the database.
        self.worker.start()
        self.worker.wait_until_ready()
        assert self.worker.stop() == 0, self.worker.tail()

    def close(self):
        self.sink.stop()
        self.submitted.log.close()

    @contextlib.contextmanager
    def database(self):
        """A connection for one transaction; closed at its end, see `checker.sqlite`."""
        with contextlib.closing(sqlite3.connect(self.dir / "state/handout.sqlite", timeout=10)) as database, database:
            # Never a checkpoint: Python's SQLite may have the WAL-reset bug (before 3.51.3) that concurrent connections can meet.
            database.execute("PRAGMA wal_autocheckpoint = 0")
            yield database

    def submit(self, body, job, recipients, expect):
        now = int(time.time() * 1000)
        with self.database() as database:
            row = database.execute("INSERT INTO message (body, visible_at, enqueued_at) VALUES (?, ?, ?)", (body, now, now))
        self.submitted.note(str(row.lastrowid), body, job, recipients, expect)

    def ready_messages(self):
        with self.database() as database:
            return database.execute("SELECT count(*) FROM message WHERE state = 'ready'").fetchone()[0]

    def top_up(self, least):
        """Gives the next worker something to do."""
        while self.ready_messages() < least:
            for submission in self.jobs.next():
                self.submit(*submission)

    def hours_pass(self, _worker=0):
        """What the dead held, and what waits for its next attempt, comes back now; in whatever order."""
        order = "abs(random()) % 1000"
        with self.database() as database:
            database.execute(f"UPDATE message SET visible_at = {int(time.time() * 1000)} - {order} WHERE state = 'ready'")

    def open_intents(self, _worker=0):
        """Intents without an outcome."""
        with self.database() as database:
            rows = database.execute(
                "SELECT job, rid, n FROM record AS i WHERE kind = 'i' AND NOT EXISTS "
                "(SELECT 1 FROM record AS o WHERE o.job = i.job AND o.rid = i.rid AND o.n = i.n AND o.kind = 'o')"
            )
            return set(rows)

    def settle(self):
        """Lets one worker come to the end of everything, undisturbed."""
        self.sink.habits, self.sink.traps = [], {}
        self.hours_pass()
        self.worker.start()
        self.worker.wait_until_ready()
        deadline, next_push = time.monotonic() + 6 * PATIENCE, time.monotonic() + 0.3
        while self.ready_messages():
            if time.monotonic() > deadline or self.worker.process.poll() is not None:
                break
            time.sleep(0.02)
            # Not while they are being worked: those that wait for their next attempt are hidden for less than the hold.
            if time.monotonic() > next_push:
                self.retries_come_now()
                next_push += 0.3
        return self.worker.stop()

    def retries_come_now(self):
        """Ends the wait of what failed; `receipt` would be held for the whole visibility timeout."""
        now = int(time.time() * 1000)
        with self.database() as database:
            database.execute(
                "UPDATE message SET visible_at = ? WHERE state = 'ready' AND visible_at NOT BETWEEN ? AND ?", (now, now + 18000, now + 31000)
            )
