#!/usr/bin/env python3
"""An exhaustive check of the ledger's protocol (src/ledger.rs) against crashes, zombies, redeliveries, lost replies of the
relay and of the store, and people who answer doubts at any moment. Explicit states, breadth first, no dependencies.

    tests/model/ledger_model.py            the protocol in its three policies; exit 1 if an invariant breaks
    tests/model/ledger_model.py --broken   the mistakes that it does not make; exit 1 unless each one is found out
    tests/model/ledger_model.py --names    the transitions, one a line; a test looks for each in src/ledger.rs

What a worker knows of a recipient it read once, at the job's begin, as the code does: first the records of the job, then those of
its recipients, and others may record in between. From then on it trusts what it can create. A lease is not modelled as a fact: at every begin the owner of an open attempt may be thought alive or dead, and the
lease may be new, rightly or wrongly, and nothing may go wrong either way. A worker whose lease is new reads no records
(`first`): whether it is the first is decided by the plan, which it must create before anything else.

A worker that created the plan, and whose own outcome is `accepted`, ends the job without reading it again (`done-clean`).
"""
import sys
import time
from collections import deque

WORKERS, CRASHES, ATTEMPTS = 2, 1, 3
IDLE = ("idle",)

# The plan: the nonce of the process that created it; 0 where there is none. It names the objects that are handed out.
# Records: a tuple over attempts of (intent, outcome, late, verdict); '' where there is none. An intent is its owner's nonce.
NOTHING = (0, "", "", "")

HOLD, RESEND, PERSON = "hold", "resend", "person"
# How often the message may be delivered: a person who may answer at any moment makes many more states.
DELIVERIES = {HOLD: 4, RESEND: 4, PERSON: 3}
# Mistakes: what other designs do, and what each of them breaks.
MISTAKES = {
    "takeover": "an open attempt of somebody thought dead is made again",
    "audit-late": "the mail leaves before its lines are durable",
    "no-late": "a late outcome overwrites the doubt",
    "done-early": "the job is done though a recipient is not",
    "reread-trust": "a free attempt is made without creating its intent",
    "own-list": "a worker that is not the first goes on with the objects that it listed itself",
    "blind-end": "the message is deleted after done, without looking for a verdict that came before",
    "late-is-clean": "an outcome that came late counts as one about which no verdict can have come",
    "old-is-clean": "a worker that resumed a job ends it without looking for a verdict",
    "late-alone": "an attempt that was certainly not sent, recorded after a doubt about it, does not open the job again",
    "torn-read": "a worker reads the job's reopenings after its recipients, in one listing of many pages",
}

TRANSITIONS = (
    "recv busy-wait look first plan plan-412 plan-412-own read skip go audit pre-ok pre-fail intent intent-412 intent-412-own "
    "acc acc-noreply 4xx 5xx drop out late doubt resend hold sent giveup fin done done-clean reread allow reopen again delete"
).split()


NO_RECORDS = (NOTHING,) * ATTEMPTS

# The verdicts that allow another attempt: of `on_doubt`, and of a person.
ALLOWS = ("resend", "asked")


def start():
    """Message on the queue, deliveries, crashes, plan, records, lines, mails that left, whether one showed other objects than the
    plan's, done marks, reopenings, whether one came before the first done, whether one is still to be recorded for a verdict, next nonce,
    workers."""
    return (True, 0, 0, 0, NO_RECORDS, frozenset(), 0, False, frozenset(), 0, False, False, 1, (IDLE,) * WORKERS)


def put(records, n, field, value):
    row = list(records[n])
    row[field] = value
    return records[:n] + (tuple(row),) + records[n + 1 :]


def standing(records):
    """`standing()` of the code."""
    tried = [n for n in range(ATTEMPTS) if records[n][0]]
    if not tried:
        return "free", 0
    n = tried[-1]
    _, outcome, late, verdict = records[n]
    effective = late or outcome
    if not effective:
        return "busy", n
    if effective == "not" or (effective in ("unk", "rej") and verdict in ALLOWS):
        return ("free", n + 1) if n + 1 < ATTEMPTS else ("bound", n)
    if effective == "unk" and not verdict:
        return "doubt", n
    return "end", n


