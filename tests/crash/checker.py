#!/usr/bin/env python3
"""Judges what is left of a world after its workers were killed; knows nothing of them but their formats.

    .test/venv/bin/python tests/crash/checker.py WORLD

WORLD is a directory that the harness made. Read are: the sink's log, the queue, the ledger, the audit files, what was published,
and every log; never a counter of the program, and none of its code. Prints one line for each violation and exits 1 if there is one.

    A   with `hold`, at most one accepted mail for each job and recipient; with `resend`, more only where a doubt is recorded
        for each extra, and then the same Message-ID and the same link ids again
    B   each link in a mail or on a page has an audit line that was there before, about this job, recipient and link id
    C   sent + rejected + doubt + not started is what was asked for, and every message ends as done or parked
    D   a message is deleted only after its job's `done`
    E   no signature and no password in any log, audit line, ledger record or state file
    F   what the ledger calls accepted, the sink has; what the sink has, the ledger has an intent for
    G   the audit log's chain is whole
"""

import base64
import collections
import contextlib
import dataclasses
import datetime
import email
import email.policy
import hashlib
import hmac
import html
import json
import math
import pathlib
import re
import sqlite3
import sys

URL = re.compile(r"https?://[^\s\"'<>,]+[?&](?:X-Amz-)?Signature=[^\s\"'<>,]+")
SIGNATURE = re.compile(r"[?&](?:X-Amz-)?Signature=([^&\s]+)")
LINK_ID = re.compile(r"[?&]x-handout=([0-9a-f]{32})")
HEX64 = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
TERMINAL = ("accepted", "rejected", "unknown")


@dataclasses.dataclass
class Violation:
    rule: str
    words: str

    def __str__(self):
        return f"{self.rule}  {self.words}"


@dataclasses.dataclass
class Mail:
    """A mail that the sink answered, or meant to answer, with 250."""

    job: str
    to: str
    message_id: str
    links: list
    at: float
    audit_sizes: dict  # how long each audit file was when the first byte of the text came


@dataclasses.dataclass
class Line:
    """A line of the audit log, and where it ends in its file."""

    file: str
    end: int
    fields: dict


@dataclasses.dataclass
class Evidence:
    facts: dict
    submitted: list = dataclasses.field(default_factory=list)
    mails: list = dataclasses.field(default_factory=list)
    records: list = dataclasses.field(default_factory=list)
    messages: dict = dataclasses.field(default_factory=dict)  # those that are still there: id -> "ready" or "parked"
    lines: list = dataclasses.field(default_factory=list)
    broken_chains: list = dataclasses.field(default_factory=list)
    pages: list = dataclasses.field(default_factory=list)  # (name, written at, links)
    texts: list = dataclasses.field(default_factory=list)  # (name, bytes) in which no secret may be
    wire: list = dataclasses.field(default_factory=list)  # what a proxy saw of the queue and the ledger, in order


class Secret:
    """What the installation derives from its secret: HMAC-SHA256 under a key for each purpose, over length-prefixed parts."""

    def __init__(self, secret):
        self.secret = secret

    def derive(self, purpose, *parts):
        key = hmac.digest(self.secret, b"handout/1/" + purpose, "sha256")
        text = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        return hmac.digest(key, text, "sha256").hex()

    def recipient_id(self, address):
        return self.derive(b"recipient-id", address.lower().encode())[:32]

    def fingerprint(self, signature):
        return "hmac:" + self.derive(b"link-fingerprint", signature.encode())


def links_of(octets, is_html):
    """The signed URLs in a text or a page."""
    text = octets.decode("utf-8", "replace")
    return sorted(set(URL.findall(html.unescape(text) if is_html else text)))


def signature_of(url):
    return SIGNATURE.search(url).group(1)


def link_id_of(url):
    found = LINK_ID.search(url)
    return found.group(1) if found else None


# --- Reading ---------------------------------------------------------------------------------------------------------


