#!/usr/bin/env python3
"""Small jobs, ten links and one mail each: what one costs, how many a second there are, and how long one takes on a slow store.

    .test/venv/bin/python benches/peers/jobs.py --program target/release/handout [--jobs 2000] [--only sqlite]

Started by `cargo bench --bench jobs`. versitygw, ElasticMQ (`tests/peers/servers.sh` prepares both) and a sink for mails are processes, or
threads, of their own, and only the CPU of `handout`, or of the script beside it, is counted, from /proc. The script does with boto3, Jinja2 and
smtplib what a small job does, without a ledger, an audit log, retries, or a second recipient: receive, list, sign, render, send, delete.
"""

import argparse
import asyncio
import json
import os
import pathlib
import secrets
import shutil
import smtplib
import statistics
import sys
import tempfile
import threading
import time
from email.message import EmailMessage

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parents[1] / "tests"
sys.path[:0] = [str(TESTS / part) for part in ("faults", "crash", "peers")]

from checker import ACCESS_KEY, SECRET_KEY  # noqa: E402
from line import free_port  # noqa: E402
from relay import Relay  # noqa: E402
from servers import REGION, Cloud, client  # noqa: E402
from world import Worker  # noqa: E402

OBJECTS = 10
#: Of how many jobs the way from the queue to the relay is timed, one after another, on a store whose answers take so long.
TIMED, DELAY = 20, 0.030

CONFIG = """
state_dir = "{dir}/state"
secret_key_file = "{dir}/secret.key"
[queue]
{queue}
[connections.reports]
region = "{region}"
endpoint_url = "{store}"
access_key_id = "{id}"
secret_access_key_file = "{dir}/s3-secret"
[mail]
transport = "smtp"
from = "Reports <reports@sender.example>"
[mail.smtp]
host = "127.0.0.1"
port = {relay}
tls = "none"
username = "handout"
password_file = "{dir}/password"
rate = "5000/s"
[ledger]
{ledger}
[[allow]]
connection = "reports"
bucket = "{bucket}"
recipients = ["*@acme.example"]
"""

SQS = 'kind = "sqs"\nurl = "{url}"\nendpoint_url = "{endpoint}"\nregion = "eu-west-1"'
LEDGER = 'kind = "s3"\nconnection = "reports"\nbucket = "{bucket}"'

MAIL = """<!doctype html><html lang="en"><body><h1>{{ subject }}</h1><p>{{ items|length }} files for you.</p><ul>
{% for item in items %}<li><a href="{{ item.url }}">{{ item.name }}</a>, {{ item.size|filesizeformat }}</li>
{% endfor %}</ul><p>The links work until {{ until }}.</p></body></html>
"""


class Delayed:
    """A proxy each of whose answers begins at least so many seconds after its request."""

    def __init__(self, target, delay):
        self.target, self.delay, self.port = target, delay, free_port()
        self.requests = 0
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        serving = asyncio.start_server(self.serve, "127.0.0.1", self.port)
        asyncio.run_coroutine_threadsafe(serving, self.loop).result(10)

    async def serve(self, reader, writer):
        answers, server = await asyncio.open_connection("127.0.0.1", self.target)
        asked = [0.0]

        async def requests():
            while piece := await reader.read(1 << 16):
                self.requests += b" HTTP/1.1\r\n" in piece
                asked[0] = self.loop.time()
                server.write(piece)
            server.close()

        async def back():
            while piece := await answers.read(1 << 16):
                await asyncio.sleep(max(0, asked[0] + self.delay - self.loop.time()))
                writer.write(piece)
            writer.close()

        await asyncio.gather(requests(), back(), return_exceptions=True)


