#!/usr/bin/env python3
"""Kills real workers at random instants and at named places, again and again, and has what they leave behind judged.

    .test/venv/bin/python tests/crash/crash.py --program target/debug/handout [--kills N] [--seed S] [--ledger sqlite|s3] [--store NAME] [--keep DIR]

The schedule (which place, which jobs, which delays) comes from the seed, which is printed; what the kernel makes of it does not. Prints a
table by place, and exits 1 if the checker found anything. Ctrl-C ends it after the worlds under way, with the table so far. `--store` takes a
real server for the ledger in place of moto (tests/peers/servers.sh prepares it), ElasticMQ for the queue, and kills the store too.

    kills        died where it should, or at some instant
    missed       did not come to the place in time, and was killed all the same
    mails        accepted by the sink in that life
    doubts       intents without an outcome that it left behind
    duplicates   second mails of which that doubt was the cause, with `resend`
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import pathlib
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time

import checker
import conditions
from cloud import CloudWorld, Moto
from sink import Trap
from world import PATIENCE, SqliteWorld

#: Where a debug build ends itself; `tests/it/crash.rs` holds this against the program's own list.
FAILPOINTS = (
    "received leased listed planned signed recorded published go-ahead intended half-sent replied concluded told doubted decided served done deleted"
    " refused draining rotating rotated"
    # The portal's: see `portals.py`.
    " open-admitted open-signed open-recorded view-recorded try-taken code-used change-created object-tagged"
    # That of schedules: see `tests/it/schedules.rs`.
    " schedule-sent feedback-recorded"
    # Those of the audit log's retention: see `tests/it/audit/retention.rs`.
    " segment-drafted segment-compressed segment-shipped removal-recorded removal-begun"
    # Those of jobs in parts: see `tests/it/parts.rs`.
    " frozen chunk-served"
).split()
#: Where a worker ends itself.
WORKING = FAILPOINTS[: FAILPOINTS.index("open-admitted")]
#: Where it ends itself while a ZIP is made in a store that copies parts; the jobs of these worlds have none, and `tests/it/archive.rs` kills there.
IN_STORE = ("zip-begun", "zip-copied", "zip-uploaded", "zip-filled")
#: Where the relay ends it.
TRAPS = ("body", "dot", "kept", "reply")
#: At some instant; and in order, which must leave no doubt.
OTHERS = ("random", "SIGTERM")


def in_order():
    """All places of the program, in its order: the ZIP is made when the job is planned."""
    at = FAILPOINTS.index("planned") + 1
    return [*FAILPOINTS[:at], *IN_STORE, *FAILPOINTS[at:]]


#: How many kills a world sees before it is judged.
WORLD = 50

#: After how many kills everything is looked at, not only the books.
LOOK = 10

#: Places that a worker seldom comes to twice.
ONCE = ("rotating", "rotated", "refused", "doubted", "decided", "draining", "served", "done", "deleted")


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


def deck(rng, facts):
    """Places to kill at: each as often as the others, and random instants for a fourth of all."""
    while True:
        places = [*WORKING, *TRAPS, "SIGTERM"] + ["random"] * 8
        if facts["on_doubt"] == "hold":
            places.remove("decided")
        if facts["ledger"]["kind"] == "sqlite":
            places.remove("leased")
        # A segment is at least 1 MB: see the condition `rotations`.
        places = [place for place in places if place not in ("rotating", "rotated")]
        rng.shuffle(places)
        yield from places


class Killer:
    """Kills one worker of a world, again and again."""

    def __init__(self, world, number, rng, table):
        self.world, self.number, self.rng, self.table = world, number, rng, table
        self.worker, self.port = world.workers[number], number

    def kill(self, place):
        world = self.world
        if place in ("doubted", "decided") and not world.open_intents(self.number):
            self.kill("intended")
        if place == "refused":
            # Some for each worker, since any may take them.
            for _ in range(2 * len(world.workers)):
                world.submit(*world.jobs.refused())
        world.top_up(world.least)
        world.hours_pass(self.number)
        mails, before = world.sink.accepted[self.port], world.open_intents(self.number)
        killed = self.kill_at(place)
        new = world.open_intents(self.number) - before
        row = self.table.rows[place]
        row.kills += killed
        row.missed += not killed
        row.mails += world.sink.accepted[self.port] - mails
        row.doubts += len(new)
        for intent in new:
            world.labels[intent] = place
        with open(world.dir / "kills.jsonl", "a") as log:
            log.write(json.dumps({"at": time.time(), "worker": self.number, "place": place, "killed": killed, "doubts": len(new)}) + "\n")
        if place == "SIGTERM" and new:
            self.table.note(world, [f"an orderly stop left a doubt: {new}"])

    def kill_at(self, place):
        """Whether it died there; where it does not come to the place in time, it is killed all the same."""
        world, worker, traps = self.world, self.worker, self.world.sink.traps
        if place in ("SIGTERM", "draining"):
            return self.terminate(place)
        if place in TRAPS:
            traps[self.port] = Trap(place, worker.kill, self.rng.choice((1, 1, 2)))
            worker.start()
        elif place == "random":
            worker.start()
            if self.rng.random() < 0.1:
                time.sleep(self.rng.uniform(0, world.start_takes))
            else:
                worker.wait_until_ready()
                time.sleep(self.rng.uniform(0, world.work_takes))
            worker.kill()
        else:
            worker.start(f"{place}:{1 if place in ONCE else self.rng.choice((1, 1, 1, 2, 3))}")
        code = worker.wait(world.patience)
        traps.pop(self.port, None)
        if code is None:
            worker.kill()
            worker.wait(PATIENCE)
            return False
        if code != -signal.SIGKILL:
            raise RuntimeError(f"the worker ended with {code} instead of being killed at {place}:\n{worker.tail()}")
        return True

    def terminate(self, place):
        worker = self.worker
        worker.start(place if place == "draining" else None)
        worker.wait_until_ready()
        time.sleep(self.rng.uniform(0, 0.15))
        worker.process.terminate()
        code = worker.wait(PATIENCE)
        if code != (0 if place == "SIGTERM" else -signal.SIGKILL):
            raise RuntimeError(f"the worker ended with {code} after SIGTERM:\n{worker.tail()}")
        return True


def run_world(world, seed, kills, table):
    """Kills in one world, lets it come to its end, and has it judged."""
    killers = [Killer(world, number, random.Random(f"{seed}/{number}"), table) for number in range(len(world.workers))]

    def kill_one_worker(killer):
        places = deck(killer.rng, world.facts)
        while table.kills() < kills:
            place = next(places)
            found = len(table.violations)
            killer.kill(place)
            if world.still:
                judge_now(world, table)
            table.rows[place].violations += len(table.violations) - found

    with concurrent.futures.ThreadPoolExecutor(len(killers)) as threads:
        for done in [threads.submit(kill_one_worker, killer) for killer in killers]:
            done.result()
    end(world, table)


def run_condition(condition, world, seed, number, table):
    """Plays one condition in a world, lets it come to its end, and has it judged."""
    killers = [Killer(world, worker, random.Random(f"{seed}/{worker}"), table) for worker in range(len(world.workers))]
    table.note(world, condition(world, killers if len(killers) > 1 else killers[0], number))
    end(world, table)


def end(world, table):
    """Everything comes to its end and is judged."""
    code = world.settle()
    if code != 0:
        tails = "\n".join(worker.tail() for worker in world.workers)
        table.note(world, [f"the last worker ended with {code}:\n{tails}"])
    evidence = checker.gather(world.dir)
    table.note(world, checker.judge(evidence))
    table.ends.update(checker.tally(evidence))
    count_duplicates(evidence, world, table)
    world.close()


def judge_now(world, table):
    """What must hold at every instant, also between a kill and the next start."""
    if table.kills() % LOOK == 0:
        table.note(world, checker.judge(checker.gather(world.dir), ended=False))
    books = checker.gather_books(world.dir)
    table.note(world, checker.deleted_after_done(books, checker.Books(books)))
    table.note(world, checker.lost_records(world.seen, books))
    world.seen = books


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
    parser.add_argument("--program", type=pathlib.Path, help="a debug build: others have no failpoints")
    parser.add_argument("--places", action="store_true", help="only prints the program's own places to be killed at")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--ledger", choices=("sqlite", "s3"), default="sqlite")
    parser.add_argument("--store", choices=("versitygw", "minio"), help="with --ledger s3: a real one, which is killed and started again as well")
    parser.add_argument("--lanes", type=int, default=2, help="worlds at once")
    parser.add_argument("--condition", action="append", choices=[*CONDITIONS, "all"], help="instead of plain kills: what makes them worse")
    parser.add_argument("--keep", type=pathlib.Path, help="leaves the worlds there; they are kept in any case when something is found")
    wanted = parser.parse_args()
    if not (wanted.program or wanted.places):
        parser.error("--program is missing")
    return wanted


CONDITIONS = {condition.__name__.replace("_", "-"): condition for condition in (*conditions.ALONE, *conditions.TOGETHER)}


def worlds(wanted, seed):
    """What is played: (name, which ledger, under which condition, how it is run)."""
    if wanted.condition is None:
        for number, at in enumerate(range(0, wanted.kills, WORLD)):
            size = min(WORLD, wanted.kills - at)
            yield f"w{number}", wanted.ledger, None, lambda world, table, number=number, size=size: run_world(world, f"{seed}/{number}", size, table)
        return
    for name, condition in CONDITIONS.items():
        if name in wanted.condition or "all" in wanted.condition:
            ledger = "s3" if condition in conditions.TOGETHER else "sqlite"
            for on_doubt in ("hold", "resend"):
                play = lambda world, table, condition=condition: run_condition(condition, world, seed, wanted.kills, table)  # noqa: E731
                yield f"{name}-{on_doubt}", ledger, condition, play


@contextlib.contextmanager
def servers_for(wanted, rng):
    """moto; or a real store, which is killed all the while, and a real queue."""
    with contextlib.ExitStack() as ends:
        if wanted.store is None:
            servers = Moto()
            ends.callback(servers.stop)
            yield servers
            return
        here = pathlib.Path(__file__).resolve().parent
        sys.path += [str(here.parent / "peers"), str(here.parent / "faults")]
        from servers import STORES, Cloud, killed_again_and_again

        servers = Cloud({store.part: store for store in STORES}[wanted.store])
        ends.callback(servers.stop)
        with killed_again_and_again(servers.store, rng) as kills:
            yield servers
        print(f"{servers.store.name} was killed {len(kills)} times, too")


def main():
    wanted = arguments()
    if wanted.places:
        print(" ".join(in_order()))
        return
    seed = wanted.seed if wanted.seed is not None else secrets.randbelow(1 << 32)
    root = wanted.keep or pathlib.Path(tempfile.mkdtemp(prefix="handout-crash-"))
    root.mkdir(parents=True, exist_ok=True)
    played = list(worlds(wanted, seed))
    print(f"seed {seed}: {len(played)} worlds", flush=True)
    table, started = Table(), time.monotonic()

    def play(number, servers):
        name, ledger, condition, run = played[number]
        own, rng, directory = Table(), random.Random(f"{seed}/{number}"), root / name
        directory.mkdir()
        program, on_doubt = wanted.program.resolve(), ("hold", "resend")[number % 2]
        facts = getattr(condition, "facts", {})
        with getattr(condition, "around", contextlib.nullcontext)(directory):
            if ledger == "s3":
                world = CloudWorld(directory, program, rng, on_doubt, servers, **facts)
            else:
                objects = getattr(condition, "objects", 2)
                world = SqliteWorld(directory, program, rng, on_doubt, objects=objects, **facts)
            run(world, own)
        if not own.violations and not wanted.keep:
            shutil.rmtree(directory)
        if wanted.condition is not None:
            row = [sum(getattr(row, name) for row in own.rows.values()) for name in ("kills", "duplicates")]
            print(f"{name:40} {row[0]:5} kills, {dict(own.ends)}, {row[1]} duplicates, {len(own.violations)} violations", flush=True)
        return own

    needs_servers = any(ledger == "s3" for _, ledger, _, _ in played)
    with (
        servers_for(wanted, random.Random(seed)) if needs_servers else contextlib.nullcontext() as servers,
        concurrent.futures.ThreadPoolExecutor(wanted.lanes) as lanes,
    ):
        worlds_under_way = [lanes.submit(play, number, servers) for number in range(len(played))]

        def no_more(*_):
            for world in worlds_under_way:
                world.cancel()

        signal.signal(signal.SIGINT, no_more)
        for world in worlds_under_way:
            with contextlib.suppress(concurrent.futures.CancelledError):
                own = world.result()
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