def gather(world):
    """Reads everything that a world left behind."""
    world = pathlib.Path(world)
    evidence = Evidence(json.loads((world / "facts.json").read_text()))
    evidence.submitted = json_lines(world / "submitted.jsonl")
    evidence.mails = [mail_of(entry) for entry in json_lines(world / "sink.jsonl")]
    evidence.wire = json_lines(world / "wire.jsonl")
    for directory in evidence.facts["audit"]:
        read_audit(world, world / directory, evidence)
    for directory in evidence.facts["pages"]:
        for path in sorted((world / directory).rglob("*")):
            if path.is_file():
                evidence.pages.append((str(path.relative_to(world)), path.stat().st_mtime, links_of(path.read_bytes(), path.suffix == ".html")))
    if bucket := evidence.facts.get("pages_bucket"):
        for key, written_at, octets in objects_of(bucket["endpoint"], bucket["bucket"]):
            evidence.pages.append((key, written_at, links_of(octets, key.endswith(".html"))))
    read_queue(world, evidence)
    read_ledger(world, evidence)
    for pattern in evidence.facts["texts"]:
        for path in sorted(world.glob(pattern)):
            if path.is_file():
                evidence.texts.append((str(path.relative_to(world)), path.read_bytes()))
    return evidence


def gather_books(world):
    """Reads the queue and the ledger alone: after each kill, what is deleted must be done."""
    world = pathlib.Path(world)
    evidence = Evidence(json.loads((world / "facts.json").read_text()))
    evidence.submitted = json_lines(world / "submitted.jsonl")
    evidence.wire = json_lines(world / "wire.jsonl")
    read_queue(world, evidence)
    read_ledger(world, evidence)
    return evidence


def json_lines(path):
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def mail_of(entry):
    octets = base64.b64decode(entry["data"])
    message = email.message_from_bytes(octets, policy=email.policy.default)
    links = set()
    for part in message.walk():
        if not part.is_multipart():
            links.update(links_of(part.get_payload(decode=True), part.get_content_type() == "text/html"))
    job = re.search(r"\[([^\]]+)\]", str(message["subject"])).group(1)
    return Mail(job, entry["to"], str(message["message-id"]), sorted(links), entry["at"], entry["audit_sizes"])


def read_audit(world, directory, evidence):
    """Reads the segments of a directory; a last line without its newline was never waited for."""
    heads = {}
    for path in sorted(directory.glob("*.jsonl")):
        name, offset = str(path.relative_to(world)), 0
        for raw in path.read_bytes().splitlines(keepends=True):
            offset += len(raw)
            if not raw.endswith(b"\n"):
                break
            fields = json.loads(raw)
            evidence.lines.append(Line(name, offset, fields))
            sequence, previous = heads.get(fields["stream"], (0, "0" * 64))
            if (fields["seq"], fields["prev"]) != (sequence, "sha256:" + previous):
                evidence.broken_chains.append(f"{name}: line {fields['seq']} does not continue line {sequence - 1}")
            heads[fields["stream"]] = (fields["seq"] + 1, hashlib.sha256(raw).hexdigest())


def sqlite(world, file):
    """A connection that is really closed at the end: one left to the garbage collector keeps a write-ahead log alive that the worker
    has replaced, and the next connection of this process would write over the new one. Nor may the file be read otherwise while one is
    open: closing it would take SQLite's locks away."""
    return contextlib.closing(sqlite3.connect(f"file:{world / file}?mode=ro", uri=True))


def read_queue(world, evidence):
    queue = evidence.facts["queue"]
    if queue["kind"] == "sqlite":
        with sqlite(world, queue["file"]) as database:
            evidence.messages = {str(id): state for id, state in database.execute("SELECT id, state FROM message")}
    else:
        read_sqs(queue, evidence)


#: Of every server in a world; moto does not look at them.
ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"


def aws(service, endpoint):
    import boto3
    from botocore.config import Config

    # A store that is killed again and again may be down for some attempts in a row; the mode "standard" has a quota of them.
    config = Config(retries={"max_attempts": 8, "mode": "legacy"})
    return boto3.client(
        service, endpoint_url=endpoint, region_name="eu-west-1", aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, config=config
    )