class Bench:
    def __init__(self, program, kind, cloud, store_port):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="handout-jobs-"))
        self.kind, self.cloud = kind, cloud
        name = f"jobs-{secrets.token_hex(4)}"
        self.sqs = client("sqs", cloud.sqs_port)
        self.url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        s3, self.bucket = client("s3", cloud.s3_port), f"{name}-reports"
        for bucket in (self.bucket, f"{name}-ledger"):
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        for number in range(OBJECTS):
            s3.put_object(Bucket=self.bucket, Key=f"2026/report {number}.pdf", Body=b"%PDF")
        self.relay = Relay(self.dir / "relay")
        (self.dir / "secret.key").write_bytes(secrets.token_bytes(32))
        (self.dir / "password").write_text("secret\n")
        (self.dir / "s3-secret").write_text(SECRET_KEY + "\n")
        in_sqs = SQS.format(url=self.url, endpoint=f"http://127.0.0.1:{cloud.sqs_port}")
        (self.dir / "config.toml").write_text(
            CONFIG.format(
                dir=self.dir,
                region=REGION,
                store=f"http://127.0.0.1:{store_port}",
                id=ACCESS_KEY,
                relay=self.relay.port,
                bucket=self.bucket,
                queue=in_sqs if kind == "s3" else "",
                ledger=LEDGER.format(bucket=f"{name}-ledger") if kind == "s3" else "",
            )
        )
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_EC2_METADATA_DISABLED": "true"}
        self.worker = Worker(program, self.dir / "config.toml", self.dir / "daemon.log", keys)
        self.worker.start()
        self.worker.wait_until_ready()

    def submit(self, number):
        ids = [f"j-{secrets.token_hex(6)}" for _ in range(number)]
        bodies = [json.dumps(job(id, self.bucket)) for id in ids]
        if self.kind == "s3":
            to_queue(self.sqs, self.url, bodies)
        else:
            import sqlite3

            now = int(time.time() * 1000)
            with sqlite3.connect(self.dir / "state/handout.sqlite", timeout=10) as database:
                rows = [(body, now, now) for body in bodies]
                database.executemany("INSERT INTO message (body, visible_at, enqueued_at) VALUES (?, ?, ?)", rows)
        return ids

    def mailed(self, ids, patience=300):
        """When the last of them was accepted."""
        deadline = time.monotonic() + patience
        missing = set(ids)
        while missing and time.monotonic() < deadline:
            time.sleep(0.002)
            missing = {id for id in missing if id not in self.relay.mailed}
        if missing:
            raise RuntimeError(f"{len(missing)} of {len(ids)} jobs were not mailed:\n{self.worker.tail()}")
        twice = [id for id in ids if len(self.relay.mailed[id]) > 1]
        if twice:
            raise RuntimeError(f"{len(twice)} jobs were mailed twice")
        return max(self.relay.mailed[id][0] for id in ids)

    def cpu(self):
        return cpu_of(self.worker.process.pid)

    def close(self):
        self.worker.stop()
        self.relay.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


def job(id, bucket):
    return {
        "v": 1,
        "id": id,
        "from": {"connection": "reports", "bucket": bucket, "prefix": "2026/"},
        "email": {"to": ["ann@acme.example"], "subject": "Report [{{job.id}}]"},
    }


def to_queue(sqs, url, bodies):
    for at in range(0, len(bodies), 10):
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[at : at + 10])]
        if sqs.send_message_batch(QueueUrl=url, Entries=entries).get("Failed"):
            raise RuntimeError("a message was not taken")


