"""A world of several machines: one SQS queue and one S3 ledger behind a proxy, and workers that share nothing else."""

import json
import pathlib
import random
import secrets
import subprocess
import sys
import threading
import time

from checker import ACCESS_KEY, SECRET_KEY, aws
from proxy import Proxy
from sink import Sink
from world import MAIL, MAX_DOUBTS, PATIENCE, Jobs, Submissions, Worker

CONFIG = """
state_dir = "{dir}/state{worker}"
secret_key_file = "{dir}/secret.key"
[queue]
kind = "sqs"
url = "{queue}"
parked_url = "{parked}"
endpoint_url = "{proxy}"
region = "eu-west-1"
visibility_timeout = "30s"
max_in_flight = 4
max_receives = {max_receives}
grace_period = "5s"
[connections.reports]
region = "eu-west-1"
endpoint_url = "{proxy}"
""" + MAIL + """[ledger]
kind = "s3"
connection = "reports"
bucket = "{name}-ledger"
on_doubt = "{on_doubt}"
[http]
listen = "127.0.0.1:0"
[[allow]]
connection = "reports"
bucket = "{name}-reports"
recipients = ["*@acme.example"]
publish = ["s3://{name}-out/"]
"""


class Moto:
    """The S3 and SQS of moto; forgets everything at its end."""

    def __init__(self):
        script = pathlib.Path(__file__).parent.parent / "servers/moto.py"
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True  # Ctrl-C is for the harness
        )
        self.s3_port = self.sqs_port = int(self.process.stdout.readline().split()[1])

    def stop(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)


