#!/usr/bin/env python3
"""An exhaustive check of jobs in parts (src/distribute/parts.rs): recipients that are frozen by the plan, parts that are mailed once by
their ids, and chunks with a record, against kills, two workers at once, a list that changes, and recipients of slow domains who are set
aside until all chunks were gone through. That a part with one id is mailed once is
what ledger_model.py checks. Explicit states, breadth first, no dependencies.

    tests/model/parts_model.py            the protocol; exit 1 if an invariant breaks
    tests/model/parts_model.py --broken   the mistakes that it does not make; exit 1 unless each one is found out
"""
import sys
import time
from collections import deque

#: The list before and after its change. In the second, row 0 is another person.
LISTS = (("ann", "bo", "cy"), ("dan", "ann", "eve"))
CHUNK = 2
CRASHES, RECEIPTS = 2, 4

MISTAKES = {
    "read-again": "each delivery reads the list again",
    "own-list": "a worker that loses the race for the plan goes on with the list that it read",
    "row-ids": "a part's id is the number of its row, and each delivery reads the list again",
    "chunk-first": "the record of a chunk is written before its parts are done",
    "record-aside": "a chunk is recorded although a recipient of it was set aside",
    "forget-aside": "the job is done although recipients were set aside",
    "no-create-only": "the plan is written over that of another worker",
}

IDLE = ("idle",)
NONE = frozenset()


def start():
    """Which list there is, the plan, the chunks with a record, whether the job is done, the ids of mailed parts, the mails, crashes,
    receipts, the workers."""
    return (0, None, frozenset(), False, frozenset(), (), 0, 0, (IDLE, IDLE))


def chunks(people):
    return range((len(people) + CHUNK - 1) // CHUNK)


def steps(state, mistake):
    """Every (transition, next state)."""
    listed, plan, recorded, done, ids, mails, crashes, receipts, workers = state
    if listed == 0:
        yield "change", (1, *state[1:])
    for i, worker in enumerate(workers):

        def to(at, **changes):
            new = dict(
                listed=listed, plan=plan, recorded=recorded, done=done, ids=ids, mails=mails, crashes=crashes, receipts=receipts
            )
            new.update(changes)
            return (*new.values(), workers[:i] + (at,) + workers[i + 1 :])

        def serve(people, row, onward):
            """The part of a row: it is mailed, unless it was before."""
            part = row if mistake == "row-ids" else people[row]
            if part in ids:
                return f"part-done {i}", to(onward)
            return f"mail {i}", to(onward, ids=ids | {part}, mails=tuple(sorted((*mails, people[row]))))

        step = worker[0]
        if step != "idle" and crashes < CRASHES:
            yield f"kill {i}", to(IDLE, crashes=crashes + 1)
        if step == "idle":
            if receipts < RECEIPTS and not done:
                if plan is None or mistake in ("read-again", "row-ids"):
                    yield f"recv {i}", to(("read",), receipts=receipts + 1)
                else:
                    yield f"recv {i}", to(("chunk", plan, 0, NONE), receipts=receipts + 1)
        elif step == "read":
            yield f"read {i}", to(("plan", LISTS[listed]))
        elif step == "plan":
            people = worker[1]
            if plan is None or mistake == "no-create-only":
                yield f"plan {i}", to(("chunk", people, 0, NONE), plan=people)
            elif mistake in ("own-list", "read-again", "row-ids"):
                yield f"plan-412 {i}", to(("chunk", people, 0, NONE))
            else:
                yield f"plan-412 {i}", to(("chunk", plan, 0, NONE))
        elif step == "chunk":
            people, number, aside = worker[1:]
            if number not in chunks(people):
                if aside and mistake != "forget-aside":
                    yield f"turn {i}", to(("aside", people, aside))
                else:
                    yield f"done {i}", to(IDLE, done=True)
            elif number in recorded:
                yield f"skip {i}", to(("chunk", people, number + 1, aside))
            elif mistake == "chunk-first":
                yield f"record {i}", to(("part", people, number, 0, aside), recorded=recorded | {number})
            else:
                yield f"begin {i}", to(("part", people, number, 0, aside))
        elif step == "part":
            people, number, at, aside = worker[1:]
            row = number * CHUNK + at
            if at == CHUNK or row >= len(people):
                onward = ("chunk", people, number + 1, aside)
                if mistake != "record-aside" and any(row // CHUNK == number for row in aside):
                    yield f"leave {i}", to(onward)
                else:
                    yield f"record {i}", to(onward, recorded=recorded | {number})
            else:
                yield f"set-aside {i}", to(("part", people, number, at + 1, aside | {row}))
                yield serve(people, row, ("part", people, number, at + 1, aside))
        elif step == "aside":
            people, aside = worker[1:]
            if not aside:
                yield f"done {i}", to(IDLE, done=True)
                continue
            row, number = min(aside), min(aside) // CHUNK
            rest = aside - {row}
            name, served = serve(people, row, ("aside", people, rest))
            if not any(other // CHUNK == number for other in rest):
                # The record follows in a step of its own.
                served = serve(people, row, ("record", people, number, rest))[1]
            yield name, served
        elif step == "record":
            people, number, rest = worker[1:]
            yield f"record {i}", to(("aside", people, rest), recorded=recorded | {number})


def broken(state):
    _, plan, _, done, _, mails, *_ = state
    if len(set(mails)) < len(mails):
        return "a recipient is mailed twice"
    if plan is not None and not set(mails) <= set(plan):
        return "a recipient is mailed whom the plan does not name"
    if done and set(plan) != set(mails):
        return "the job is done, and a recipient has no mail"
    return None


def check(mistake):
    """Every reachable state: how many there are, and the first that breaks an invariant with the way to it."""
    first = start()
    before, waiting = {first: None}, deque([first])
    while waiting:
        state = waiting.popleft()
        fault = broken(state)
        if fault:
            way = []
            while before[state]:
                state, name = before[state]
                way.append(name)
            return len(before), fault, ", ".join(reversed(way))
        for name, following in steps(state, mistake):
            if following not in before:
                before[following] = (state, name)
                waiting.append(following)
    return len(before), None, ""


def main():
    is_wrong = False
    for mistake in MISTAKES if "--broken" in sys.argv else [None]:
        began = time.monotonic()
        states, fault, way = check(mistake)
        seconds = time.monotonic() - began
        label = f"parts: {mistake}: {MISTAKES[mistake]}" if mistake else "parts"
        print(f"{label}: {states} states, {seconds:.1f} s: {fault or 'holds'}{': ' + way if way else ''}")
        is_wrong |= bool(fault) != bool(mistake)
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