def read_sqs(queue, evidence):
    """Counts what waits: SQS lists nothing. What was parked, and which message was deleted when, the proxy saw."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
    attributes = aws("sqs", queue["endpoint"]).get_queue_attributes(QueueUrl=queue["url"], AttributeNames=names)["Attributes"]
    waiting = sum(int(attributes[name]) for name in names)
    evidence.messages = {f"waiting {number}": "ready" for number in range(waiting)}
    parked = {entry["parked"] for entry in evidence.wire if entry.get("parked")}
    evidence.messages.update({id: "parked" for id in parked})


def objects_of(endpoint, bucket, prefix=""):
    """(key, instant, bytes) of each object."""
    client = aws("s3", endpoint)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            yield entry["Key"], entry["LastModified"].timestamp(), body


def read_ledger(world, evidence):
    ledger = evidence.facts["ledger"]
    if ledger["kind"] == "sqlite":
        with sqlite(world, ledger["file"]) as database:
            rows = database.execute("SELECT job, rid, n, kind, body FROM record")
            evidence.records = [
                {"job": job, "rid": rid, "n": n, "kind": kind, "body": json.loads(body)} for job, rid, n, kind, body in rows
            ]
    else:
        for key, _, octets in objects_of(ledger["endpoint"], ledger["bucket"], ledger["prefix"]):
            evidence.texts.append((f"s3://{ledger['bucket']}/{key}", octets))
            if "/jobs/" in key and not key.endswith("/lease"):
                evidence.records.append(json.loads(octets))


# --- Judging ---------------------------------------------------------------------------------------------------------


def judge(evidence, ended=True):
    """All violations. Without `ended`, the world is in the middle of its work: only what must hold at every instant is asked."""
    books = Books(evidence)
    found = [*once(evidence, books), *lines_before_links(evidence, books), *deleted_after_done(evidence, books)]
    found += [Violation("G", words) for words in evidence.broken_chains]
    if ended:
        found += [*every_job_ends(evidence, books), *no_secret_anywhere(evidence), *ledger_and_sink_agree(evidence, books)]
    return found


class Books:
    """The ledger's records by job and recipient."""

    def __init__(self, evidence):
        self.secret = Secret(bytes.fromhex(evidence.facts["secret"]))
        self.outcomes = collections.defaultdict(dict)  # (job, rid) -> n -> outcome
        self.intents = collections.defaultdict(set)
        self.verdicts = collections.defaultdict(set)
        self.late = collections.defaultdict(dict)
        self.done = set()
        for record in evidence.records:
            key, n = (record["job"], record["rid"]), record["n"]
            match record["kind"]:
                case "i":
                    self.intents[key].add(n)
                case "o":
                    self.outcomes[key][n] = record["body"]["outcome"]
                case "v":
                    self.verdicts[key].add(n)
                case "l":
                    self.late[key][n] = record["body"]["outcome"]
                case "done":
                    self.done.add(record["job"])

    def key(self, job, address):
        return job, self.secret.recipient_id(address)

    def doubts(self, key):
        """The attempts that are recorded as unknown."""
        return {n for n, outcome in self.outcomes[key].items() if outcome == "unknown"}

    def answered(self, key):
        """The doubts after which another attempt was allowed."""
        return self.doubts(key) & self.verdicts[key]

    def open(self):
        """The intents without an outcome: (job, rid, n)."""
        return {(*key, n) for key, intents in self.intents.items() for n in intents - self.outcomes[key].keys()}

    def end(self, key):
        """Where the recipient stands: the last attempt decides."""
        if not self.intents[key]:
            return "not started"
        last = max(self.intents[key])
        # What the owner of an attempt learnt late stands above what another wrote about it.
        outcome = self.late[key].get(last, self.outcomes[key].get(last))
        if outcome is None or outcome == "unknown":
            return "doubt"
        return {"accepted": "sent", "rejected": "rejected", "not_sent": "not started"}[outcome]


def mails_by_recipient(evidence):
    mails = collections.defaultdict(list)
    for mail in evidence.mails:
        mails[mail.job, mail.to].append(mail)
    return mails


def once(evidence, books):
    hold = evidence.facts["on_doubt"] == "hold"
    for (job, to), mails in mails_by_recipient(evidence).items():
        extra, allowed = len(mails) - 1, 0 if hold else len(books.answered(books.key(job, to)))
        if extra > allowed:
            yield Violation("A", f"{len(mails)} mails to {to} of {job}, and {allowed} doubts that allow another")
        if len({mail.message_id for mail in mails}) > 1:
            yield Violation("A", f"the mails to {to} of {job} have different Message-IDs")
        if len({tuple(sorted(map(str, map(link_id_of, mail.links)))) for mail in mails}) > 1:
            yield Violation("A", f"the mails to {to} of {job} have different link ids")


