#!/usr/bin/env python3
"""Lets each dependency of a real daemon fail, and measures from outside what becomes of its jobs, its stop, and what an operator is told.

    .test/venv/bin/python tests/faults/faults.py --program target/release/handout [--runs 3] [--only NAME] [--short] [--hour] [--lanes N]

`cloud` worlds have versitygw and ElasticMQ (tests/peers/servers.sh prepares them) and the ledger in S3, `sqlite` worlds the daemon's own endpoint,
queue and ledger. `--short` takes moto instead of the servers, and ends within 90 seconds. Prints a table, median/worst of each number, and exits
with 1 if a limit is broken. Ctrl-C ends it after the worlds under way, with the table so far. docs/faults.md says what is measured.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import math
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "crash"), str(HERE.parent / "peers")]

from cloud import Moto  # noqa: E402
from daemon import World  # noqa: E402
from relay import SILENCES  # noqa: E402
from servers import Cloud  # noqa: E402

#: The limit of each number, in seconds where nothing else is said; `None`: it is only shown.
LIMITS = {
    "503": 30,  # /ready says it, after the failure
    "200": 5,  # /ready is well, after the return
    "new": 15,  # a job that is put on the queue at the return is mailed
    "waiting": 30,  # the last that waited is mailed, after the return
    "halved": None,  # a job is mailed although every second connection is dead, after it was put on the queue
    "others": 5,  # jobs that need nothing of what fails are mailed, after they were put on the queue
    "stop": 15,  # SIGTERM in the middle of the fault; grace_period is 5 s
    "idle stop": 2,  # SIGTERM with nothing to do
    "first": 30,  # of very many: the first that waited is mailed, after the return
    "lines/s": 1,  # of the log, while it lasts
    "twice": 0,  # links with more than one audit line
    "MB": 64,  # private memory, at most
    "fds": None,
    "mails/s": None,
}

@dataclasses.dataclass
class Patience:
    """For how long something is waited for before it counts as never."""

    mail: float = 60
    other: float = 30
    stop: float = 45


PATIENCE = Patience()

#: What `/metrics` and the log call the edges.
NAMES = {"store": "store:reports", "second": "store:second", "ledger": "ledger:ledger", "queue": "queue:queue", "relay": "relay:default"}
SUBJECTS = {
    "store": r"\(connections\.reports\)",
    "second": r"\(connections\.second\)",
    "ledger": r"the ledger in s3://",
    "queue": r"the queue http://",
    "relay": r"the relay 127\.0\.0\.1:\d+ \(mail\.smtp\)",
}
VERBS = {"refusing": "cannot be reached", "resetting": "cannot be reached", "unavailable": "asks to slow down"}


def sentence(edge, mode):
    """What `/ready` must say."""
    return f"{SUBJECTS[edge]}.* {VERBS.get(mode, 'has not answered')} since 20"


class Numbers:
    """What was measured in one world, and what was wrong besides."""

    def __init__(self):
        self.values = collections.defaultdict(list)
        self.wrong = []

    def add(self, name, value):
        self.values[name].append(math.inf if value is None else value)

    def need(self, right, words):
        if not right:
            self.wrong.append(words)


# --- Scenarios -------------------------------------------------------------------------------------------------------


def warmed_up(world, jobs=4):
    """A daemon that has mailed something through each of its stores and relays."""
    if world.servers:
        warm = world.submit(jobs) + world.submit(2, store="second", relay="bulk")
    world.start()
    if not world.servers:
        world.wait_until_open()
        warm = world.submit(jobs) + world.submit(2, store="second", relay="bulk")
    if math.inf in world.mailed(warm, 0, PATIENCE.mail) or world.watch.when_ready(0, PATIENCE.mail) is None:
        raise RuntimeError(f"the jobs of a healthy world were not mailed:\n{world.worker.tail()}")


def narrow(world, numbers, edge, mode, length):
    """The path to an edge drops large packets: small requests are answered, and the records of a job with many files are not."""
    world.put_many_files()
    outage(world, numbers, edge, mode, length, names={"prefix": "many/"})


def outage(world, numbers, edge, mode, length, waiting=6, names=None):
    """An edge fails for a time while jobs wait for it; then the same again, and SIGTERM in the middle."""
    warmed_up(world)
    began, lines = time.monotonic(), world.log_lines()
    world.fault(edge, mode)
    jobs = []
    if edge != "queue":
        jobs += world.submit(waiting - waiting // 2, names=names)
        sleep_until(began + length / 2)
    else:
        # A receive that was under way at the failure takes its messages along: the servers hide them for the visibility timeout.
        sleep_until(began + max(length / 2, min(12, length - 1)))
    jobs += world.submit(waiting // 2, names=names)
    sleep_until(began + length)
    lasting = world.log_lines() - lines
    hung = world.relays["relay"].hung if mode == "at dot" else 0
    is_told(world, numbers, edge, mode, began, length)
    world.heal(edge)
    back = time.monotonic()
    comes_back(world, numbers, back, jobs, hung)
    began_and_ended = world.outages_told(*NAMES[edge].split(":"))
    numbers.need(began_and_ended in ((0, 0), (1, 1)), f"the log told {began_and_ended} times that the outage began, and ended")
    if length >= 30:
        numbers.add("lines/s", lasting / length)
    time.sleep(3)  # the last mails' outcomes are recorded
    world.fault(edge, mode)
    if edge != "queue":
        world.submit(3)
    time.sleep(4)
    stops(world, numbers)
    is_whole(world, numbers)


def is_told(world, numbers, edge, mode, began, length):
    """`/ready` says what failed, if it lasted for long enough."""
    was_told(world, numbers, began, length, sentence(edge, mode))
    said = {text.strip() for at, status, text, _ in list(world.watch.samples) if at >= began and status == 503}
    strange = sorted(text for text in said if not re.search(SUBJECTS[edge], text))
    numbers.need(not strange, f"/ready said something else: {strange[:2]}")
    before = world.watch.samples[-1][1]
    name = "ledger:writes" if mode == "narrow" else NAMES[edge]
    up = world.metric("handout_edge_up", f'edge="{name}"')
    time.sleep(0.5)  # `/ready` is asked five times a second, and may change in between
    after = world.watch.samples[-1][1]
    numbers.need(up in {before != 503, after != 503}, f"handout_edge_up was {up} when /ready said {before}, then {after}")


def was_told(world, numbers, began, length, words):
    """When `/ready` said so first. What is over before the limit may end unsaid."""
    said = world.watch.first(began, 503, words)
    if said is not None or length >= LIMITS["503"]:
        numbers.add("503", said)


def comes_back(world, numbers, back, jobs, hung=0):
    """What happens from the return on: `/ready`, a new job, and those that waited."""
    (new,) = world.submit()
    numbers.add("new", world.mailed([new], back, PATIENCE.mail)[0])
    took = world.mailed(jobs, back, max(1, PATIENCE.mail - (time.monotonic() - back)), but=hung)
    if took:
        numbers.add("waiting", took[-1])
    numbers.add("200", world.watch.when_ready(back, max(1, PATIENCE.mail - (time.monotonic() - back))))


def stops(world, numbers, name="stop"):
    """SIGTERM; one that takes too long has no exit code."""
    took, code = world.stop(PATIENCE.stop)
    numbers.add(name, took)
    numbers.need(code in (0, None), f"SIGTERM: exit {code}")


def is_whole(world, numbers):
    """What must hold at the end of every world."""
    numbers.add("MB", world.watch.peak_kb * 1024 / 1e6)
    numbers.add("fds", world.watch.peak_descriptors)
    numbers.need(not world.watch.not_live(), f"/live said {world.watch.not_live()}")
    twice = [job for job in world.submitted if len(world.mails(job)) > 1]
    numbers.need(not twice, f"{len(twice)} jobs were mailed twice with on_doubt = hold")
    lines = collections.Counter((line["job"], line["rid"], line["key"]) for line in world.audit_lines() if line["ev"] == "issue")
    twice = [link for link, count in lines.items() if count > 1]
    numbers.add("twice", len(twice))
    broken = world.verify()
    numbers.need(broken is None, f"audit verify: {broken}")
    parked = world.count_parked()
    numbers.need(parked == 0, f"{parked} jobs are parked")


def other_jobs(world, numbers, edge, mode, length, crowd=16):
    """A crowd of jobs waits for one store or relay; jobs for the others come meanwhile, at once and later."""
    warmed_up(world)
    # Jobs check a kept connection to a relay before they use it, once it has been idle for five seconds: the second group does.
    time.sleep(3)
    began = time.monotonic()
    world.fault(edge, mode)
    other = {"store": {"store": "second"}, "relay": {"relay": "bulk"}}[edge]
    jobs = world.submit(crowd)
    for at in (1, 6, length / 3, length * 2 / 3) if length > 20 else (1, 6):
        sleep_until(began + at)
        asked = time.monotonic()
        numbers.add("others", world.mailed(world.submit(4, **other), asked, PATIENCE.other)[-1])
    sleep_until(began + length)
    is_told(world, numbers, edge, mode, began, time.monotonic() - began)
    world.heal(edge)
    comes_back(world, numbers, time.monotonic(), jobs)
    world.fault(edge, mode)
    world.submit(crowd)
    time.sleep(4)
    stops(world, numbers)
    is_whole(world, numbers)


def kept_die(world, numbers, edge, silence):
    """Twenty kept connections are forgotten by a NAT gateway, at once or in a short silence with nothing to do."""
    warmed_up(world, jobs=24)
    line = world.lines[edge]
    numbers.need(line.connections, "there was no kept connection")
    if silence:
        line.becomes("silent")
        time.sleep(silence)
        line.becomes("open")
    else:
        line.kill_kept()
    if edge == "queue":
        # The poll that died may take a message along that comes before its end.
        time.sleep(11)
    comes_back(world, numbers, time.monotonic(), [])
    world.submit(8)
    line.kill_kept()
    stops(world, numbers)
    is_whole(world, numbers)


def swallowed_put(world, numbers, edge, forwarded, zip=False):
    """One PUT is taken, and its answer never comes; the server is well."""
    if zip:
        world.put_large_files()
    for in_the_end in (False, True):
        if not in_the_end:
            warmed_up(world)
        world.lines[edge].swallow_put(forwarded)
        asked = time.monotonic()
        hung = world.submit(gallery=edge == "store", zip=zip)
        numbers.need(world.watch.wait(10, lambda: world.lines[edge].swallowed > in_the_end or None), "no PUT was swallowed")
        if in_the_end:
            stops(world, numbers)
            break
        asked_others = time.monotonic()
        numbers.add("others", world.mailed(world.submit(4, gallery=edge == "store"), asked_others, PATIENCE.other)[-1])
        numbers.add("waiting", world.mailed(hung, asked, PATIENCE.mail)[-1])
    is_whole(world, numbers)


def one_name(world, numbers, names, length, crowd, edge="store"):
    """The store, or the relay, never answers about one name, and all else is well: others come meanwhile, one in a while and several at once."""
    warmed_up(world)
    name = "hangs"
    began = time.monotonic()
    world.lines[edge].is_silent_about(name)
    about_it = {"names": names(name)} if edge == "store" else {"to": "bo@hangs.example"}
    about_others = {"names": names("2026/report 1.pdf")} if edge == "store" else {}
    hung = world.submit(crowd, **about_it)
    for at in (1, 4, 11, 13, 16, 22, 31, 33, 41):
        if at > length:
            break
        sleep_until(began + at)
        asked = time.monotonic()
        others = world.submit(1 + at % 3, **about_others)
        # Each job of a crowd that has all slots has to be found out first.
        numbers.add("others" if crowd < 8 else "new", world.mailed(others, asked, PATIENCE.other)[-1])
    sleep_until(began + length)
    unready = {text.strip() for at, status, text, _ in list(world.watch.samples) if at >= began and status == 503}
    numbers.need(not unready, f"/ready said {sorted(unready)[:2]}")
    world.submit(crowd, **about_it)
    time.sleep(4)
    stops(world, numbers)
    numbers.need(not any(map(world.mails, hung)), "a job without an answer was mailed")
    is_whole(world, numbers)


def key(name):
    return {"prefix": None, "keys": [name]}


def prefix(name):
    return {"prefix": name}


def dead_half(world, numbers, edge, length):
    """A balancer sends every second connection to a server that is dead."""
    warmed_up(world)
    began = time.monotonic()
    world.fault(edge, "halved")
    for at in range(1, length, 5):
        sleep_until(began + at)
        asked = time.monotonic()
        numbers.add("halved", world.mailed(world.submit(2), asked, PATIENCE.mail)[-1])
    world.heal(edge)
    comes_back(world, numbers, time.monotonic(), [])
    world.fault(edge, "halved")
    world.submit(3)
    time.sleep(2)
    stops(world, numbers)
    is_whole(world, numbers)


def once_in_a_mail(world, fault):
    """Runs a fault when the first byte of the next mail's text comes; what is returned is set then."""
    relay, fell = world.relays["relay"], threading.Event()

    def falls():
        if not fell.is_set():
            fell.set()
            fault()

    relay.on_data = {0: falls}
    return fell