def steps(state, policy, mistake):
    """Every (transition, next state)."""
    message, deliveries, crashes, plan, records, lines, mails, strange, done, reopened, owed, pending, nonce, workers = state
    for i, worker in enumerate(workers):

        def to(at, **changes):
            new = {
                "message": message,
                "deliveries": deliveries,
                "crashes": crashes,
                "plan": plan,
                "records": records,
                "lines": lines,
                "mails": mails,
                "strange": strange,
                "done": done,
                "reopened": reopened,
                "owed": owed,
                "pending": pending,
                "nonce": nonce,
            }
            new.update(changes)
            # Workers are alike: their order makes no other state.
            return (*new.values(), tuple(sorted(workers[:i] + (at,) + workers[i + 1 :], key=hash)))

        def resumed(objects):
            """A worker that has read the records of the job, and reads those of its recipients next."""
            known = records if mistake == "torn-read" else None
            return ("read", known, (reopened, "resumed", objects))

        at = worker[0]
        if at != "idle" and crashes < CRASHES:
            yield "crash", to(IDLE, crashes=crashes + 1)
        if at == "idle":
            if message and deliveries < DELIVERIES[policy]:
                yield "recv", to(("begin",), deliveries=deliveries + 1)
        elif at == "begin":
            # The lease is new: nothing is read.
            yield "first", to(("plan",))
            if reopened in done:
                yield "look", to(("delete",))
                continue
            yield "busy-wait", to(IDLE)
            yield "look", to(resumed(plan) if plan else ("plan",))
        elif at == "plan":
            if not plan:
                first = ("decide", NO_RECORDS, (0, "first", nonce))
                yield "plan", to(first, plan=nonce, nonce=nonce + 1)
                # Carried out, the reply lost, asked again, 412: the nonce tells that it is ours.
                yield "plan-412-own", to(first, plan=nonce, nonce=nonce + 1)
            elif mistake == "own-list":
                yield "plan-412", to(resumed(nonce), nonce=nonce + 1)
            elif reopened in done:
                yield "plan-412", to(("delete",))
            else:
                yield "plan-412", to(resumed(plan))
        elif at == "read":
            # The records of the recipients are read behind those of the job: meanwhile others record.
            _, seen, k = worker
            if mistake == "torn-read":
                yield "read", to(("decide", seen, (reopened, *k[1:])))
            else:
                yield "read", to(("decide", records, k))
        elif at == "decide":
            _, seen, k = worker
            where, n = standing(seen)
            if where == "end":
                yield "skip", to(("finish", k))
            elif where == "free":
                yield "go", to(("audit", n, k))
            elif where == "bound":
                yield "giveup", to(IDLE)
            elif where == "busy":
                if mistake == "takeover":
                    taken = put(records, n, 0, nonce)
                    yield "takeover", to(("dot", n, nonce, k), records=taken, nonce=nonce + 1)
                    continue
                # Created, or read if somebody was faster: the one that stands is what is gone by.
                stands = records if records[n][1] else put(records, n, 1, "unk")
                yield "doubt", to(("decide", put(seen, n, 1, stands[n][1]), k), records=stands)
            else:
                answers = ["sent"] + (["resend"] if policy == RESEND and n + 1 < ATTEMPTS else [])
                for answer in answers:
                    stands = records if records[n][3] else put(records, n, 3, answer)
                    known = put(seen, n, 3, stands[n][3])
                    yield answer, to(("decide", known, k), records=stands)
                if policy == RESEND and n + 1 == ATTEMPTS:
                    yield "giveup", to(IDLE)
                if policy != RESEND:
                    yield "hold", to(("finish", k))
            if mistake == "done-early":
                yield "fin", to(("finish", k))
        elif at == "audit":
            _, n, k = worker
            kept = lines if mistake == "audit-late" else lines | {n}
            yield "audit", to(("pre", n, k), lines=kept)
        elif at == "pre":
            _, n, k = worker
            yield "pre-fail", to(IDLE)
            yield "pre-ok", to(("intent", n, k))
        elif at == "intent":
            _, n, k = worker
            if mistake == "reread-trust":
                yield "intent", to(("dot", n, nonce, k), records=put(records, n, 0, nonce), nonce=nonce + 1)
            elif not records[n][0]:
                ours = put(records, n, 0, nonce)
                yield "intent", to(("dot", n, nonce, k), records=ours, nonce=nonce + 1)
                # Carried out, the reply lost, asked again, 412: the nonce tells that it is ours.
                yield "intent-412-own", to(("dot", n, nonce, k), records=ours, nonce=nonce + 1)
            else:
                yield "intent-412", to(IDLE)
        elif at == "dot":
            _, n, mine, k = worker
            other = strange or k[2] != plan
            for name, left, outcome in (
                ("acc", 1, "acc"),
                ("acc-noreply", 1, "unk"),
                ("4xx", 0, "not"),
                ("5xx", 0, "rej"),
                ("drop", 0, "unk"),
            ):
                yield name, to(("out", n, outcome, k), mails=mails + left, strange=other if left else strange)
        elif at == "out":
            _, n, outcome, k = worker
            comes_back = outcome == "not" or (outcome == "unk" and policy == RESEND)
            after = IDLE if comes_back else ("finish", k)
            # Ours, and accepted: no verdict about it can come.
            if outcome == "acc" and (k[1] == "first" or mistake == "old-is-clean"):
                clean = ("finish", (k[0], "clean", k[2]))
            else:
                clean = after
            if mistake == "late-is-clean" and records[n][1]:
                after = clean
            if not records[n][1]:
                yield "out", to(clean, records=put(records, n, 1, outcome))
            elif mistake == "no-late":
                yield "late", to(after, records=put(records, n, 1, outcome))
            else:
                late = records if records[n][2] else put(records, n, 2, outcome)
                # Others may have ended the job with a doubt that they held. If this worker dies now, `resend` finds the recipient.
                if outcome == "not" and mistake != "late-alone":
                    yield "late", to(("reopen",), records=late, pending=True)
                else:
                    yield "late", to(after, records=late)
        elif at == "reopen":
            yield "reopen", to(IDLE, reopened=reopened + 1, owed=owed or not done, pending=False)
        elif at == "finish":
            yield "fin", to(("done", worker[1]))
        elif at == "done":
            k = worker[1]
            if k[1] == "clean" or mistake == "blind-end":
                yield "done-clean", to(("delete",), done=done | {k[0]})
            else:
                yield "done", to(("reread",), done=done | {k[0]})
        elif at == "reread":
            # Reopened meanwhile, the job goes on: the message stays.
            yield "reread", to(("delete",) if reopened in done else IDLE)
        elif at == "delete":
            yield "delete", to(IDLE, message=False)

    if policy == PERSON:
        where, n = standing(records)

        def allowed(answered):
            """Another attempt, allowed by a verdict; the mark that opens the job is recorded next, by somebody who may die before."""
            return (*state[:4], answered, *state[5:11], True, *state[12:])

        if where == "doubt":
            # `resolve`: the verdict, and then the mark that lets a job that was done be worked again.
            yield "sent", (*state[:4], put(records, n, 3, "sent"), *state[5:])
            if n + 1 < ATTEMPTS:
                yield "allow", allowed(put(records, n, 3, "asked"))
        if where == "end" and (records[n][2] or records[n][1]) == "rej" and not records[n][3] and n + 1 < ATTEMPTS:
            # `resend`: another attempt at somebody whom the relay refused.
            yield "again", allowed(put(records, n, 3, "asked"))
        if pending:
            # Before the first `done`, the message must bring the job about.
            yield "reopen", (*state[:9], reopened + 1, owed or not done, False, nonce, workers)
        if not message and reopened not in done and deliveries < DELIVERIES[policy]:
            yield "submit", (True, *state[1:])


