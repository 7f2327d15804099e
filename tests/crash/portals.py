#!/usr/bin/env python3
"""Kills real portals under load, and judges every redirect that a client received.

    .test/venv/bin/python tests/crash/portals.py --program target/debug/handout [--kills N] [--seed S] [--ledger sqlite|s3] [--keep DIR]
    .test/venv/bin/python tests/crash/portals.py --program target/debug/handout --trials N

Clients open links all the while; links, recipients, objects and jobs are revoked and restored, with commands that are killed as well; codes are
tried at several portals at once. With a ledger in S3 (moto) two portals share it; with SQLite the portal is the daemon's. What must hold:

    H   each redirect and each page that a client received has an audit line that was there before the answer
    I   a request that began after a revocation returned is not redirected; one outside of every revocation is not told that it is revoked
    J   a challenge has at most five tries, and its code signs in once
    K   a live portal answers, with a status that is documented
    E   no signature, token, code or address in any log or audit line
    G   the audit log's chain is whole

With `--trials` three portals with `portal.revocation_check = "1s"` share a ledger; each trial revokes a link and measures how long it is
until no portal opens it. It fails above 1.2 s.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import checker
from checker import ACCESS_KEY, SECRET_KEY
from cloud import Moto
from world import PATIENCE, Worker

#: Where a portal ends itself.
OPENING = ("open-admitted", "open-signed", "open-recorded", "view-recorded", "try-taken", "code-used")
RECIPIENTS, OBJECTS, JOBS = 12, 3, 4
NAVIGATES = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
SUBMITS = {**NAVIGATES, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}

CONFIG = """
state_dir = "{dir}/state{number}"
secret_key_file = "{dir}/secret.key"
[queue]
grace_period = "5s"
{stores}
[mail]
transport = "outbox"
from = "Reports <reports@sender.example>"
[http]
listen = "127.0.0.1:0"
[portal]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{public}"
revocation_check = "{check}"
[[allow]]
connection = "reports"
bucket = "{bucket}"
recipients = ["*@acme.example"]
via = ["portal"]
sign_in = "none"
max_expires_in = "30d"
"""

DIRECTORY = """
[connections.reports]
directory = "{dir}/buckets"
[embedded]
listen = "127.0.0.1:0"
public_url = "http://127.0.0.1:9470"
"""

CLOUD = """
[connections.reports]
region = "eu-west-1"
endpoint_url = "http://127.0.0.1:{store}"
[ledger]
kind = "s3"
connection = "reports"
bucket = "{bucket}-ledger"
"""


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class PortalProcess(Worker):
    """One portal: `handout portal`, or the daemon with its portal."""

    def __init__(self, program, command, config, port, log, audit, environment):
        super().__init__(program, config, log, environment)
        self.command, self.port, self.audit = command, port, audit
        self.up = threading.Event()  # it answers, and is not being killed

    def start(self, failpoint=None, limits=None):
        environment = dict(self.environment)
        if failpoint:
            environment["HANDOUT_FAILPOINT"] = failpoint
        self.log_from = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, self.command, "--config", self.config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip

    def wait_until_ready(self):
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if ask(self.port, "GET", "/robots.txt").status == 200:
                    return
            if self.process.poll() is not None:
                return  # a failpoint on the way
            if time.monotonic() > deadline:
                raise RuntimeError(f"the portal did not start:\n{self.tail()}")
            time.sleep(0.01)


@dataclasses.dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: str
    began: float
    ended: float


def ask(port, method, path, headers=None, body=None):
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        began = time.monotonic()
        connection.request(method, path, body=body, headers={"Connection": "close", "Accept": "*/*", **(headers or {})})
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
        return Answer(response.status, response.headers, text, began, time.monotonic())
    finally:
        connection.close()


@dataclasses.dataclass(frozen=True)
class Link:
    """A link of a mail."""

    path: str
    job: str
    recipient: str
    key: str

    def targets(self):
        """What it can be revoked by."""
        return [("job", self.job), ("recipient", self.recipient), ("object", self.key), ("link", self.path)]


class Closures:
    """When targets were surely closed, and when they may have been."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sure, self.maybe = {}, {}  # target -> list of [from, until]; `None` while it lasts

    def begin(self, target):
        with self.lock:
            self.maybe.setdefault(target, []).append([time.monotonic(), None])

    def revoked(self, target):
        with self.lock:
            self.sure.setdefault(target, []).append([time.monotonic(), None])

    def restoring(self, target):
        with self.lock:
            for spans in (self.sure.get(target, []),):
                for span in spans:
                    span[1] = span[1] or time.monotonic()

    def restored(self, target):
        with self.lock:
            for span in self.maybe.get(target, []):
                span[1] = span[1] or time.monotonic()

    def wrong(self, link, answer):
        """Why the answer contradicts the revocations, if it does."""
        with self.lock:
            if answer.status == 302:
                for target in link.targets():
                    for since, until in self.sure.get(target, []):
                        if answer.began > since and (until is None or answer.ended < until):
                            return f"{target[0]} was revoked {answer.began - since:.3f} s before a request that was redirected"
            if answer.status == 410:
                for target in link.targets():
                    for since, until in self.maybe.get(target, []):
                        if answer.ended > since and (until is None or answer.began < until):
                            return None
                return "a request was told that the link is revoked, and nothing had revoked it"
        return None