def lines_before_links(evidence, books):
    by_fingerprint = collections.defaultdict(list)
    for line in evidence.lines:
        if "link" in line.fields:
            by_fingerprint[line.fields["link"]].append(line)

    def wrong(where, url, is_earlier, job=None, rid=None):
        """What is wrong with a link, if anything. Attempts within the same second make the same link: one line of theirs is enough."""
        lines = by_fingerprint[books.secret.fingerprint(signature_of(url))]
        if not lines:
            return [Violation("B", f"a link in {where} has no audit line")]
        lines = [line for line in lines if line.fields["link_id"] == link_id_of(url)]
        if not lines:
            return [Violation("B", f"a link in {where} has another link id than its audit line")]
        if job is not None:
            lines = [line for line in lines if (line.fields["job"], line.fields["rid"]) == (job, rid)]
            if not lines:
                return [Violation("B", f"a link in {where} has the audit line of another job or recipient")]
        return [] if any(map(is_earlier, lines)) else [Violation("B", f"a link in {where} left before its audit line")]

    for mail in evidence.mails:
        where, (job, rid) = f"the mail to {mail.to} of {mail.job}", books.key(mail.job, mail.to)
        if not mail.links:
            yield Violation("B", f"{where} has no link: nothing was proved about it")
        for url in mail.links:
            # The sink wrote down how long each file was: no clock has to be believed.
            yield from wrong(where, url, lambda line, mail=mail: line.end <= mail.audit_sizes.get(line.file, 0), job, rid)
    slack = math.inf if evidence.facts.get("clock_steps") else evidence.facts["page_clock"]
    for name, written_at, links in evidence.pages:
        for url in links:
            yield from wrong(name, url, lambda line, at=written_at: instant(line.fields["ts"]) <= at + slack)


def instant(text):
    return datetime.datetime.fromisoformat(text).timestamp()


def deleted_after_done(evidence, books):
    if evidence.facts["queue"]["kind"] == "sqlite":
        for message in evidence.submitted:
            if message["id"] not in evidence.messages and message["job"] not in books.done:
                yield Violation("D", f"the message {message['id']} of {message['job']} is deleted, and the job is not done")
    else:
        yield from deleted_after_done_on_the_wire(evidence)


def deleted_after_done_on_the_wire(evidence):
    """The proxy saw each write to queue and ledger when it took effect, in order."""
    job_of, written, parked = {}, set(), set()
    for entry in evidence.wire:
        match entry["did"]:
            case "sent":
                job_of[entry["message"]] = entry["job"]
                # Parked: sent to the queue for it, with the id that it had.
                if entry.get("parked"):
                    parked.add(entry["parked"])
            case "done":
                written.add(entry["job"])
            case "deleted":
                if entry["message"] not in parked and job_of.get(entry["message"]) not in written:
                    yield Violation("D", f"the message {entry['message']} was deleted before its job was done or it was parked")


def lost_records(before, after):
    """A record that was there once is there for ever."""
    names = [{(record["job"], record["rid"], record["n"], record["kind"]) for record in look.records} for look in (before, after)]
    for record in sorted(names[0] - names[1]):
        yield Violation("A", f"the record {record} is lost")


def jobs_of(evidence):
    """What was asked for: the recipients of each job that may be done."""
    return {message["job"]: message["recipients"] for message in evidence.submitted if message["expect"] == "done"}


def bodies_of(evidence):
    """Job -> body -> whether each message with it is parked; of those that may be done."""
    bodies = collections.defaultdict(lambda: collections.defaultdict(list))
    for message in evidence.submitted:
        if message["expect"] == "done":
            bodies[message["job"]][message["body_sha256"]].append(evidence.messages.get(message["id"]) == "parked")
    return bodies


def tally(evidence):
    """How many recipients ended how."""
    books = Books(evidence)
    ends = collections.Counter()
    for job, recipients in jobs_of(evidence).items():
        ends.update(books.end(books.key(job, to)) for to in recipients)
    return ends