def broken(state):
    """The invariant that does not hold, if any."""
    message, _, _, _, records, lines, mails, strange, done, reopened, owed, pending, _, workers = state
    resent = sum(1 for _, outcome, _, verdict in records if verdict in ALLOWS)
    if mails > 1 + resent:
        return "a recipient was mailed once more than anybody decided"
    if any(verdict and outcome not in ("unk", "rej") for _, outcome, _, verdict in records):
        return "a verdict stands where neither a doubt nor a refusal is recorded"
    if strange:
        return "a mail shows other objects than the job's plan names"
    if mails and not lines:
        return "a link left without its line"
    if mails == 0 and any("acc" in row for row in records):
        return "accepted is recorded, and nothing was sent"
    ended = any(o in ("acc", "rej", "unk") or late for _, o, late, _ in records)
    if done and not ended:
        return "the job is done, and its recipient has no end"
    if not message and not done:
        return "the message is gone before done"
    if not message and owed and max(done) == 0:
        return "the message is gone, and a verdict that came before done is not carried out"
    # Who has a mail is owed none. A verdict of `on_doubt` about what turned out to be rejected owes nothing.
    where, n = standing(records)
    rejected = any((late or outcome) == "rej" and verdict != "asked" for _, outcome, late, verdict in records)
    is_owed = where == "free" and n > 0 and mails == 0 and not rejected
    if not message and reopened in done and not pending and is_owed and all(worker == IDLE for worker in workers):
        return "the job is done and its message gone, and an attempt is owed that nobody makes"
    return None


def check(policy, mistake=None):
    """Explores all states; how many, and the first way to each broken invariant."""
    first = start()
    seen, queue, found = {first: None}, deque([first]), {}
    names = set()
    while queue:
        state = queue.popleft()
        for name, new in steps(state, policy, mistake):
            names.add(name)
            if new in seen:
                continue
            seen[new] = (state, name)
            why = broken(new)
            if not why:
                queue.append(new)
            elif why not in found:
                trace, at = [], new
                while seen[at]:
                    at, name = seen[at]
                    trace.append(name)
                found[why] = trace[::-1]
                if mistake:
                    return len(seen), found, names
    return len(seen), found, names


def main():
    if "--names" in sys.argv:
        print("\n".join(TRANSITIONS))
        return 0
    failed = False
    verdicts = ("blind-end", "late-is-clean", "old-is-clean", "torn-read", "late-alone")
    mistakes = [(PERSON if mistake in verdicts else HOLD, mistake) for mistake in MISTAKES]
    runs = mistakes if "--broken" in sys.argv else [(policy, None) for policy in DELIVERIES]
    used = set()
    for policy, mistake in runs:
        began = time.time()
        states, found, names = check(policy, mistake)
        used |= names
        verdict = "; ".join(f"{why} <- {' '.join(trace)}" for why, trace in found.items()) or "holds"
        print(f"{mistake or policy:14} {states:>8} states {time.time() - began:5.1f} s  {verdict}", flush=True)
        failed |= bool(found) != bool(mistake)
    if "--broken" not in sys.argv:
        unused = set(TRANSITIONS) - used
        unknown = used - set(TRANSITIONS) - {"crash", "submit"}
        if unused or unknown:
            print(f"never taken: {sorted(unused)}; without a name: {sorted(unknown)}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