class PortalWorld:
    """Jobs that were mailed, and portals that open their links."""

    def __init__(self, directory, program, rng, ledger, store, portals=None, check="0s"):
        self.dir, self.program, self.rng, self.ledger = pathlib.Path(directory), program, rng, ledger
        portals = portals or (2 if ledger == "s3" else 1)
        self.bucket = f"r{secrets.token_hex(4)}"
        secret = secrets.token_bytes(32)
        (self.dir / "logs").mkdir(parents=True)
        (self.dir / "secret.key").write_bytes(secret)
        keys = [f"2026/report {number}.pdf" for number in range(OBJECTS)]
        environment = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        if ledger == "s3":
            client = checker.aws("s3", f"http://127.0.0.1:{store}")
            for bucket in (self.bucket, f"{self.bucket}-ledger"):
                client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
            for key in keys:
                client.put_object(Bucket=self.bucket, Key=key, Body=b"%PDF")
            self.client, stores = client, CLOUD.format(store=store, bucket=self.bucket)
        else:
            for key in keys:
                path = self.dir / "buckets" / self.bucket / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("%PDF")
            stores = DIRECTORY.format(dir=self.dir)
        self.portals = []
        public = free_port()
        for number in range(portals):
            port = public if number == 0 else free_port()
            config = self.dir / f"config{number}.toml"
            config.write_text(CONFIG.format(dir=self.dir, number=number, stores=stores, port=port, public=public, check=check, bucket=self.bucket))
            command = "portal" if ledger == "s3" else "run"
            log, audit = self.dir / f"logs/portal{number}.log", self.dir / f"state{number}/audit"
            self.portals.append(PortalProcess(program, command, config, port, log, audit, environment))
        self.environment = {**os.environ, **environment}
        self.facts = {"secret": secret.hex(), "audit": [f"state{number}/audit" for number in range(portals)]}
        self.closures, self.violations = Closures(), []
        self.received = []  # (portal, kind, what, audit sizes)
        self.codes = set()
        self.counts = {"redirects": 0, "pages": 0, "refused": 0, "cut": 0, "signed in": 0, "tries": 0, "changes": 0}
        self.lock = threading.Lock()
        self.links, self.pages, self.asking = [], [], []
        for number in range(JOBS):
            self.mail(f"job-{number}", keys, "none")
        self.mail("pages", keys, "none", gallery=True)
        self.mail("asked", keys[:1], "code")

    def config(self, number=0):
        return ["--config", str(self.portals[number].config)]

    def mail(self, job, keys, sign_in, gallery=False):
        """Does a job, and takes its links from the outbox."""
        recipients = [f"p{number}@acme.example" for number in range(RECIPIENTS)]
        order = {
            "v": 1,
            "id": job,
            "from": {"connection": "reports", "bucket": self.bucket, "prefix": "2026/"},
            "links": {"via": "portal", "expires_in": "7d", "open": "direct", "sign_in": sign_in},
            "email": {"to": recipients, "subject": f"Report [{job}]"},
        }
        if gallery:
            order["gallery"] = {}
        (self.dir / f"{job}.json").write_text(json.dumps(order))
        done = subprocess.run(
            [self.program, "job", "run", str(self.dir / f"{job}.json"), *self.config()], env=self.environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RuntimeError(f"{done.stdout}{done.stderr}")
        for path in sorted((self.dir / "state0/outbox").rglob("*.eml")):
            text = path.read_bytes()
            message = checker.email.message_from_bytes(text, policy=checker.email.policy.default)
            if f"[{job}]" not in str(message["subject"]):
                continue
            to = str(message["to"]).strip("<>")
            part = message.get_body(("html",)).get_content()
            files = list(dict.fromkeys(re.findall(r"/d/[0-9a-z]{44}", part)))
            if sign_in == "code":
                self.asking.append((files[0], to))
                continue
            if gallery:
                self.pages += [(page, job, to) for page in set(re.findall(r"/j/[0-9a-z]{44}", part))]
                continue
            if len(files) != len(keys):
                raise RuntimeError(f"a mail of {job} has {len(files)} links for {len(keys)} files")
            self.links += [Link(path, job, to, key) for path, key in zip(files, keys)]
        if gallery and len(self.pages) != RECIPIENTS:
            raise RuntimeError(f"the mails of {job} have {len(self.pages)} pages for {RECIPIENTS} recipients")

    def wrong(self, words):
        with self.lock:
            if words not in self.violations:
                self.violations.append(words)

    def count(self, name):
        with self.lock:
            self.counts[name] += 1

    def sizes(self, portal):
        """How long each audit file of a portal is: what is there when an answer was received."""
        return {str(path.relative_to(self.dir)): path.stat().st_size for path in portal.audit.glob("*.jsonl")}

    def open_one(self, rng):
        """A client opens a link or a page at some portal."""
        portal = rng.choice(self.portals)
        if not portal.up.wait(0.2):
            return
        link = rng.choice(self.links)
        is_page = rng.random() < 0.15
        path = rng.choice(self.pages)[0] if is_page else link.path
        process = portal.process
        try:
            answer = ask(portal.port, "GET", path, NAVIGATES if is_page else None)
        except (OSError, http.client.HTTPException):
            # It was killed; a live one has to answer.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
            if process.poll() is None and portal.process is process:
                self.wrong("K  a live portal did not answer")
            self.count("cut")
            return
        sizes = self.sizes(portal)
        if is_page:
            if answer.status == 200:
                self.count("pages")
                with self.lock:
                    self.received.append(("view", path, sizes))
            elif answer.status not in (410, 429, 503):
                self.wrong(f"K  a page was answered with {answer.status}")
            return
        if found := self.closures.wrong(link, answer):
            self.wrong(f"I  {found}")
        match answer.status:
            case 302:
                self.count("redirects")
                with self.lock:
                    self.received.append(("opened", answer.headers["Location"], sizes))
            case 410:
                self.count("refused")
            case 429 | 503:
                pass
            case other:
                self.wrong(f"K  a link was answered with {other}")

    def command(self, *arguments, failpoint=None, stdin=None):
        environment = {**self.environment, **({"HANDOUT_FAILPOINT": failpoint} if failpoint else {})}
        done = subprocess.run(
            [self.program, *arguments, *self.config()], env=environment, input=stdin, capture_output=True, text=True, timeout=3 * PATIENCE
        )
        self.count("changes")
        return done

    def change_one(self, rng):
        """Revokes something, perhaps with a command that is killed, and restores it."""
        link = rng.choice(self.links)
        target = rng.choice(link.targets())
        words, stdin = {
            "job": (["job", link.job], None),
            "recipient": (["recipient", link.recipient], None),
            "object": (["object", f"s3://{self.bucket}/{link.key}"], None),
            "link": (["link", "-"], f"http://127.0.0.1:{self.portals[0].port}{link.path}"),
        }[target[0]]
        self.closures.begin(target)
        if rng.random() < 0.3:
            killed = self.command("revoke", *words, failpoint="change-created", stdin=stdin)
            if killed.returncode not in (-signal.SIGKILL, 1):
                self.wrong(f"K  a command that was to be killed ended with {killed.returncode}: {killed.stderr}")
            # The record is there, so that the next command says "already", and may be relied on.
        done = self.command("revoke", *words, stdin=stdin)
        if done.returncode not in (0, 1):
            self.wrong(f"K  revoke ended with {done.returncode}: {done.stderr}")
        self.closures.revoked(target)
        time.sleep(rng.uniform(0.05, 0.5))
        self.closures.restoring(target)
        done = self.command("restore", *words, stdin=stdin)
        if done.returncode not in (0, 1):
            self.wrong(f"K  restore ended with {done.returncode}: {done.stderr}")
        self.closures.restored(target)

    def newest_code(self, since):
        """The code of a mail that was written after an instant, from whichever portal."""
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            for number in range(len(self.portals)):
                for path in (self.dir / f"state{number}/outbox").rglob("*.eml"):
                    if path.stat().st_mtime <= since:
                        continue
                    with contextlib.suppress(OSError, KeyError, AttributeError):
                        message = checker.email.message_from_bytes(path.read_bytes(), policy=checker.email.policy.default)
                        if not str(message["subject"]).startswith("Your code for"):
                            continue
                        found = re.search(r"^\s*(\d{4} \d{4})\s*$", message.get_body(("plain",)).get_content(), re.M)
                        if found:
                            return found.group(1)
            time.sleep(0.02)
        return None

    def try_codes(self, rng):
        """A visitor asks for a code, and tries wrong ones and the right one at all portals at once."""
        portal = rng.choice(self.portals)
        with self.lock:
            if not self.asking:
                return False
            path, address = self.asking.pop()
        if not portal.up.wait(PATIENCE):
            return True
        token = path.rsplit("/", 1)[1]
        since = time.time() - 0.02
        try:
            form = urllib.parse.urlencode({"token": token, "address": address})
            asked = ask(portal.port, "POST", "/sign-in", SUBMITS, form)
        except (OSError, http.client.HTTPException):
            return True
        cookies = [value.split(";")[0] for name, value in asked.headers.items() if name.lower() == "set-cookie"]
        challenge = next((cookie for cookie in cookies if cookie.startswith("__Host-handout-c=")), None)
        if asked.status != 200 or challenge is None:
            return True
        code = self.newest_code(since)
        if code is None:
            return True
        with self.lock:
            self.codes.add(code)
        wrong = [f"{rng.randrange(10**8):08}" for _ in range(rng.choice((2, 4, 7)))]
        tries = [*wrong, code, code, code]
        rng.shuffle(tries)

        def once(typed):
            at = rng.choice(self.portals)
            form = urllib.parse.urlencode({"token": token, "code": typed})
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = ask(at.port, "POST", "/sign-in/code", {**SUBMITS, "Cookie": "; ".join(cookies)}, form)
                return answer.status, typed
            return None, typed

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(once, tries))
        self.count("tries")
        signed_in = [typed for status, typed in answers if status == 303]
        if len(signed_in) > 1:
            self.wrong(f"J  a code signed in {len(signed_in)} times")
        if any(typed != code for typed in signed_in):
            self.wrong("J  a wrong code signed in")
        if signed_in:
            self.count("signed in")
        failed = sum(status == 401 for status, _ in answers)
        if failed > 5:
            self.wrong(f"J  {failed} tries were judged")
        return True

    def records_of_tries(self):
        """The names of the records of tries."""
        if self.ledger == "s3":
            below = "ledger-portal/"
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=f"{self.bucket}-ledger", Prefix=f"{below}try/"):
                yield from (entry["Key"].removeprefix(below) for entry in page.get("Contents", []))
            return
        with checker.sqlite(self.dir, "state0/handout.sqlite") as database:
            yield from (name for (name,) in database.execute("SELECT name FROM portal WHERE name LIKE 'try/%'"))

    def judge(self):
        """What was received, against the audit logs; the slots; and the texts."""
        evidence = checker.Evidence(self.facts)
        for directory in self.facts["audit"]:
            checker.read_audit(self.dir, self.dir / directory, evidence)
        secret = checker.Secret(bytes.fromhex(self.facts["secret"]))
        opened, views = {}, []
        for line in evidence.lines:
            match line.fields.get("ev"):
                case "opened":
                    opened.setdefault(line.fields["link"], []).append(line)
                case "view":
                    views.append(line)
        signatures = set()
        for kind, what, sizes in self.received:
            if kind == "opened":
                signature = checker.signature_of(what)
                signatures.add(signature.encode())
                lines = opened.get(secret.fingerprint(signature), [])
                if not lines:
                    self.wrong("H  a redirect has no audit line")
                elif not any(line.end <= sizes.get(line.file, 0) for line in lines):
                    self.wrong("H  a redirect was received before its audit line was on the disk")
        had = sum(kind == "view" for kind, _, _ in self.received)
        if len(views) < had:
            self.wrong(f"H  {had} pages were received, and {len(views)} have an audit line")
        for words in evidence.broken_chains:
            self.wrong(f"G  {words}")
        slots = {}
        for name in self.records_of_tries():
            slots[name.split("/")[1]] = slots.get(name.split("/")[1], 0) + 1
        for challenge, count in slots.items():
            if count > 5:
                self.wrong(f"J  a challenge has {count} tries")
        tokens = [link.path.rsplit("/", 1)[1].encode() for link in self.links]
        words = [*(link.recipient.encode() for link in self.links), *(code.encode() for code in self.codes)]
        for path in [*self.dir.glob("logs/*"), *self.dir.glob("state*/audit/*")]:
            octets = path.read_bytes() if path.is_file() else b""
            name = str(path.relative_to(self.dir))
            if b"X-Amz-Signature=" in octets or signatures.intersection(checker.HEX64.findall(octets)):
                self.wrong(f"E  {name} has a signature")
            for word in {*tokens, *words}:
                if word in octets:
                    self.wrong(f"E  {name} has a token, an address or a code")
                    break


