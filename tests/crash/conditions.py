"""Everything that makes a crash worse: each is a world of its own, whose end is judged like the others."""

import contextlib
import glob
import os
import random
import resource
import signal
import subprocess
import threading
import time

import checker
from cloud import CloudWorld
from sink import Habit, habits
from world import PATIENCE, SqliteWorld


def relay_with_bad_habits(world, killer, number):
    """Each habit in turn, three times, with a worker that nobody kills."""
    bad = list(habits())
    worker = world.workers[0]
    worker.start()
    worker.wait_until_ready()
    for habit in bad:
        habit.times = 3
        world.sink.habits = [habit]
        body, job, recipients = world.jobs.good()
        world.submit(body, job, recipients, "done")
        deadline = time.monotonic() + PATIENCE
        while world.ready_messages():
            world.retries_come_now()
            time.sleep(0.1)
            if time.monotonic() > deadline:
                yield f"the relay that does {habit}: the job did not come to its end"
                break
    if worker.stop() != 0:
        yield f"the worker ended badly:\n{worker.tail()}"


def bad_habits_and_kills(world, killer, number):
    """A habit at each kill, and one mail in five whose 250 is lost."""
    for _ in range(number):
        world.sink.habits = [killer.rng.choice(list(habits())), Habit("DOT", "accept-and-close", times=killer.rng.choice((0, 0, 0, 0, 1)))]
        killer.kill(killer.rng.choice(("random", "intended", "replied", "concluded", "served", "done")))
    yield from ()


def duplicates_and_reorders(world, killer, number):
    """Messages come again, in any order, while they are being worked: the queue's hold is worth nothing."""
    over = threading.Event()

    def come_again():
        while not over.wait(0.03):
            with contextlib.suppress(checker.sqlite3.OperationalError):
                world.hours_pass()

    tide = threading.Thread(target=come_again)
    tide.start()
    try:
        for _ in range(number):
            killer.kill(killer.rng.choice(("random", "random", "intended", "replied", "done", "deleted", "SIGTERM")))
    finally:
        over.set()
        tide.join()
    yield from ()


def orderly_stops(world, killer, number):
    """SIGTERM at random instants: exit 0, and no doubt."""
    for _ in range(number):
        killer.kill("SIGTERM")
    yield from ()


def clock_steps(world, killer, number):
    """The clock jumps by up to a day, at each start and while the worker runs; the monotonic clock does not, as in a real step."""
    (library, *_) = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1") or [None]
    if library is None:
        print("clock steps: skipped: there is no libfaketime on this machine (Debian: apt-get install faketime)")
        return
    steps = world.dir / "clock"
    world.workers[0].environment.update(
        LD_PRELOAD=library, FAKETIME_TIMESTAMP_FILE=str(steps), FAKETIME_NO_CACHE="1", DONT_FAKE_MONOTONIC="1", FAKETIME_DONT_FAKE_MONOTONIC="1"
    )
    over = threading.Event()

    def step():
        rng = random.Random(7)
        while True:
            fresh = steps.with_suffix(".new")
            fresh.write_text(f"{rng.randint(-86400, 86400):+d}")
            fresh.rename(steps)
            if over.wait(0.5):
                return

    hand = threading.Thread(target=step)
    hand.start()
    try:
        for _ in range(number):
            killer.kill(killer.rng.choice(("random", "recorded", "intended", "replied", "done", "SIGTERM")))
    finally:
        over.set()
        hand.join()
    del world.workers[0].environment["LD_PRELOAD"]
    yield from ()


# A step within a request to the endpoint of the same process looks like a refusal, and a refused job is parked.
clock_steps.facts = {"clock_steps": True, "may_park": True}


def rotations(world, killer, number):
    """So many links that the audit log goes on in another segment, and deaths while it does."""
    world.least, world.patience = 1, 10.0
    for _ in range(number):
        killer.kill(killer.rng.choice(("rotating", "rotated", "random", "told", "SIGTERM")))
    yield from ()


rotations.objects = 900


def full_disk(world, killer, number):
    """The disk under the state directory is full, sooner or later: it is waited for, and nothing leaves without its line."""
    worker, state = world.workers[0], world.dir / "state"
    # What no disk does, a limit on the size of files, ends the worker.
    ends, told = not os.path.ismount(state), 0
    for attempt in range(number):
        world.top_up(world.least)
        world.hours_pass()
        # At first hardly enough to start.
        room = (40 if attempt == 0 else killer.rng.randint(0, 400)) * 1024
        with filled(state, room) as limits:
            worker.start(limits=limits)
            code = worker.wait(3.0)
            if code is None and killer.rng.random() < 0.5:
                code = worker.stop()
                if code != 0:
                    yield f"SIGTERM on a full disk: exit {code}\n{worker.tail()}"
            elif code is None:
                worker.kill()
                worker.wait(PATIENCE)
            elif not ends or code != 74:
                yield f"the worker ended with {code} on a full disk:\n{worker.tail()}"
            said = worker.log.read_bytes()[worker.log_from :]
            told += b"No space left" in said or ends and code == 74
        yield from checker.judge(checker.gather(world.dir), ended=False)
    print(f"full disk: said by {told} of {number} starts")
    if told == 0:
        yield "the disk was never full"


@contextlib.contextmanager
def filled(state, room):
    """Leaves so much room on the small disk; where none can be mounted, no file may grow by more."""
    if not os.path.ismount(state):
        most = max(path.stat().st_size for path in state.rglob("*") if path.is_file()) + room

        def limit():
            # Without this the signal would end the program, and no disk does that.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        yield limit
        return
    filler, disk = state / "filler", os.statvfs(state)
    filler.write_bytes(b"\0" * max(0, disk.f_bavail * disk.f_frsize - room))
    yield None
    filler.unlink()


@contextlib.contextmanager
def small_disk(directory):
    """A disk of 8 MiB under the state directory, if we may mount one."""
    state = directory / "state"
    state.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", state], stderr=subprocess.DEVNULL).returncode == 0
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", state], check=True)


full_disk.around = small_disk


def failing_calls(world, killers, number):
    """One call in five to S3 and SQS fails: before it arrives, or after it took effect."""
    from proxy import Faults

    world.proxy.faults = Faults(random.Random(7), 0.2)
    yield from kill_all(world, killers, number)


def tiny_visibility(world, killers, number):
    """Messages come back after two seconds, whoever works them."""
    world.proxy.longest_hold = 2
    yield from kill_all(world, killers, number)
    world.proxy.longest_hold = None


def wrong_leases(world, killers, number):
    """Leases of living workers end at any time: what they are for is to wait less, and nothing rests on them."""
    over = threading.Event()

    def end():
        while not over.wait(0.05):
            for worker in range(len(world.workers)):
                world.end_leases(worker)

    thief = threading.Thread(target=end)
    thief.start()
    world.proxy.longest_hold = 2
    try:
        yield from kill_all(world, killers, number)
    finally:
        over.set()
        thief.join()
    world.proxy.longest_hold = None


def kill_all(world, killers, number):
    def some(killer):
        for _ in range(max(1, number // len(killers))):
            killer.kill(killer.rng.choice(("random", "random", "intended", "replied", "concluded", "done", "SIGTERM")))

    threads = [threading.Thread(target=some, args=(killer,)) for killer in killers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield from ()


#: For one machine, and for several.
ALONE = (relay_with_bad_habits, bad_habits_and_kills, duplicates_and_reorders, orderly_stops, clock_steps, rotations, full_disk)
TOGETHER = (failing_calls, tiny_visibility, wrong_leases)