def mid_mail(world, numbers, edge, mode, length):
    """The ledger fails between a mail's intent and its outcome."""
    warmed_up(world)
    for in_the_end in (False, True):
        fell = once_in_a_mail(world, lambda: world.lines[edge].falls(mode))
        jobs = world.submit(4)
        numbers.need(fell.wait(20), "no mail came so far")
        began = time.monotonic()
        if in_the_end:
            time.sleep(1)
            stops(world, numbers)
            break
        sleep_until(began + length)
        is_told(world, numbers, edge, mode, began, length)
        world.heal(edge)
        back = time.monotonic()
        comes_back(world, numbers, back, jobs)
        # Some were mailed long ago: what waited is their outcome.
        numbers.add("waiting", world.when_settled(back, PATIENCE.mail))
    is_whole(world, numbers)


def broken_mails(world, numbers, length):
    """All connections of a relay are reset in the middle of mails; new ones are silent at the greeting for a time, if any."""
    warmed_up(world)
    time.sleep(2)
    fell = once_in_a_mail(world, world.lines["relay"].breaks)
    world.submit(4)
    numbers.need(fell.wait(20), "no mail came so far")
    jobs = []
    if length:
        time.sleep(0.3)
        world.fault("relay", "at greeting")
        jobs = world.submit(6)
        time.sleep(length)
        world.heal("relay")
    comes_back(world, numbers, time.monotonic(), jobs)
    stops(world, numbers)
    is_whole(world, numbers)