class Killer(threading.Thread):
    """Kills one portal, again and again."""

    def __init__(self, world, portal, rng, kills):
        super().__init__(daemon=True)
        self.world, self.portal, self.rng, self.kills = world, portal, rng, kills
        self.done, self.places = 0, {}

    def run(self):
        while self.done < self.kills:
            place = self.rng.choice([*OPENING[:4], *OPENING[:4], *OPENING[4:], "random", "random", "SIGTERM"])
            named = place in OPENING
            self.portal.start(f"{place}:{self.rng.randint(1, 12) if place in OPENING[:4] else 1}" if named else None)
            self.portal.wait_until_ready()
            self.portal.up.set()
            if named:
                code = self.portal.wait(4.0)
            else:
                time.sleep(self.rng.uniform(0, 0.8))
                code = None
            if code is None and place == "SIGTERM":
                self.portal.process.terminate()
                code = self.portal.wait(PATIENCE)
                if code != 0:
                    self.world.wrong(f"K  SIGTERM ended a portal with {code}:\n{self.portal.tail()}")
                code = -signal.SIGKILL
            elif code is None:
                self.portal.kill()
                code = self.portal.wait(PATIENCE)
                place = "random"
            self.portal.up.clear()
            if code != -signal.SIGKILL:
                self.world.wrong(f"K  a portal ended with {code} at {place}:\n{self.portal.tail()}")
                return
            self.done += 1
            self.places[place] = self.places.get(place, 0) + 1


