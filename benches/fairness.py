#!/usr/bin/env python3
"""Whether slow recipients hold the others of their job, and whether a huge job holds small ones: seconds from a job's submission to its mails.

    .test/venv/bin/python benches/fairness.py --program target/release/handout [--only NAME] [--world sqlite|cloud] [--lanes N]

Started by `make fairness`. A real daemon is measured from outside, by what a scripted relay on loopback accepts and when.

- slow: a job of 200 recipients, of whom 20 are of a domain whose RCPT, or end of DATA, the relay answers after ten seconds, or never. When the other
  180 have their mails, and those of a second job with 20 recipients that comes two seconds after the first, and of small jobs, beside the same jobs at a quick relay.
- huge: small jobs of three objects and one recipient come each second while a job of a minute or more is under way, beside the same on an idle daemon.

`cloud` worlds have versitygw, ElasticMQ and the ledger in S3 (tests/peers/servers.sh prepares them), `sqlite` worlds the daemon's own endpoint, queue and
ledger. Prints a table, and ends with 1 if a limit is broken. The limits are for the profile `release`, and wide: a busy machine keeps them.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import dataclasses
import math
import pathlib
import re
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
import traceback

TESTS = pathlib.Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS / name) for name in ("peers", "crash", "faults")]

from daemon import World  # noqa: E402
from listener import Listener  # noqa: E402
from servers import Cloud  # noqa: E402

#: The limits, in seconds.
LIMITS = {
    "others": 20,  # the last of the 180 other recipients, beyond what the same job takes at a quick relay
    "second": 15,  # the last mail of the second job, in the same way
    "small": 15,  # the slowest of ten small jobs that come every five seconds after it, in the same way
    "median": 1.5,  # of the small jobs beside a huge one, beyond the median on an idle daemon
    "worst": 5,  # the slowest of them, in the same way
}

RECIPIENTS, SLOW_RECIPIENTS, SECOND_RECIPIENTS = 200, 20, 20
SLOW_DOMAIN = "hangs.example"

#: How many small jobs come on an idle daemon, and beside a huge job at most; one each second.
IDLE_JOBS, MOST_JOBS = 20, 60

#: Beside slow recipients: small jobs, and how many seconds apart.
SLOW_SMALL_JOBS, SLOW_SMALL_EVERY = 10, 5

#: The most links of a job.
MAX_LINKS = 10_000_000

#: For how long mails are waited for.
PATIENCE, HUGE_PATIENCE = 120, 300


class Relay:
    """An SMTP relay that takes each mail after `delay`, and answers one step of the dialogue late for the recipients of one domain."""

    def __init__(self, _directory):
        self.delay = 0.0
        self.slow_step, self.slow_seconds = None, 0.0
        self.mailed = {}  # job -> when each of its mails was accepted, by time.monotonic()
        self.taken = {}  # job -> recipient -> when
        self.listener = Listener(lambda _number, reader, writer: self.serve(reader, writer), 1)
        self.port = self.listener.ports[0]

    def stop(self):
        self.listener.stop()

    async def serve(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self.dialogue(reader, writer)
        writer.close()

    async def dialogue(self, reader, writer):
        to = ""
        writer.write(b"220 relay.example ESMTP\r\n")
        while line := await reader.readline():
            answer = b"250 2.0.0 ok"
            match line[:4].upper():
                case b"EHLO":
                    answer = b"250-relay.example\r\n250-8BITMIME\r\n250 AUTH PLAIN"
                case b"AUTH":
                    answer = b"235 2.7.0 ok"
                case b"RCPT":
                    to = line.partition(b"<")[2].partition(b">")[0].decode()
                    await self.is_slow_at("RCPT", to)
                case b"DATA":
                    writer.write(b"354 go on\r\n")
                    text = await reader.readuntil(b"\r\n.\r\n")
                    await asyncio.sleep(self.delay)
                    await self.is_slow_at("DOT", to)
                    self.take(to, text)
                case b"QUIT":
                    answer = b"221 2.0.0 bye"
            writer.write(answer + b"\r\n")
            await writer.drain()

    async def is_slow_at(self, step, to):
        if step == self.slow_step and to.endswith(f"@{SLOW_DOMAIN}"):
            await asyncio.sleep(self.slow_seconds)

    def take(self, to, text):
        job = re.search(rb"^Subject: Report \[([^\]]+)\]", text, re.MULTILINE).group(1).decode()
        self.mailed.setdefault(job, []).append(time.monotonic())
        self.taken.setdefault(job, {}).setdefault(to, time.monotonic())


class FairWorld(World):
    """A world without faults, whose daemon reaches its servers straight: a proxy of this process would be slower than they are."""

    make_relay = Relay

    def __init__(self, directory, program, servers, play):
        super().__init__(directory, program, servers)
        self.began = self.busy_until = math.inf
        text = self.config.read_text()
        for line in self.lines.values():
            text = re.sub(rf"\b{line.port}\b", str(line.target), text)
        text = text.replace("[[allow]]", f"[[allow]]\nmax_links = {MAX_LINKS}")
        for before, after in play.settings:
            assert before in text, before
            text = text.replace(before, after)
        self.config.write_text(text)
        self.relay = self.relays["relay"]
        for folder, number in play.files().items():
            self.fill([f"{folder}/{at // 1000:03}/report {at:06}.csv" for at in range(number)])

    def fill(self, keys):
        if self.servers:
            self.servers.store.fill(self.bucket, keys)
            return
        for key in keys:
            path = self.dir / "buckets" / self.bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(key.encode())

    def begin(self):
        """Starts the daemon, and has it mail something."""
        self.start()
        self.wait_until_open()
        if math.inf in self.mailed([self.give(["ann@acme.example"], "small")], 0, 60):
            raise RuntimeError(f"the first job was not mailed:\n{self.worker.tail()}")
        self.began = time.monotonic()

    def give(self, to, folder, **more):
        """Puts a job on the queue; its id."""
        id = f"{self.name}-{next(self.numbers)}"
        order = self.job(id, "store", "relay", gallery=False)
        order["from"]["prefix"] = f"{folder}/"
        order["email"]["to"] = to
        self.enqueue([order | more])
        self.submitted[id] = time.monotonic()
        return id

    def took(self, job, recipients, patience=PATIENCE):
        """How long each of these recipients waited for the mail of a job, in order; infinite for those that have none in time."""
        deadline = time.monotonic() + patience
        while True:
            taken = dict(self.relay.taken.get(job, {}))
            times = [taken.get(to, math.inf) - self.submitted[job] for to in recipients]
            if math.inf not in times or time.monotonic() > deadline:
                return sorted(times)
            time.sleep(0.05)

    def ends(self):
        """Ends the daemon and what is with it; what was wrong."""
        took, code = self.stop(45) if self.watch else (0, 0)
        twice = sum(len(times) - len(self.relay.taken[job]) for job, times in self.relay.mailed.items())
        unready = {text.strip() for at, status, text, _ in self.watch.samples if self.began < at < self.busy_until and status == 503}
        self.close()
        if twice:
            yield f"{twice} mails were sent twice"
        if unready:
            yield f"/ready said {sorted(unready)[:2]}"
        if code != 0 or took > 30:
            yield f"SIGTERM: exit {code} after {took:.1f} s"


def each_second(number, world, is_over=lambda: False, every=1):
    """Small jobs, one after the other."""
    jobs, began = [], time.monotonic()
    for at in range(number):
        time.sleep(max(0.0, began + at * every - time.monotonic()))
        if is_over():
            break
        jobs.append(world.give(["ann@acme.example"], "small"))
    return jobs


def waits_of(jobs, world):
    """How long each small job took to its mail, in order."""
    return sorted(world.took(job, ["ann@acme.example"], 60)[0] for job in jobs)


# --- A job with slow recipients --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Slow:
    """Some recipients of a job are slow, at one step."""

    step: str = None  # RCPT or DOT; nothing at a quick relay
    seconds: float = 0
    shared: bool = False  # all recipients get the same links
    first: bool = False  # the slow recipients are the first of the job, and each tenth otherwise
    settings: tuple = ()

    @property
    def name(self):
        where = {None: "quick relay", "RCPT": "RCPT", "DOT": "end of DATA"}[self.step]
        when = "" if self.step is None else ", never" if math.isinf(self.seconds) else f", {self.seconds:.0f} s"
        return f"slow: {where}{when}" + (", named first" if self.first else "") + (", shared links" if self.shared else "")

    def base(self):
        """With what it is compared."""
        return Slow(shared=self.shared).name

    def files(self):
        return {"small": 3}

    def kinds(self):
        """In which worlds it is played: what holds recipients is the relay, and beside it a ledger in S3 changes little."""
        return ("sqlite",) if self.shared or self.first else ("sqlite", "cloud")

    def play(self, world):
        world.begin()
        relay = world.relay
        relay.slow_step, relay.slow_seconds = self.step, min(self.seconds, 1e6)
        each = RECIPIENTS // SLOW_RECIPIENTS
        is_slow = (lambda at: at < SLOW_RECIPIENTS) if self.first else (lambda at: at % each == each // 2)
        to = [f"r{at}@{SLOW_DOMAIN if is_slow(at) else 'acme.example'}" for at in range(RECIPIENTS)]
        links = {"links": {"per_recipient": not self.shared}}
        job = world.give(to, "small", **links)
        time.sleep(2)
        second_to = [f"s{at}@acme.example" for at in range(SECOND_RECIPIENTS)]
        second = world.give(second_to, "small", **links)
        small = waits_of(each_second(SLOW_SMALL_JOBS, world, every=SLOW_SMALL_EVERY), world)
        # A relay of which all mails under way wait is silent, as far as the daemon can tell.
        world.busy_until = time.monotonic()
        others = world.took(job, [address for address in to if address.endswith("@acme.example")])
        return {
            "others, median": statistics.median(others),
            "others": others[-1],
            "second": world.took(second, second_to)[-1],
            "small": small[-1],
        }


# --- Small jobs beside a huge one ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Huge:
    """Small jobs beside a huge one of a kind."""

    kind: str = "idle"
    recipients: int = 0
    objects: int = 0
    delay: float = 0.0  # how long the relay takes over each mail
    gallery: bool = False
    settings: tuple = ()  # what is replaced in the configuration, and by what

    @property
    def name(self):
        return f"huge: {self.kind}"

    def base(self):
        return "huge: idle"

    def kinds(self):
        return ("sqlite",) if self.settings else ("sqlite", "cloud")

    def files(self):
        return {"small": 3} | ({"huge": self.objects} if self.objects else {})

    def play(self, world):
        world.begin()
        world.relay.delay = self.delay
        huge, to, more = None, [f"r{at}@acme.example" for at in range(self.recipients)], {}
        if self.recipients:
            more = {"gallery": {"publish": {"bucket": world.pages}}} if self.gallery else {}
            huge = world.give(to, "huge", **more)
            time.sleep(3)
        is_over = lambda: huge and len(world.mails(huge)) == len(to)  # noqa: E731
        waits = waits_of(each_second(MOST_JOBS if huge else IDLE_JOBS, world, is_over), world)
        if world.count_parked():
            raise RuntimeError(f"a job was parked:\n{world.worker.tail()}")
        numbers = {"median": statistics.median(waits), "worst": waits[-1], "small jobs": len(waits)}
        if huge:
            numbers["huge job"] = world.took(huge, to, HUGE_PATIENCE)[-1]
        return numbers


FAST_LINKS = """[links]
rate = "1000000/s"
requests = "1000000/s"
[audit]"""


def plays():
    for shared in (False, True):
        yield Slow(shared=shared)
        for step in ("RCPT", "DOT"):
            for seconds in (10, math.inf):
                yield Slow(step, seconds, shared)
    for step in ("RCPT", "DOT"):
        for seconds in (10, math.inf):
            yield Slow(step, seconds, first=True)
    yield Huge()
    yield Huge("2,400 recipients, 50 objects, 0.1 s a mail", 2400, 50, delay=0.1)
    yield Huge("4 recipients, 100,000 objects in a gallery", 4, 100_000, gallery=True)
    # What paces a huge job is the relay's rate, by default, or the processor alone.
    yield Huge("1,500 recipients, 50 objects, 14 mails/s", 1500, 50, settings=(('"1000/s"', '"14/s"'),))
    yield Huge("60 recipients, 100,000 objects in a gallery, links without a rate", 60, 100_000, gallery=True, settings=(("[audit]", FAST_LINKS),))


# --- Running them ----------------------------------------------------------------------------------------------------


def played(play, kind, wanted, servers, root):
    """Plays it in a world of its own; its numbers, and what was wrong."""
    numbers, wrong, world = {}, [], None
    directory = root / re.sub("[^a-z0-9]+", "-", f"{play.name} {kind}".lower())
    try:
        world = FairWorld(directory, wanted.program, servers, play)
        numbers = play.play(world)
    except Exception:  # it is a failure, and the others go on
        wrong.append(traceback.format_exc(limit=-2))
    finally:
        if world and world.watch:
            wrong.extend(world.ends())
        elif world:
            world.close()
    words = ", ".join(f"{name} {shown(value)}" for name, value in numbers.items())
    print(f"{play.name} ({kind}): {words}" + "".join(f"\n    {words}" for words in wrong), flush=True)
    if not wanted.keep:
        shutil.rmtree(directory, ignore_errors=True)
    return numbers, wrong


def shown(value):
    return f"> {PATIENCE}" if math.isinf(value) else str(value) if isinstance(value, int) else f"{value:.2f}"


def broken(numbers, base):
    """The limits that are broken."""
    for name, limit in LIMITS.items():
        if name in numbers and name in base and numbers[name] - base[name] > limit:
            yield name


def table(results):
    """A row for each play; a broken limit is bold, and says so."""
    failed = False
    for sort, columns in (("slow", ("others, median", "others", "second", "small")), ("huge", ("median", "worst", "small jobs", "huge job"))):
        rows = {key: found for key, found in results.items() if key[0].name.startswith(sort)}
        if not rows:
            continue
        heads = [f"{name} ≤ base + {LIMITS[name]}" if name in LIMITS else name for name in columns]
        print(f"\n| {sort}, in seconds | world | {' | '.join(heads)} | |\n|{'---|' * (len(heads) + 3)}")
        bases = {(play.name, kind): numbers for (play, kind), (numbers, _) in rows.items()}
        for (play, kind), (numbers, wrong) in rows.items():
            bad = set(broken(numbers, bases.get((play.base(), kind), {})))
            cells = [shown(numbers[name]) if name in numbers else "" for name in columns]
            cells = [f"**{cell}**" if name in bad else cell for name, cell in zip(columns, cells, strict=True)]
            verdict = "**broken**" if bad or wrong else "ok"
            failed |= bool(bad or wrong)
            print(f"| {play.name.partition(': ')[2]} | {kind} | {' | '.join(cells)} | {verdict} |")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="", help="the plays with this in their name, and those that they are compared with")
    parser.add_argument("--world", choices=("sqlite", "cloud"))
    parser.add_argument("--lanes", type=int, default=6, help="how many plays with slow recipients run at once; they wait most of the time")
    parser.add_argument("--keep", action="store_true", help="the directories of the worlds stay")
    wanted = parser.parse_args()
    wanted.program = wanted.program.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    chosen = [play for play in plays() if wanted.only in play.name]
    bases = {play.base() for play in chosen}
    chosen = [play for play in plays() if play in chosen or play.name in bases]
    kinds = [kind for kind in ("sqlite", "cloud") if wanted.world in (None, kind)]
    root = pathlib.Path(tempfile.mkdtemp(prefix="handout-fairness-"))
    servers = Cloud() if "cloud" in kinds else None
    results, lock = {}, threading.Lock()

    def run(play, kind):
        found = played(play, kind, wanted, servers if kind == "cloud" else None, root)
        with lock:
            results[play.name, kind] = found

    try:
        both = [(play, kind) for play in chosen for kind in play.kinds() if kind in kinds]
        # Those that wait run at once, and those that work do not.
        slow = [each for each in both if isinstance(each[0], Slow) and each[0].step]
        with concurrent.futures.ThreadPoolExecutor(wanted.lanes) as threads:
            list(threads.map(lambda each: run(*each), slow))
        for each in both:
            if each not in slow:
                run(*each)
        return 1 if table({(play, kind): results[play.name, kind] for play, kind in both}) else 0
    finally:
        if servers:
            servers.stop()
        if not wanted.keep:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