def never(world, numbers, edge, mode, length):
    """An edge has not answered since the start."""
    world.lines[edge].becomes(mode)
    began = time.monotonic()
    world.start()
    sleep_until(began + length)
    numbers.need(world.worker.process.poll() is None, "the daemon ended")
    was_told(world, numbers, began, length, sentence("queue", mode) if edge == "queue" else "starting: could not")
    numbers.need(world.watch.first(began, 200) is None, "/ready said 200")
    world.heal(edge)
    comes_back(world, numbers, time.monotonic(), [])
    stops(world, numbers)
    world.lines[edge].becomes(mode)
    world.start()
    time.sleep(3)
    stops(world, numbers)
    is_whole(world, numbers)


def full_disk(world, numbers, length, at_start, left=0):
    """The disk under the daemon's state has only so many bytes left: from the start, or while it works."""
    filler = world.state.parent / "filler"
    jobs = []
    if at_start:
        fill(filler, left)
        began = time.monotonic()
        world.start()
    else:
        warmed_up(world)
        began = time.monotonic()
        fill(filler, left)
        if world.servers:
            jobs = world.submit(6)
    sleep_until(began + length)
    ended = world.worker.process.poll()
    if ended is None:
        numbers.add("503", world.watch.first(began, 503, "disk of the audit log|No space left|starting: could not"))
        filler.unlink()
        back = time.monotonic()
        world.wait_until_open()
        comes_back(world, numbers, back, jobs)
        fill(filler, left)
        time.sleep(3)
        stops(world, numbers)
    else:
        numbers.wrong.append(f"the daemon ended with {ended}: {world.worker.tail()[-400:]}")
    filler.unlink()
    is_whole(world, numbers)


