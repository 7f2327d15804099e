"""What is proved of Handout and a queue server: jobs and events from a queue of its are handed out once, by the real daemon."""

import collections
import contextlib
import http.server
import json
import re
import signal
import threading
import time

from checker import ACCESS_KEY, SECRET_KEY
from desk import Desk, Wrong, environment, fetch, need, suite
from servers import client
from world import Worker

QUEUE = """
[queue]
kind = "sqs"
url = "{jobs}"
parked_url = "{parked}"
visibility_timeout = "30s"
"""

ON_EVENT = """
[[on_event]]
bucket = "{bucket}"
events = ["ObjectCreated:*"]
job = "on-upload.json"
"""

#: A service's own keys: those of a connection are for its store.
KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]


class Line:
    """Two queues, for jobs and for what cannot be done, and a daemon that works them."""

    def __init__(self, program, store, queue, name, fifo=False, receives=1000):
        self.sqs, self.bucket = client("sqs", queue.port), f"queue-{name}"
        fifo = {"FifoQueue": "true"} if fifo else {}
        suffix = ".fifo" if fifo else ""
        self.parked = self.sqs.create_queue(QueueName=f"{name}-parked{suffix}", Attributes=fifo)["QueueUrl"]
        redrive = json.dumps({"deadLetterTargetArn": self.arn(self.parked), "maxReceiveCount": receives})
        self.jobs = self.sqs.create_queue(QueueName=f"{name}-jobs{suffix}", Attributes={**fifo, "RedrivePolicy": redrive})["QueueUrl"]
        self.desk = Desk(program, store, more=QUEUE.format(jobs=self.jobs, parked=self.parked))
        self.desk.with_bucket(self.bucket)
        self.daemon = Worker(program, self.desk.config, self.desk.dir / "daemon.log")
        self.daemon.environment = {**environment(), **KEYS}

    def with_report(self):
        self.desk.store.client().put_object(Bucket=self.bucket, Key="q3 report.pdf", Body=b"the report")
        return self

    def move_back(self):
        """What is parked goes back to the jobs, as `aws sqs start-message-move-task` does it."""
        self.sqs.start_message_move_task(SourceArn=self.arn(self.parked), DestinationArn=self.arn(self.jobs))

    def arn(self, url):
        return self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def job(self, id, to="ann@acme.example", bucket=None):
        source = {"connection": "store", "bucket": bucket or self.bucket, "prefix": ""}
        return json.dumps({"v": 1, "id": id, "from": source, "email": {"to": [to], "subject": "Report [{{job.id}}]"}})

    def send(self, body, **more):
        self.sqs.send_message(QueueUrl=self.jobs, MessageBody=body, **more)

    def count(self, url):
        attributes = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=COUNTS)["Attributes"]
        return sum(int(attributes[name]) for name in COUNTS)

    @contextlib.contextmanager
    def worked(self):
        """A daemon works the jobs, and ends in order."""
        self.daemon.start()
        try:
            self.daemon.wait_until_ready()
            yield
        finally:
            code = self.daemon.stop()
        need(code == 0, f"the daemon ended with {code}: {self.daemon.tail()[-800:]}")

    def until_mailed(self, id):
        wait_for(lambda: id in self.mailed_jobs(), lambda: f"{id} is not mailed: {self.daemon.tail()[-800:]}", 90)
        self.until_empty()

    def until_empty(self):
        wait_for(lambda: self.count(self.jobs) == 0, lambda: f"{self.count(self.jobs)} messages are left: {self.daemon.tail()[-800:]}", 90)

    def reload(self):
        """The daemon reads its configuration again."""
        self.daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "configuration reloaded" in self.daemon.tail(), lambda: f"it was not reloaded: {self.daemon.tail()[-800:]}")

    def mailed(self):
        """The subjects of the outbox, in order."""
        index = self.desk.dir / "state/outbox/index.jsonl"
        return [json.loads(line)["subject"] for line in index.read_text().splitlines()] if index.exists() else []

    def mailed_jobs(self):
        return [re.search(r"\[(.*)\]", subject).group(1) for subject in self.mailed()]

    def set_aside(self):
        """What is parked: (body, reason)."""
        received = self.sqs.receive_message(QueueUrl=self.parked, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=0)
        for message in received.get("Messages", []):
            yield message["Body"], message.get("MessageAttributes", {}).get("handout-reason", {}).get("StringValue", "")

    def once(self, ids):
        count = collections.Counter(self.mailed_jobs())
        need(count == collections.Counter(ids), f"mails: {count - collections.Counter(ids)} too many, {collections.Counter(ids) - count} missing")


def suite_of_queues(_program, _store, queue):
    """What every queue behind Handout must do."""
    suite("peers::a_queue_that_people_run_is_a_queue", "PEER_SQS", f"http://127.0.0.1:{queue.port}")
    return "hide, wake, extend, void receipts, order within a group, park"