class CloudWorld:
    """Several workers; others go on while one is dead."""

    still = False
    start_takes, work_takes, patience = 0.2, 2.0, 6.0
    least = 4

    def __init__(self, directory, program, rng, on_doubt, servers, workers=3, max_receives=100000, **facts):
        self.dir, self.rng = pathlib.Path(directory), rng
        store, queues = (f"http://127.0.0.1:{port}" for port in (servers.s3_port, servers.sqs_port))
        self.lock = threading.Lock()
        name = f"{self.dir.name}-{secrets.token_hex(3)}"
        (self.dir / "logs").mkdir(parents=True)
        self.s3, self.sqs = aws("s3", store), aws("sqs", queues)
        for bucket in ("reports", "out", "ledger"):
            self.s3.create_bucket(Bucket=f"{name}-{bucket}", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        for number in range(2):
            self.s3.put_object(Bucket=f"{name}-reports", Key=f"2026/report {number}.pdf", Body=b"%PDF")
        self.queue, parked = (self.sqs.create_queue(QueueName=f"{name}-{queue}")["QueueUrl"] for queue in ("jobs", "parked"))
        password, secret = secrets.token_urlsafe(18), secrets.token_bytes(32)
        (self.dir / "password").write_text(password + "\n")
        (self.dir / "secret.key").write_bytes(secret)
        audit = [f"state{worker}/audit" for worker in range(workers)]
        self.sink = Sink(self.dir, audit, password, workers)
        delays = random.Random(rng.random())
        self.sink.delay = lambda: delays.choice((0, 0.002, 0.01, 0.02, 0.08))
        self.proxy = Proxy(self.dir, servers.s3_port, servers.sqs_port, workers, self.queue, parked)
        self.proxy.longest_wait = 1
        self.proxy.on_record = self.saw
        self.control = aws("sqs", f"http://127.0.0.1:{self.proxy.control}")
        environment = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_EC2_METADATA_DISABLED": "true"}
        self.workers = []
        for worker in range(workers):
            config = self.dir / f"config{worker}.toml"
            config.write_text(
                CONFIG.format(
                    dir=self.dir, name=name, worker=worker, queue=self.queue, parked=parked, proxy=f"http://127.0.0.1:{self.proxy.ports[worker]}",
                    port=self.sink.ports[worker], on_doubt=on_doubt, max_receives=max_receives,
                )
            )  # fmt: skip
            self.workers.append(Worker(program, config, self.dir / f"logs/worker{worker}.log", environment))
        self.jobs = Jobs(rng, self.dir.name, "reports", {"bucket": f"{name}-out", "prefix": "pages/"}, bucket=f"{name}-reports")
        ledger = {"kind": "s3", "endpoint": store, "bucket": f"{name}-ledger", "prefix": "ledger/"}
        self.facts = {
            "on_doubt": on_doubt,
            "secret": secret.hex(),
            "passwords": [password, SECRET_KEY],
            "queue": {"kind": "sqs", "endpoint": queues, "url": self.queue, "parked_url": parked},
            "ledger": ledger,
            "audit": audit,
            "pages": [],
            "pages_bucket": {"endpoint": store, "bucket": f"{name}-out"},
            # S3 tells time in whole seconds.
            "page_clock": 1.0,
            "texts": ["logs/*", "state*/audit/*", "state*/handout.sqlite*", "wire.jsonl"],
            "max_doubts": MAX_DOUBTS,
            **facts,
        }
        (self.dir / "facts.json").write_text(json.dumps(self.facts, indent=1))
        self.submitted = Submissions(self.dir)
        self.labels = {}
        self.open = [set() for _ in range(workers)]  # intents without an outcome, by who made them
        self.leases = [{} for _ in range(workers)]  # key -> bucket, by who holds them

    def close(self):
        self.sink.stop()
        self.proxy.stop()
        self.submitted.log.close()

    def saw(self, worker, path, octets):
        """The proxy saw an object being put: (worker, "/bucket/key", bytes)."""
        _, bucket, key = path.split("/", 2)
        if bucket != self.facts["ledger"]["bucket"] or "/jobs/" not in key or worker >= len(self.workers):
            return
        record = json.loads(octets)
        if key.endswith("/lease"):
            if record["lasts_secs"] > 0:
                self.leases[worker][key] = bucket
            else:
                self.leases[worker].pop(key, None)
            return
        intent = record["job"], record["rid"], record["n"]
        match record["kind"]:
            case "i":
                self.open[worker].add(intent)
            case "o" | "l":
                for intents in self.open:
                    intents.discard(intent)
            case "done":
                self.proxy.note(did="done", job=record["job"])

    def submit(self, body, job, recipients, expect):
        id = self.control.send_message(QueueUrl=self.queue, MessageBody=body)["MessageId"]
        self.submitted.note(id, body, job, recipients, expect)

    def count(self, *names):
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["All"])["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def top_up(self, least):
        with self.lock:
            while self.count("ApproximateNumberOfMessages") < least:
                for submission in self.jobs.next():
                    self.submit(*submission)

    def open_intents(self, worker):
        """A worker's intents without an outcome, as the proxy saw them."""
        return set(self.open[worker])

    def hours_pass(self, worker):
        """What a dead worker held comes back now, and its leases are over: what would be after a minute is now."""
        for receipt in self.proxy.held_by(worker):
            try:
                self.sqs.change_message_visibility(QueueUrl=self.queue, ReceiptHandle=receipt, VisibilityTimeout=0)
            except self.sqs.exceptions.ClientError:
                pass  # somebody else deleted or received it
        self.end_leases(worker)

    def end_leases(self, worker):
        held, self.leases[worker] = self.leases[worker], {}
        for key, bucket in held.items():
            terms = json.dumps({"owner": "time", "nonce": secrets.token_hex(16), "lasts_secs": 0}).encode()
            self.s3.put_object(Bucket=bucket, Key=key, Body=terms)

    def settle(self):
        """Lets all workers come to the end of everything, undisturbed; the worst exit code."""
        self.sink.habits, self.sink.traps, self.proxy.faults = [], {}, None
        for number, worker in enumerate(self.workers):
            self.hours_pass(number)
            worker.start()
        for worker in self.workers:
            worker.wait_until_ready()
        deadline = time.monotonic() + 12 * PATIENCE
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
        while self.count(*names) and time.monotonic() < deadline and all(worker.process.poll() is None for worker in self.workers):
            time.sleep(0.1)
        codes = [worker.stop() for worker in self.workers]
        return next((code for code in codes if code != 0), 0)