def fill(path, left):
    """Writes until so many bytes are left on the disk."""
    disk = os.statvfs(path.parent)
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range((disk.f_bavail * disk.f_frsize - left) // 4096 + (left == 0)):
            file.write(bytes(4096))


def backlog(world, numbers, number, length):
    """A relay is down for long, and very many jobs are queued."""
    warmed_up(world)
    world.fault("relay", "refusing")
    began, lines = time.monotonic(), world.log_lines()
    jobs = world.submit(number)
    sleep_until(began + length)
    if length >= 30:
        numbers.add("lines/s", (world.log_lines() - lines) / length)
    was_told(world, numbers, began, length, sentence("relay", "refusing"))
    world.heal("relay")
    back = time.monotonic()
    numbers.add("first", world.watch.wait(PATIENCE.mail, lambda: next((min(world.mails(job)) - back for job in jobs if world.mails(job)), None)))
    numbers.add("200", world.watch.when_ready(back, PATIENCE.mail))
    sleep_until(back + 30 * min(1, length / 60))
    numbers.add("mails/s", sum(bool(world.mails(job)) for job in jobs) / (time.monotonic() - back))
    world.fault("relay", "refusing")
    time.sleep(4)
    stops(world, numbers)
    is_whole(world, numbers)


def idle(world, numbers):
    """SIGTERM with nothing to do, after some work."""
    warmed_up(world)
    time.sleep(2)
    stops(world, numbers, "idle stop")
    is_whole(world, numbers)


def idle_edge(world, numbers, edge, mode):
    """An edge fails and returns while there is nothing to do."""
    warmed_up(world)
    time.sleep(1)
    began = time.monotonic()
    world.fault(edge, mode)
    said = world.watch.wait(PATIENCE.stop, lambda: world.watch.first(began, 503, sentence(edge, mode)))
    numbers.add("503", said)
    time.sleep(2)
    world.heal(edge)
    back = time.monotonic()
    numbers.add("200", world.watch.when_ready(back, PATIENCE.mail))
    world.fault(edge, mode)
    time.sleep(3)
    stops(world, numbers, "idle stop")
    is_whole(world, numbers)


def sleep_until(instant):
    time.sleep(max(0, instant - time.monotonic()))


@dataclasses.dataclass
class Scenario:
    name: str  # with `{length}` and other arguments of its play in it
    kinds: str  # `cloud`, `sqlite`, or both
    play: object
    arguments: dict = dataclasses.field(default_factory=dict)
    short: dict = None  # the arguments that differ in the short form, and its `kinds`; without any it is not in it
    disk: int = 0  # bytes of a disk of its own for the daemon's state

    def title(self, wanted):
        return self.name.format(**self.played_as(wanted))

    def worlds(self, wanted):
        """The kinds of world in which it is played."""
        kinds = self.kinds if not wanted.short else "" if self.short is None else self.short.get("kinds", self.kinds)
        return [kind for kind in kinds.split() if wanted.world in (None, kind)]

    def played_as(self, wanted):
        """The arguments of its play."""
        short = {name: value for name, value in (self.short or {}).items() if name != "kinds"}
        return {**self.arguments, **short} if wanted.short else self.arguments

    def takes(self):
        """About how long, so that the longest begin first."""
        return self.arguments.get("length", 15) + 40


def scenarios(wanted):
    """All of them, by edge."""
    edge = lambda edge, mode, length, **more: {"edge": edge, "mode": mode, "length": length, **more}  # noqa: E731
    both = "cloud sqlite"
    yield Scenario("store silent {length} s", both, outage, edge("store", "silent", 10), short={"length": 8, "kinds": "sqlite"})
    yield Scenario("store silent {length} s", both, outage, edge("store", "silent", 40))
    yield Scenario("store silent {length} s", both, outage, edge("store", "silent", 300))
    yield Scenario("store refusing {length} s", both, outage, edge("store", "refusing", 40))
    yield Scenario("store resetting {length} s", "cloud", outage, edge("store", "resetting", 40))
    yield Scenario("store 503 for {length} s", "cloud", outage, edge("store", "unavailable", 40))
    yield Scenario("store bodies at 1 B/s for {length} s", both, outage, edge("store", "trickling", 60))
    yield Scenario("store kept connections die", both, kept_die, {"edge": "store", "silence": 0}, short={"kinds": "sqlite"})
    yield Scenario("store silent {silence} s, kept connections", both, kept_die, {"edge": "store", "silence": 8})
    yield Scenario("store swallows a PUT", both, swallowed_put, {"edge": "store", "forwarded": False}, short={"kinds": "sqlite"})
    yield Scenario("store takes a PUT, answer lost", "cloud", swallowed_put, {"edge": "store", "forwarded": True})
    yield Scenario("store swallows a part of a ZIP", "cloud", swallowed_put, {"edge": "store", "forwarded": False, "zip": True})
    yield Scenario("two stores, one silent {length} s", both, other_jobs, edge("store", "silent", 60), short={"length": 9, "kinds": "sqlite"})
    for words, names, crowd in (("one key", key, 1), ("one key for thirty jobs", key, 30), ("one prefix", prefix, 1)):
        yield Scenario(f"store silent about {words} {{length}} s", both, one_name, {"names": names, "length": 45, "crowd": crowd})
    yield Scenario("relay silent about one domain for thirty jobs {length} s", both, one_name, {"names": key, "length": 45, "crowd": 30, "edge": "relay"})
    yield Scenario("half of the connections to the store dead {length} s", both, dead_half, {"edge": "store", "length": 60})
    yield Scenario("half of the connections to the ledger dead {length} s", "cloud", dead_half, {"edge": "ledger", "length": 60})
    yield Scenario("ledger silent {length} s", "cloud", outage, edge("ledger", "silent", 10))
    yield Scenario("ledger silent {length} s", "cloud", outage, edge("ledger", "silent", 40))
    yield Scenario("ledger silent mid-mail {length} s", "cloud", mid_mail, edge("ledger", "silent", 10), short={"length": 6})
    yield Scenario("ledger silent mid-mail {length} s", "cloud", mid_mail, edge("ledger", "silent", 40))
    yield Scenario("ledger refusing mid-mail {length} s", "cloud", mid_mail, edge("ledger", "refusing", 40), short={"length": 6})
    yield Scenario("ledger 503 for {length} s", "cloud", outage, edge("ledger", "unavailable", 40))
    yield Scenario("ledger drops large packets for {length} s", "cloud", narrow, edge("ledger", "narrow", 60))
    yield Scenario("ledger kept connections die", "cloud", kept_die, {"edge": "ledger", "silence": 0})
    yield Scenario("ledger swallows a PUT", "cloud", swallowed_put, {"edge": "ledger", "forwarded": False})
    yield Scenario("ledger takes a PUT, answer lost", "cloud", swallowed_put, {"edge": "ledger", "forwarded": True}, short={})
    yield Scenario("queue silent {length} s", "cloud", outage, edge("queue", "silent", 15))
    yield Scenario("queue silent {length} s", "cloud", outage, edge("queue", "silent", 130))
    yield Scenario("queue refusing {length} s", "cloud", outage, edge("queue", "refusing", 40), short={"length": 13})
    yield Scenario("queue kept connections die", "cloud", kept_die, {"edge": "queue", "silence": 0})
    yield Scenario("queue silent since the start, {length} s", "cloud", never, edge("queue", "silent", 40))
    yield Scenario("queue refusing since the start, {length} s", "cloud", never, edge("queue", "refusing", 40))
    for step in SILENCES:
        yield Scenario(f"relay silent {'after the dot' if step == 'dot' else 'at ' + step} {{length}} s", both, outage, edge("relay", f"at {step}", 40), short={"length": 8, "kinds": "sqlite"} if step == "RCPT" else None)
    yield Scenario("relay kept connections die", both, kept_die, {"edge": "relay", "silence": 0})
    yield Scenario("relay resets in the middle of mails", both, broken_mails, {"length": 0})
    yield Scenario("relay resets in mails, silent {length} s", both, broken_mails, {"length": 20})
    yield Scenario("relay silent {length} s", both, outage, edge("relay", "silent", 40))
    yield Scenario("relay resetting {length} s", "sqlite", outage, edge("relay", "resetting", 40))
    yield Scenario("relay down {length} s, {waiting} jobs", both, outage, edge("relay", "refusing", 240, waiting=20), short={"length": 10, "kinds": "sqlite"})
    yield Scenario("two relays, one silent at greeting {length} s", both, other_jobs, edge("relay", "at greeting", 60), short={"length": 9, "kinds": "sqlite"})
    yield Scenario("two relays, one silent at RCPT {length} s", both, other_jobs, edge("relay", "at RCPT", 60))
    length = 3600 if wanted.hour else wanted.backlog
    yield Scenario("relay down {length} s, {number:,} jobs", both, backlog, {"number": 20_000, "length": length}, short={"number": 1000, "length": 12, "kinds": "sqlite"})
    yield Scenario("start while S3 refuses, {length} s", "cloud", never, edge("ledger", "refusing", 35), short={"length": 5})
    yield Scenario("start while S3 is silent, {length} s", "cloud", never, edge("ledger", "silent", 35))
    disk = 12 << 20
    yield Scenario("start with a full disk", both, full_disk, {"length": 10, "at_start": True}, short={"length": 4, "kinds": "sqlite"}, disk=disk)
    nearly = {"length": 10, "at_start": False, "left": 400_000}
    yield Scenario("disk nearly full while running", both, full_disk, nearly, short={"length": 4, "kinds": "sqlite"}, disk=disk)
    yield Scenario("disk full while running", both, full_disk, {"length": 10, "at_start": False}, disk=disk)
    yield Scenario("SIGTERM while idle", both, idle, short={})
    for name in ("store", "ledger", "queue", "relay"):
        for mode in ("silent", "refusing"):
            yield Scenario(f"idle, {name} {mode}", "cloud sqlite" if name in ("store", "relay") else "cloud", idle_edge, {"edge": name, "mode": mode})


# --- Running them ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk_of(size, directory):
    """A disk of its own, of so many bytes."""
    if not size:
        yield None
        return
    disk = directory / "disk"
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True, stderr=subprocess.DEVNULL)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def can_mount():
    """Not every root may: a container without the right to is one that may not."""
    try:
        with tempfile.TemporaryDirectory() as directory, disk_of(1 << 20, pathlib.Path(directory)):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def played(scenario, kind, number, wanted, servers, root):
    """Plays a scenario once in a world of its own."""
    numbers = Numbers()
    directory = root / f"{re.sub('[^a-z0-9]+', '-', scenario.title(wanted).lower())}-{kind}-{number}"
    arguments = scenario.played_as(wanted)
    began = time.monotonic()
    with disk_of(scenario.disk, directory) as disk:
        world = None
        try:
            world = World(directory, wanted.program, servers, disk, "1MB" if disk else "100MiB")
            scenario.play(world, numbers, **arguments)
        except Exception:  # a scenario that cannot be played to its end is a failure, and the others go on
            numbers.wrong.append(traceback.format_exc(limit=-2))
        finally:
            if world:
                world.close()
    failed = [*numbers.wrong, *broken(numbers.values)]
    if not failed and not wanted.keep:
        shutil.rmtree(directory)
    words = " ".join(f"{name} {'/'.join(map(shown, values))}" for name, values in numbers.values.items())
    print(f"{scenario.title(wanted)} ({kind}) {time.monotonic() - began:.0f} s: {words}" + "".join(f"\n    {wrong}" for wrong in failed), flush=True)
    return scenario.title(wanted), kind, numbers