def play(directory, program, seed, ledger, store, kills):
    """One world; its violations and counts."""
    rng = random.Random(seed)
    world = PortalWorld(directory, program, rng, ledger, store)
    over = threading.Event()

    def again(step, number, pause):
        own = random.Random(f"{seed}/{step.__name__}/{number}")
        while not over.is_set():
            if step(own) is False:
                return
            time.sleep(pause)

    killers = [
        Killer(world, portal, random.Random(f"{seed}/kill/{number}"), -(-kills // len(world.portals))) for number, portal in enumerate(world.portals)
    ]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        steps = [threads.submit(again, world.open_one, number, 0.02) for number in range(4)]
        steps += [threads.submit(again, world.change_one, 0, 0.05), threads.submit(again, world.try_codes, 0, 0.5)]
        for killer in killers:
            killer.start()
        for killer in killers:
            killer.join()
        over.set()
        for portal in world.portals:
            portal.up.clear()
        for step in steps:
            step.result()
    world.judge()
    places = {}
    for killer in killers:
        for place, count in killer.places.items():
            places[place] = places.get(place, 0) + count
    return world, sum(killer.done for killer in killers), places


def trials(directory, program, seed, store, count):
    """How long after a revocation returned the last of three portals still opened the link, in seconds."""
    rng = random.Random(seed)
    world = PortalWorld(directory, program, rng, "s3", store, portals=3, check="1s")
    for portal in world.portals:
        portal.start()
        portal.wait_until_ready()
    took, lock, numbers = [], threading.Lock(), iter(range(count))
    links = list(world.links)

    def lane(links):
        for link in links:
            with lock:
                if next(numbers, None) is None:
                    return
            words, url = ["link", "-"], f"http://127.0.0.1:{world.portals[0].port}{link.path}"
            # Each portal knows the link as alive before.
            for portal in world.portals:
                ask(portal.port, "GET", link.path)
            done = world.command("revoke", *words, stdin=url)
            returned = time.monotonic()
            assert done.returncode == 0, done.stderr
            last = returned
            for portal in rng.sample(world.portals, 3):
                while True:
                    answer = ask(portal.port, "GET", link.path)
                    if answer.status == 410:
                        break
                    assert answer.status == 302, answer.status
                    last = max(last, answer.began)
                    time.sleep(0.03)
            with lock:
                took.append(last - returned)
            world.command("restore", *words, stdin=url)

    while len(took) < count:
        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            for done in [threads.submit(lane, links[number::6]) for number in range(6)]:
                done.result()
    for portal in world.portals:
        portal.stop()
    return sorted(took)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, required=True, help="a debug build: others have no failpoints")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--ledger", choices=("sqlite", "s3"), default="s3")
    parser.add_argument("--trials", type=int, help="revocations that are measured, instead of kills")
    parser.add_argument("--slow-machine", action="store_true", help="times decide nothing")
    parser.add_argument("--keep", type=pathlib.Path, help="leaves the world there")
    return parser.parse_args()


def main():
    wanted = arguments()
    seed = wanted.seed if wanted.seed is not None else secrets.randbelow(1 << 32)
    root = wanted.keep or pathlib.Path(tempfile.mkdtemp(prefix="handout-portals-"))
    root.mkdir(parents=True, exist_ok=True)
    program, started = wanted.program.resolve(), time.monotonic()
    print(f"seed {seed}", flush=True)
    servers = Moto() if wanted.ledger == "s3" else None
    store = servers.s3_port if servers else None
    try:
        if wanted.trials:
            took = trials(root, program, seed, store, wanted.trials)
            print(f"{len(took)} revocations at three portals: median {took[len(took) // 2]:.3f} s, the longest {took[-1]:.3f} s")
            sys.exit(took[-1] > 1.2 and not wanted.slow_machine)
        world, kills, places = play(root, program, seed, wanted.ledger, store, wanted.kills)
    finally:
        if servers:
            servers.stop()
    for violation in world.violations:
        print(f"VIOLATION  {violation}")
    print(", ".join(f"{count} {place}" for place, count in sorted(places.items())))
    print(", ".join(f"{count} {name}" for name, count in world.counts.items()))
    print(f"{kills} kills in {time.monotonic() - started:.0f} s; {len(world.violations)} violations" + (f"; the world is in {root}" if world.violations else ""))
    if not world.violations and not wanted.keep:
        shutil.rmtree(root)
    sys.exit(bool(world.violations))


if __name__ == "__main__":
    main()
