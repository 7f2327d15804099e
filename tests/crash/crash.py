#!/usr/bin/env python3
"""Kills real workers at random instants and at named places, again and again, and has what they leave behind judged.

    .test/venv/bin/python tests/crash/crash.py --program target/debug/handout [--kills N] [--seed S] [--ledger sqlite|s3] [--keep DIR]

The schedule (which place, which jobs, which delays) comes from the seed, which is printed; what the kernel makes of it does not. Prints a
table by place, and exits 1 if the checker found anything.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import pathlib
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time

import checker
from sink import Trap
from world import PATIENCE, SqliteWorld

#: Where a debug build ends itself; `tests/it/crash.rs` holds this against the program's own list.
FAILPOINTS = (
    "received planned listed signed recorded published go-ahead intended half-sent replied concluded told doubted decided served done deleted"
    " refused draining"
).split()
#: Where the relay ends it.
TRAPS = ("body", "dot", "kept", "reply")
#: At some instant; and in order, which must leave no doubt.
OTHERS = ("random", "SIGTERM")

#: How many kills a world sees before it is judged.
WORLD = 50

#: After how many kills everything is looked at, not only the books.
LOOK = 10

#: Places that a worker seldom comes to twice.
ONCE = ("refused", "doubted", "decided", "draining", "served", "done", "deleted")


@dataclasses.dataclass
class Row:
    kills: int = 0
    missed: int = 0
    mails: int = 0
    doubts: int = 0
    duplicates: int = 0
    violations: int = 0


class Table:
    def __init__(self):
        self.rows = collections.defaultdict(Row)
        self.ends = collections.Counter()
        self.violations = []

    def add(self, other):
        for place, row in other.rows.items():
            mine = self.rows[place]
            for field in dataclasses.fields(Row):
                setattr(mine, field.name, getattr(mine, field.name) + getattr(row, field.name))
        self.ends.update(other.ends)
        self.violations += other.violations

    def note(self, world, violations):
        """Keeps each violation once, however often it is seen."""
        for violation in violations:
            words = f"{world.dir.name}: {violation}"
            if words not in self.violations:
                self.violations.append(words)

    def kills(self):
        return sum(row.kills for row in self.rows.values())

    def show(self):
        names = [field.name for field in dataclasses.fields(Row)]
        print(f"{'killed':24}" + "".join(f"{name:>12}" for name in names))
        known = [*FAILPOINTS, *TRAPS, *OTHERS]
        for place in sorted(self.rows, key=lambda place: known.index(place) if place in known else len(known)):
            print(f"{place:24}" + "".join(f"{getattr(self.rows[place], name):12}" for name in names))
        total = [sum(getattr(row, name) for row in self.rows.values()) for name in names]
        print(f"{'all':24}" + "".join(f"{number:12}" for number in total))
        print("recipients: " + ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items())))


def deck(rng, on_doubt):
    """Places to kill at: each as often as the others, and random instants for a fourth of all."""
    while True:
        places = [*FAILPOINTS, *TRAPS, "SIGTERM"] + ["random"] * 8
        if on_doubt == "hold":
            places.remove("decided")
        rng.shuffle(places)
        yield from places


class Killer:
    """Kills the worker of a world of one machine."""

    def __init__(self, world, rng, table):
        self.world, self.rng, self.table = world, rng, table
        self.start_takes = 0.1

    def kill(self, place):
        world = self.world
        if place in ("doubted", "decided") and not world.open_intents():
            self.kill("intended")
        if place == "refused":
            world.submit(*world.jobs.refused())
        world.top_up()
        world.hours_pass(shuffled=True)
        mails, before = world.sink.accepted, world.open_intents()
        killed = self.kill_at(place)
        row = self.table.rows[place]
        row.kills += killed
        row.missed += not killed
        row.mails += world.sink.accepted - mails
        new = world.open_intents() - before
        row.doubts += len(new)
        for intent in new:
            world.labels[intent] = place
        if place == "SIGTERM" and new:
            self.table.note(world, [f"an orderly stop left a doubt: {new}"])

    def kill_at(self, place):
        """Whether it died there; where it does not come to the place in time, it is killed all the same."""
        world, worker = self.world, self.world.worker
        if place in TRAPS:
            port = 0
            world.sink.traps[port] = Trap(place, worker.kill, self.rng.randint(1, 2))
            worker.start()
        elif place == "random":
            worker.start()
            time.sleep(self.rng.uniform(0.5, 1) * self.start_takes if self.rng.random() < 0.1 else self.start_takes + self.rng.uniform(0, 0.25))
            worker.kill()
        elif place in ("SIGTERM", "draining"):
            return self.terminate(place)
        else:
            worker.start(f"{place}:{1 if place in ONCE else self.rng.choice((1, 1, 1, 2, 3))}")
        code = worker.wait(3.0)
        if code is None:
            worker.kill()
            worker.wait(PATIENCE)
            world.sink.traps.clear()
            return False
        if code != -signal.SIGKILL:
            raise RuntimeError(f"the worker ended with {code} instead of being killed at {place}:\n{worker.tail()}")
        return True

    def terminate(self, place):
        world, worker = self.world, self.world.worker
        worker.start(place if place == "draining" else None)
        worker.wait_until_ready()
        self.start_takes = 0.8 * self.start_takes + 0.2 * (time.monotonic() - worker.started_at)
        time.sleep(self.rng.uniform(0, 0.15))
        worker.process.terminate()
        code = worker.wait(PATIENCE)
        if code != (0 if place == "SIGTERM" else -signal.SIGKILL):
            raise RuntimeError(f"the worker ended with {code} after SIGTERM:\n{worker.tail()}")
        return True


def run_world(directory, program, seed, kills, table):
    """Kills in one world, lets it come to its end, and has it judged."""
    rng = random.Random(seed)
    on_doubt = rng.choice(("hold", "resend"))
    world = SqliteWorld(directory, program, rng, on_doubt)
    places, killer = deck(rng, on_doubt), Killer(world, rng, table)
    while table.kills() < kills:
        place = next(places)
        found = len(table.violations)
        killer.kill(place)
        if table.kills() % LOOK == 0:
            judge_now(world, table, ended=False)
        books = checker.gather_books(directory)
        table.note(world, checker.deleted_after_done(books, checker.Books(books)))
        table.rows[place].violations += len(table.violations) - found
    code = world.settle()
    if code != 0:
        table.note(world, [f"the last worker ended with {code}:\n{world.worker.tail()}"])
    judge_now(world, table, ended=True)
    world.close()


def judge_now(world, table, ended):
    evidence = checker.gather(world.dir)
    table.note(world, checker.judge(evidence, ended))
    if ended:
        table.ends.update(checker.tally(evidence))
        count_duplicates(evidence, world, table)


def count_duplicates(evidence, world, table):
    """Blames each extra mail on the kill that left its first doubt."""
    secret = checker.Secret(bytes.fromhex(evidence.facts["secret"]))
    for (job, to), mails in checker.mails_by_recipient(evidence).items():
        if len(mails) > 1:
            rid = secret.recipient_id(to)
            blamed = [place for (j, r, _), place in sorted(world.labels.items()) if (j, r) == (job, rid)]
            table.rows[blamed[0] if blamed else "nobody"].duplicates += len(mails) - 1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, type=pathlib.Path, help="a debug build: others have no failpoints")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--ledger", choices=("sqlite", "s3"), default="sqlite")
    parser.add_argument("--lanes", type=int, default=2, help="worlds at once")
    parser.add_argument("--keep", type=pathlib.Path, help="leaves the worlds there; they are kept in any case when something is found")
    return parser.parse_args()


def main():
    wanted = arguments()
    seed = wanted.seed if wanted.seed is not None else secrets.randbelow(1 << 32)
    print(f"seed {seed}: {wanted.kills} kills, ledger {wanted.ledger}", flush=True)
    root = wanted.keep or pathlib.Path(tempfile.mkdtemp(prefix="handout-crash-"))
    root.mkdir(parents=True, exist_ok=True)
    table, started = Table(), time.monotonic()
    sizes = [min(WORLD, wanted.kills - at) for at in range(0, wanted.kills, WORLD)]

    def world(number):
        own = Table()
        directory = root / f"w{number}"
        directory.mkdir()
        run_world(directory, wanted.program.resolve(), f"{seed}/{number}", sizes[number], own)
        if not own.violations and not wanted.keep:
            shutil.rmtree(directory)
        return own

    with concurrent.futures.ThreadPoolExecutor(wanted.lanes) as lanes:
        for own in lanes.map(world, range(len(sizes))):
            table.add(own)
            for violation in own.violations:
                print(f"VIOLATION  {violation}", flush=True)
    table.show()
    took = time.monotonic() - started
    print(f"{table.kills()} kills in {took:.0f} s; {len(table.violations)} violations" + (f"; the worlds are in {root}" if table.violations else ""))
    if not table.violations and not wanted.keep:
        root.rmdir()
    sys.exit(bool(table.violations))


if __name__ == "__main__":
    main()