def standard(program, store, queue):
    """Jobs of a standard queue, each delivered twice, are mailed once; what cannot be done is parked, and comes back when it can."""
    line = Line(program, store, queue, "standard").with_report()
    jobs = [f"job-{number}" for number in range(40)]
    for id in jobs * 2:
        line.send(line.job(id))
    line.send(line.job("refused", bucket="elsewhere"))
    line.send("no job at all")
    store.bucket("elsewhere")
    store.client().put_object(Bucket="elsewhere", Key="q4 report.pdf", Body=b"another report")
    with line.worked():
        line.until_empty()
        line.once(jobs)
        aside = dict(line.set_aside())
        need(set(aside) == {line.job("refused", bucket="elsewhere"), "no job at all"} and all(aside.values()), f"parked are {aside}")
        line.desk.allowing("elsewhere")
        line.reload()
        line.move_back()
        line.until_mailed("refused")
    line.once([*jobs, "refused"])
    (left,) = line.set_aside()
    need(left[0] == "no job at all", f"parked is {left}")

    return f"{len(jobs)} jobs, each sent twice, mailed once; 2 parked with their reason; moved back by StartMessageMoveTask, and mailed once"


def redriven(program, store, queue):
    """What was received too often without an end is set aside by the server itself, and mailed once when it is moved back."""
    line = Line(program, store, queue, "redriven", receives=3).with_report()
    line.send(line.job("received"))
    received = 0
    while line.sqs.receive_message(QueueUrl=line.jobs, VisibilityTimeout=0, WaitTimeSeconds=1).get("Messages"):
        received += 1
    need(received == 3 and line.job("received") in dict(line.set_aside()), f"after {received} receives the server did not set the message aside")
    with line.worked():
        line.move_back()
        line.until_mailed("received")
    line.once(["received"])
    return f"set aside by the server after {received} receives; moved back by StartMessageMoveTask, and mailed once"


def fifo(program, store, queue):
    """The jobs of a message group are mailed in order, each once; one that is parked holds no other up."""
    line = Line(program, store, queue, "fifo", fifo=True).with_report()
    groups = {f"g{group}": [f"g{group}-{number}" for number in range(8)] for group in range(5)}
    for number in range(8):
        for group, ids in groups.items():
            refused = group == "g0" and number == 2
            line.send(line.job(ids[number], bucket="forbidden" if refused else None), MessageGroupId=group, MessageDeduplicationId=ids[number])
    with line.worked():
        line.until_empty()
    groups["g0"].remove("g0-2")
    line.once([id for ids in groups.values() for id in ids])
    mailed = line.mailed_jobs()
    for group, ids in groups.items():
        got = [id for id in mailed if id.startswith(f"{group}-")]
        need(got == ids, f"the order of {group} is {got}")
    ((body, reason),) = line.set_aside()
    need(json.loads(body)["id"] == "g0-2" and reason, f"parked is {body}")
    return f"{len(mailed)} jobs of {len(groups)} groups mailed once and in order; 1 parked in parked.fifo"


@contextlib.contextmanager
def forwarding_to(send):
    """A URL that hands each body it is given on, as a bridge between a store's webhook and a queue does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"] or 0)).decode()
            if body:
                send(body)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_GET = do_POST

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()


def events(program, kind, queue):
    """What a store tells of uploads becomes jobs through the queue, each once, with the right object."""
    bodies = []
    with forwarding_to(bodies.append) as url:
        store = kind(told_events=url)
        try:
            line = Line(program, store, queue, f"events-{store.part}")
            job = {"v": 1, "from": {"connection": "store", "bucket": "{{event.bucket}}", "keys": ["{{event.key}}"]}}
            job = {**job, "id": "upload", "email": {"to": ["ann@acme.example"], "subject": "[{{event.key}}]"}}
            (line.desk.dir / "on-upload.json").write_text(json.dumps(job))
            with open(line.desk.config, "a") as config:
                config.write(ON_EVENT.format(bucket=line.bucket))
            store.tells_events_of(line.bucket)
            bodies.clear()
            keys = ["a b.txt", "Größe é.txt", "in/Q3 report.pdf", "a+b.txt", "100%.txt", "a%20b.txt", "what?.txt", "#1.txt", "a&b=c.txt", "日本語/📄.txt"]
            for key in keys:
                store.client().put_object(Bucket=line.bucket, Key=key, Body=key.encode())
            wait_for(lambda: len(bodies) >= len(keys), f"the store told {len(bodies)} of {len(keys)} events")
            for body in bodies * 2:
                line.send(body)
            with line.worked():
                line.until_empty()
            line.once([store.told_as(key) for key in keys])
            for link in line.desk.mail_links():
                need(fetch(link).status == 200, f"a link does not open: {link.partition('?')[0]}")
            wrong = [f"`{key}` as `{store.told_as(key)}`" for key in keys if store.told_as(key) != key]
            return f"{len(keys)} uploads, each told twice, handed out once" + (f"; the store tells {', '.join(wrong)}" if wrong else "")
        finally:
            store.stop()


def wait_for(is_so, words, seconds=30):
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise Wrong(words if isinstance(words, str) else words())
        time.sleep(0.1)
