#!/usr/bin/env python3
"""Lets each dependency of a real daemon fail, and measures from outside what becomes of its jobs, its stop, and what an operator is told.

    .test/venv/bin/python tests/faults/faults.py --program target/release/handout [--runs 3] [--only NAME] [--short] [--hour] [--lanes N]

`cloud` worlds have versitygw and ElasticMQ (tests/faults/servers.sh prepares them) and the ledger in S3, `sqlite` worlds the daemon's own endpoint,
queue and ledger. `--short` takes moto instead of the servers, and ends within 90 seconds. Prints a table, median/worst of each number, and exits
with 1 if a limit is broken. docs/faults.md says what is measured.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import math
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "crash")]

import peers  # noqa: E402
from daemon import World  # noqa: E402

#: The limit of each number, in seconds where nothing else is said; `None`: it is only shown.
LIMITS = {
    "503": 30,  # /ready says it, after the failure
    "200": 5,  # /ready is well, after the return
    "new": 15,  # a job that is put on the queue at the return is mailed
    "waiting": 30,  # the last that waited is mailed, after the return
    "others": 5,  # jobs that need nothing of what fails are mailed, after they were put on the queue
    "stop": 15,  # SIGTERM in the middle of the fault; grace_period is 5 s
    "idle stop": 2,  # SIGTERM with nothing to do
    "lines/s": 1,  # of the log, while it lasts
    "MB": 64,  # private memory, at most
    "fds": None,
}

#: For how long something is waited for before it counts as never.
PATIENCE = 60
#: How long a stop may take before it is cut off, and counts as never.
STOP_PATIENCE = 45

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
    world.starts_well()
    warm = world.submit(jobs) + world.submit(2, store="second", relay="bulk")
    if math.inf in world.mailed(warm, 0, PATIENCE):
        raise RuntimeError(f"jobs of a healthy world were not mailed:\n{world.worker.tail()}")


def outage(world, numbers, edge, mode, length, waiting=6, stop=True):
    """An edge fails for a time while jobs wait for it; then the same again, and SIGTERM in the middle."""
    warmed_up(world)
    began, lines = time.monotonic(), world.log_lines()
    world.fault(edge, mode)
    jobs = []
    if edge != "queue":
        jobs += world.submit(waiting - waiting // 2)
        sleep_until(began + length / 2)
    else:
        # A receive that was under way at the failure takes its messages along: the servers hide them for the visibility timeout.
        sleep_until(began + max(length / 2, min(12, length - 1)))
    jobs += world.submit(waiting // 2)
    sleep_until(began + length)
    lasting = world.log_lines() - lines
    hung = world.relays["relay"].hung if mode == "at dot" else 0
    is_told(world, numbers, edge, mode, began, length)
    world.heal(edge)
    back = time.monotonic()
    comes_back(world, numbers, back, jobs, hung)
    if length >= 30:
        numbers.add("lines/s", lasting / length)
    if stop:
        world.fault(edge, mode)
        if edge != "queue":
            world.submit(3)
        time.sleep(4)
        stops(world, numbers)
    else:
        stops(world, numbers, None)
    is_whole(world, numbers)


def is_told(world, numbers, edge, mode, began, length):
    """`/ready` says what failed, if it lasted for long enough."""
    if length >= 30:
        numbers.add("503", world.watch.first(began, 503, sentence(edge, mode)))
    said = {text.strip() for at, status, text, _ in list(world.watch.samples) if at >= began and status == 503}
    strange = sorted(text for text in said if not text.startswith("the queue has not answered yet") and SUBJECTS[edge] and not matches(edge, text))
    numbers.need(not strange, f"/ready said of another edge: {strange[:2]}")


def matches(edge, text):
    import re

    return re.search(SUBJECTS[edge], text) is not None


def comes_back(world, numbers, back, jobs, hung=0):
    """What happens from the return on: `/ready`, a new job, and those that waited."""
    (new,) = world.submit()
    numbers.add("new", world.mailed([new], back, PATIENCE)[0])
    took = world.mailed(jobs, back, max(1, PATIENCE - (time.monotonic() - back)), but=hung)
    if took:
        numbers.add("waiting", took[-1])
    numbers.add("200", world.watch.when_ready(back, PATIENCE))


def stops(world, numbers, name="stop"):
    """SIGTERM; the number counts only under a name."""
    took, code = world.stop(STOP_PATIENCE)
    if name:
        numbers.add(name, took)
    if name or code is not None:
        numbers.need(code in (0, None), f"SIGTERM: exit {code}")


def is_whole(world, numbers):
    """What must hold at the end of every world."""
    numbers.add("MB", world.watch.peak_kb * 1024 / 1e6)
    numbers.add("fds", world.watch.peak_descriptors)
    numbers.need(not world.watch.not_live(), f"/live said {world.watch.not_live()}")
    twice = [job for job in world.submitted if len(world.mails(job)) > 1]
    numbers.need(not twice, f"{len(twice)} jobs were mailed twice with on_doubt = hold")
    lines = collections.Counter((line["job"], line["rid"], line["key"]) for line in world.audit_lines() if line.get("event") == "issue")
    twice = [link for link, count in lines.items() if count > 1]
    numbers.need(not twice, f"{len(twice)} of {len(lines)} links have more than one audit line, up to {max(lines.values(), default=0)}")
    broken = world.verify()
    numbers.need(broken is None, f"audit verify: {broken}")
    parked = world.count_parked()
    numbers.need(parked == 0, f"{parked} jobs are parked")


def sleep_until(instant):
    time.sleep(max(0, instant - time.monotonic()))


@dataclasses.dataclass
class Scenario:
    name: str
    kinds: tuple
    play: object
    arguments: dict = dataclasses.field(default_factory=dict)
    short: dict = None  # other arguments of the short form; without any it is not in it
    takes: float = 60  # about how long, so that the longest begin first
    disk: int = 0  # bytes of a disk of its own for the daemon's state