def every_job_ends(evidence, books):
    for id, state in evidence.messages.items():
        if state != "parked":
            yield Violation("C", f"the message {id} is neither done nor parked")
    for message in evidence.submitted:
        parked = evidence.messages.get(message["id"]) == "parked"
        if message["expect"] == "parked" and not parked:
            yield Violation("C", f"the message {message['id']} of {message['job']} should have been parked")
    for job, bodies in bodies_of(evidence).items():
        # Of several bodies under one id, the first is the job, and the others are parked.
        whole = [body for body, parked in bodies.items() if not any(parked)]
        split = [body for body, parked in bodies.items() if any(parked) and not all(parked)]
        if (len(whole) != 1 or split) and not may_be_parked(evidence, books, job):
            yield Violation("C", f"{job}: of {len(bodies)} bodies, {len(whole)} were done and {len(split)} both done and parked")
    expected, ends = 0, collections.Counter()
    for job, recipients in jobs_of(evidence).items():
        expected += len(recipients)
        for to in recipients:
            end = books.end(books.key(job, to))
            ends[end] += 1
            if job in books.done and end == "not started":
                yield Violation("C", f"{job} is done, and {to} was never served")
            if job in books.done and books.intents[books.key(job, to)] - books.outcomes[books.key(job, to)].keys():
                yield Violation("C", f"{job} is done, and an attempt at {to} has no outcome")
            if job in books.done and end == "doubt" and evidence.facts["on_doubt"] == "resend":
                yield Violation("C", f"{job} is done, and the doubt about {to} was not decided")
        if job not in books.done and not may_be_parked(evidence, books, job):
            yield Violation("C", f"{job} is not done")
    if sum(ends.values()) != expected:
        yield Violation("C", f"{dict(ends)} does not add up to {expected}")


def may_be_parked(evidence, books, job):
    """A job is given up when nobody knows of so many attempts at one recipient whether they were sent; or when the world is hostile."""
    keys = [books.key(job, to) for to in jobs_of(evidence)[job]]
    return evidence.facts.get("may_park") or any(len(books.doubts(key)) >= evidence.facts["max_doubts"] for key in keys)


def no_secret_anywhere(evidence):
    urls = [url for mail in evidence.mails for url in mail.links] + [url for _, _, links in evidence.pages for url in links]
    signatures = {signature_of(url).encode() for url in urls}
    words = [word for password in evidence.facts["passwords"] for word in spellings(password)]
    for name, octets in evidence.texts:
        if b"X-Amz-Signature=" in octets:
            yield Violation("E", f"{name} holds a signed URL")
        if signatures.intersection(HEX64.findall(octets)):
            yield Violation("E", f"{name} holds a signature")
        for word in words:
            if word in octets:
                yield Violation("E", f"{name} holds a password")


def spellings(password):
    """A password as it is, and as SMTP would carry it."""
    plain = password.encode()
    yield plain
    yield base64.b64encode(plain).rstrip(b"=")
    yield base64.b64encode(b"\0handout\0" + plain).rstrip(b"=")


def ledger_and_sink_agree(evidence, books):
    mails = mails_by_recipient(evidence)
    known = set()
    for (job, to), accepted in mails.items():
        key = books.key(job, to)
        known.add(key)
        if not books.intents[key]:
            yield Violation("F", f"the sink has a mail to {to} of {job}, and the ledger no intent")
        known_as = {**dict.fromkeys(books.intents[key], "unknown"), **books.outcomes[key], **books.late[key]}
        may_be = sum(outcome in ("accepted", "unknown") for outcome in known_as.values())
        if len(accepted) > may_be:
            yield Violation("F", f"the sink has {len(accepted)} mails to {to} of {job}, and the ledger knows of {may_be}")
    for key, outcomes in books.outcomes.items():
        said = sum(outcome == "accepted" for outcome in outcomes.values())
        if said > 1:
            yield Violation("F", f"{key} was accepted {said} times")
        if said and key not in known:
            yield Violation("F", f"the ledger calls {key} accepted, and the sink has no mail")


def main():
    violations = judge(gather(sys.argv[1]))
    for violation in violations:
        print(violation)
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