def broken(values):
    """The limits that are broken."""
    for name, seen in values.items():
        limit = LIMITS[name]
        if limit is not None and max(seen) > limit:
            yield f"{name}: {max(seen):.2f}, limit {limit}".replace("inf", "never")


def shown(value):
    return "never" if math.isinf(value) else f"{value:.1f}" if value != int(value) and value < 100 else f"{value:.0f}"


def table(results):
    """Median/worst of each number for each scenario; a broken limit is bold."""
    rows = collections.defaultdict(lambda: (collections.defaultdict(list), set()))
    for name, kind, numbers in results:
        values, wrong = rows[name, kind]
        for number, seen in numbers.values.items():
            values[number] += seen
        wrong.update(numbers.wrong)
    columns = [name for name in LIMITS if any(name in values for values, _ in rows.values())]
    limits = ["" if LIMITS[name] is None else f" ≤ {LIMITS[name]}" for name in columns]
    print("| scenario | world | " + " | ".join(name + limit for name, limit in zip(columns, limits)) + " | |")
    print("|---" * (len(columns) + 3) + "|")
    for (name, kind), (values, wrong) in rows.items():
        cells = []
        for column in columns:
            seen = values.get(column)
            cell = f"{shown(statistics.median(seen))}/{shown(max(seen))}" if seen else ""
            cells.append(f"**{cell}**" if seen and list(broken({column: seen})) else cell)
        verdict = "ok" if not wrong and not list(broken(values)) else "**broken**"
        print(f"| {name} | {kind} | " + " | ".join(cells) + f" | {verdict} |")
    for (name, kind), (values, wrong) in rows.items():
        for words in [*broken(values), *sorted(wrong)]:
            print(f"BROKEN  {name} ({kind}): {words.strip()}")
    return any(wrong or list(broken(values)) for values, wrong in rows.values())


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=lambda path: pathlib.Path(path).resolve(), required=True)
    parser.add_argument("--runs", type=int, default=None, help="of each scenario; 3, and 1 in the short form")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only scenarios whose name has this in it")
    parser.add_argument("--world", choices=("cloud", "sqlite"), help="only this kind")
    parser.add_argument("--short", action="store_true", help="short outages and moto: at most 90 s")
    parser.add_argument("--backlog", type=int, default=600, metavar="SECONDS", help="how long the relay is down with 20,000 jobs")
    parser.add_argument("--hour", action="store_true", help="an hour of that")
    parser.add_argument("--lanes", type=int, default=16, help="worlds at once")
    parser.add_argument("--keep", action="store_true", help="leaves the worlds; they are kept in any case when something is broken")
    parser.add_argument("--list", action="store_true", help="only prints the names")
    return parser.parse_args()