def cpu_of(pid):
    """The seconds of CPU that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(program, kind, cloud, jobs):
    """The milliseconds of CPU of a job, and the jobs a second, with so many in the queue."""
    bench = Bench(program, kind, cloud, cloud.s3_port)
    try:
        bench.mailed(bench.submit(50))
        time.sleep(1)
        before, began = bench.cpu(), time.monotonic()
        ended = bench.mailed(bench.submit(jobs))
        time.sleep(1)  # the last outcomes are recorded, and messages deleted
        return (bench.cpu() - before) * 1000 / jobs, jobs / (ended - began)
    finally:
        bench.close()


def delayed(program, kind, cloud):
    """The milliseconds from the queue to the relay, and the requests of a job to its store and ledger."""
    proxy = Delayed(cloud.s3_port, DELAY)
    bench = Bench(program, kind, cloud, proxy.port)
    try:
        bench.mailed(bench.submit(1))
        took, requests = [], []
        for _ in range(TIMED):
            time.sleep(0.5)
            before, began = proxy.requests, time.monotonic()
            took.append((bench.mailed(bench.submit(1)) - began) * 1000)
            time.sleep(0.5)
            requests.append(proxy.requests - before)
        return statistics.median(took), statistics.median(requests)
    finally:
        bench.close()


def script(sqs_port, s3_port, smtp_port, url, bucket, jobs):
    """What a small job does, as a script does it; prints the milliseconds of CPU and the jobs a second."""
    import jinja2

    sqs, s3 = client("sqs", sqs_port), client("s3", s3_port)
    template = jinja2.Environment(autoescape=True).from_string(MAIL)
    relay = smtplib.SMTP("127.0.0.1", smtp_port)
    relay.login("handout", "secret")
    done, cpu, began = 0, time.process_time(), time.monotonic()
    while done < jobs:
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
        for message in received:
            order = json.loads(message["Body"])
            listed = s3.list_objects_v2(Bucket=order["from"]["bucket"], Prefix=order["from"]["prefix"])["Contents"]
            items = [
                {
                    "name": entry["Key"].rpartition("/")[2],
                    "size": entry["Size"],
                    "url": s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": entry["Key"]}, ExpiresIn=86400),
                }
                for entry in listed
            ]
            subject = f"Report [{order['id']}]"
            mail = EmailMessage()
            mail["Subject"], mail["From"], mail["To"] = subject, "reports@sender.example", order["email"]["to"][0]
            mail.set_content("\n".join(item["url"] for item in items))
            mail.add_alternative(template.render(subject=subject, items=items, until="tomorrow"), subtype="html")
            relay.send_message(mail)
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            done += 1
    print(json.dumps([(time.process_time() - cpu) * 1000 / done, done / (time.monotonic() - began)]))


def of_script(cloud, jobs):
    """`script` in a process of its own."""
    import subprocess

    bench = Peer(cloud, jobs)
    try:
        arguments = ["script", cloud.sqs_port, cloud.s3_port, bench.relay.port, bench.url, bench.bucket, jobs]
        ended = subprocess.run([sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, check=True, timeout=600)
        return json.loads(ended.stdout)
    finally:
        bench.relay.stop()
        shutil.rmtree(bench.dir, ignore_errors=True)


class Peer:
    """A queue with jobs, a bucket and a relay for the script."""

    def __init__(self, cloud, jobs):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="handout-jobs-"))
        self.relay = Relay(self.dir / "relay")
        name = f"peer-{secrets.token_hex(4)}"
        s3, sqs, self.bucket = client("s3", cloud.s3_port), client("sqs", cloud.sqs_port), name
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        for number in range(OBJECTS):
            s3.put_object(Bucket=name, Key=f"2026/report {number}.pdf", Body=b"%PDF")
        self.url = sqs.create_queue(QueueName=name)["QueueUrl"]
        to_queue(sqs, self.url, [json.dumps(job(f"j-{number}", name)) for number in range(jobs)])


def main():
    if sys.argv[1:2] == ["script"]:
        sqs_port, s3_port, smtp_port, url, bucket, jobs = sys.argv[2:]
        return script(int(sqs_port), int(s3_port), int(smtp_port), url, bucket, int(jobs))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--only", choices=("sqlite", "s3"))
    wanted = parser.parse_args()
    cloud = Cloud()
    try:
        cpu, rate = of_script(cloud, min(wanted.jobs, 500))
        print(f"{'':34}{'ms CPU a job':>14}{'jobs/s':>9}{'times less CPU':>16}{'ms to the mail':>16}{'requests':>10}")
        print(f"{'boto3, Jinja2 and smtplib':34}{cpu:>14.2f}{rate:>9.0f}", flush=True)
        for kind in ("sqlite", "s3") if wanted.only is None else (wanted.only,):
            ours, many = measured(wanted.program, kind, cloud, wanted.jobs)
            took, requests = delayed(wanted.program, kind, cloud)
            name = {"sqlite": "handout, SQLite", "s3": "handout, SQS and ledger in S3"}[kind]
            print(f"{name:34}{ours:>14.2f}{many:>9.0f}{cpu / ours:>16.1f}{took:>16.0f}{requests:>10.0f}", flush=True)
        print(f"Answers of the store take {DELAY * 1000:.0f} ms at least in the last two columns.")
    finally:
        cloud.stop()


if __name__ == "__main__":
    main()