def main():
    wanted = arguments()
    if wanted.short:
        PATIENCE.mail, PATIENCE.other, PATIENCE.stop = 31, 8, 16
    chosen = [
        (scenario, kind)
        for scenario in scenarios(wanted)
        for kind in scenario.worlds(wanted)
        if not wanted.only or any(name in scenario.title(wanted) for name in wanted.only)
    ]
    if wanted.list:
        print("\n".join(f"{scenario.title(wanted)} ({kind})" for scenario, kind in chosen))
        return
    if any(scenario.disk for scenario, _ in chosen) and not can_mount():
        print("skipped: scenarios with a small disk, since this user cannot mount one")
        chosen = [(scenario, kind) for scenario, kind in chosen if not scenario.disk]
    runs = wanted.runs or (1 if wanted.short else 3)
    root = pathlib.Path(tempfile.mkdtemp(prefix="handout-faults-"))
    began, servers = time.monotonic(), None
    if any(kind == "cloud" for _, kind in chosen):
        if not wanted.short:
            subprocess.run([HERE.parent / "peers/servers.sh"], check=True)
        servers = Moto() if wanted.short else Cloud()
    order = {(scenario.title(wanted), kind): number for number, (scenario, kind) in enumerate(chosen)}
    plays = sorted(((scenario, kind, run) for run in range(runs) for scenario, kind in chosen), key=lambda play: -play[0].takes())
    print(f"{len(plays)} worlds, {wanted.lanes} at once; they are in {root}", flush=True)
    results = []
    try:
        with concurrent.futures.ThreadPoolExecutor(wanted.lanes) as lanes:
            under_way = [lanes.submit(played, scenario, kind, run, wanted, servers if kind == "cloud" else None, root) for scenario, kind, run in plays]

            def no_more(*_):
                for play in under_way:
                    play.cancel()

            signal.signal(signal.SIGINT, no_more)
            for play in under_way:
                with contextlib.suppress(concurrent.futures.CancelledError):
                    results.append(play.result())
    finally:
        if servers:
            servers.stop()
    results.sort(key=lambda result: order[result[:2]])
    is_broken = table(results)
    print(f"{len(plays)} worlds in {time.monotonic() - began:.0f} s")
    with contextlib.suppress(OSError):
        root.rmdir()  # only where nothing was kept
    sys.exit(is_broken)


if __name__ == "__main__":
    main()
