#!/usr/bin/env python3
"""An exhaustive check of the portal's records (src/ledger/portal.rs, src/portal_access/revocations.rs): tries at a code and in a day, and
revocations that several portals see, against crashes, races and lost replies. Explicit states, breadth first, no dependencies.

    tests/model/portal_model.py            the two protocols; exit 1 if an invariant breaks
    tests/model/portal_model.py --broken   the mistakes that they do not make; exit 1 unless each one is found out
"""
import sys
import time
from collections import deque

# ── Tries at a code ──
# Two portals, a challenge with two tries, any mix of right and wrong codes, crashes at every step.

TRIES, REQUESTS, CRASHES = 2, 4, 1

TRY_MISTAKES = {
    "counter": "tries are counted by reading a number and writing it back",
    "judged-first": "a code is judged before its try is recorded",
    "not-used-up": "a right code is not used up",
    "used-by-read": "a code is used up by reading that it is not and then writing that it is",
}


def tries_start():
    """Slots, whether it is used, requests, crashes, wrong codes that were answered, sign-ins, the portals."""
    return (0, False, 0, 0, 0, 0, (("idle",), ("idle",)))


def tries_steps(state, mistake):
    """Every (transition, next state)."""
    slots, used, requests, crashes, wrong, signed_in, portals = state
    for i, portal in enumerate(portals):

        def to(at, **changes):
            new = {
                "slots": slots,
                "used": used,
                "requests": requests,
                "crashes": crashes,
                "wrong": wrong,
                "signed_in": signed_in,
            }
            new.update(changes)
            return (*new.values(), portals[:i] + (at,) + portals[i + 1 :])

        def answered(kind):
            if kind == "wrong":
                return to(("idle",), wrong=wrong + 1)
            return to(("idle",), signed_in=signed_in + 1)

        at = portal[0]
        if at != "idle" and crashes < CRASHES:
            yield "crash", to(("idle",), crashes=crashes + 1)
        if at == "idle":
            if requests < REQUESTS:
                for kind in ("wrong", "right"):
                    where = ("judge", kind) if mistake == "judged-first" else ("slot", kind)
                    if mistake == "counter":
                        where = ("count", kind)
                    yield kind, to(where, requests=requests + 1)
        elif at == "count":
            yield "read", to(("write", portal[1], slots))
        elif at == "write":
            _, kind, seen = portal
            if seen >= TRIES:
                yield "full", to(("idle",))
            else:
                yield "write", to(("use", kind) if kind == "right" else ("answer", kind), slots=seen + 1)
        elif at == "judge":
            # The answer leaves, and then the try is recorded.
            yield "answer", answered(portal[1])[:-1] + (portals[:i] + (("note",),) + portals[i + 1 :],)
        elif at == "note":
            yield "note", to(("idle",), slots=min(slots + 1, TRIES))
        elif at == "slot":
            # A create wins once; whose reply was lost finds its own nonce, which is the same step.
            kind = portal[1]
            if slots >= TRIES:
                yield "full", to(("idle",))
            else:
                yield "create", to(("use", kind) if kind == "right" else ("answer", kind), slots=slots + 1)
        elif at == "use":
            kind = portal[1]
            if mistake == "not-used-up":
                yield "use", to(("answer", kind))
            elif mistake == "used-by-read":
                yield "look", to(("idle",) if used else ("put", kind))
            elif used:
                yield "used-before", to(("idle",))
            else:
                yield "use", to(("answer", kind), used=True)
        elif at == "put":
            yield "put", to(("answer", portal[1]), used=True)
        elif at == "answer":
            yield "answer", answered(portal[1])


def tries_broken(state):
    slots, _, _, _, wrong, signed_in, portals = state
    if signed_in > 1:
        return "a code signed in twice"
    if wrong + signed_in > TRIES:
        return "more tries were answered than a challenge has"
    return None


# ── Tries in a day ──
# Two portals; codes that were mailed, and challenges whose code no mail has, which a stranger can make at will. Each request takes a
# slot of the recipient's day before its code is judged. A new challenge has tries of its own, so that the day is the only limit.

DAY, DAY_REQUESTS = 2, 4

DAY_MISTAKES = {
    "counted": "the tries of a day are counted first, and recorded after the code is judged",
    "right-is-free": "a right code takes no slot of the day, and is judged when the day is used up",
    "unmailed-count": "a try at a code that no mail has takes a slot of the day",
}


def day_start():
    """Slots of the day, requests, codes that were judged, mailed tries that were made, refused ones of these, the portals."""
    return (0, 0, 0, 0, 0, (("idle",), ("idle",)))


def day_steps(state, mistake):
    """Every (transition, next state)."""
    slots, requests, judged, mailed, refused, portals = state
    for i, portal in enumerate(portals):

        def to(at, **changes):
            new = {"slots": slots, "requests": requests, "judged": judged, "mailed": mailed, "refused": refused}
            new.update(changes)
            return (*new.values(), portals[:i] + (at,) + portals[i + 1 :])

        at, *rest = portal
        if at == "idle" and requests < DAY_REQUESTS:
            for kind in ("wrong", "right", "unmailed"):
                is_mailed = kind != "unmailed"
                yield kind, to(("count" if mistake == "counted" else "slot", kind), requests=requests + 1, mailed=mailed + is_mailed)
        elif at == "count":
            # The answer leaves, and then the try is recorded.
            kind = rest[0]
            if kind == "unmailed":
                yield "blind", to(("idle",))
            elif slots >= DAY:
                yield "full", to(("idle",), refused=refused + 1)
            else:
                yield "judge", to(("note",), judged=judged + 1)
        elif at == "note":
            yield "note", to(("idle",), slots=min(slots + 1, DAY))
        elif at == "slot":
            kind = rest[0]
            if kind == "unmailed" and mistake != "unmailed-count":
                yield "blind", to(("idle",))
            elif kind == "right" and mistake == "right-is-free":
                yield "judge", to(("idle",), judged=judged + 1)
            elif slots >= DAY:
                yield "full", to(("idle",), refused=refused + (kind != "unmailed"))
            elif kind == "unmailed":
                yield "create", to(("idle",), slots=slots + 1)
            else:
                yield "create", to(("idle",), slots=slots + 1, judged=judged + 1)


def day_broken(state):
    _, _, judged, mailed, refused, _ = state
    if judged > DAY:
        return "more codes were judged than a day has tries"
    if refused and mailed <= DAY:
        return "a recipient was kept out by tries at codes that were never mailed"
    return None


# ── Revocations ──
# Operators add changes to a log by conditional creates; portals check what is behind the last change they know. An open waits
# for a check that began after it came (a check period of zero).

OPENS = 2

LINK_MISTAKES = {
    "cached": "an open trusts the last check, whenever it began",
    "ended-after": "an open trusts a check that ended after it came, though it began before",
    "overwrite": "a change is written without a condition, over another",
    "skip-hole": "a portal goes on behind a change that it could not read",
}


def links_start():
    """The log, the operators, whether the revocation returned, the portals, the opens, what went wrong."""
    portal = ("idle", 0, (), None)
    return ((), (("ask", "revoke"), ("ask", "restore")), False, (portal, portal), 0, "")


def is_revoked(log):
    return bool(log) and log[-1] == "revoke"


def links_steps(state, mistake):
    """Every (transition, next state).

    A portal is (step, changes known, what they say, check): `check` is None, or (began before the open, log read or None).
    """
    log, operators, returned, portals, opens, bad = state
    for i, operator in enumerate(operators):
        step, kind, *rest = operator

        def told(at, **changes):
            new = {"log": log, "operators": operators[:i] + (at,) + operators[i + 1 :], "returned": returned}
            new.update(changes)
            return (*new.values(), portals, opens, bad)

        if step == "ask":
            yield "look", told(("create", kind, len(log)))
        elif step == "create":
            n = rest[0]
            if mistake == "overwrite":
                yield "write", told(("return", kind), log=log[:n] + (kind,))
            elif n < len(log):
                # 412: somebody was faster; the next ordinal.
                yield "create-412", told(("create", kind, n + 1))
            else:
                yield "create", told(("return", kind), log=log + (kind,))
        elif step == "return":
            yield "return", told(("done", kind), returned=returned or kind == "revoke")
    for i, portal in enumerate(portals):
        step, known, says, check = portal

        def to(at, **changes):
            new = {"opens": opens, "bad": bad}
            new.update(changes)
            return (log, operators, returned, portals[:i] + (at,) + portals[i + 1 :], *new.values())

        def judged(step, says):
            # Restored while it waited: it may go either way.
            is_wrong = step == "wait!" and not is_revoked(says) and is_revoked(log)
            return "an open after a revocation that returned" if is_wrong else bad

        if step == "idle" and opens < OPENS:
            must_refuse = returned and is_revoked(log)
            yield "come", to(("wait" if not must_refuse else "wait!", known, says, check), opens=opens + 1)
        # A check of another open may have begun at any time.
        if check is None and step in ("idle", "wait", "wait!"):
            yield "begin", to((step, known, says, ("old" if step == "idle" else "new", None)))
        elif check is not None and check[1] is None:
            # The read sees every change that was created before it.
            behind = log[known:]
            if mistake == "skip-hole" and len(behind) > 0:
                yield "skip", to((step, known + 1, says, (check[0], says)))
            yield "read", to((step, len(log), behind[-1:] or says, (check[0], log)))
        elif check is not None:
            # The check ends; one that began before the open came does not count for it.
            counts = check[0] == "new" or mistake == "ended-after"
            if step in ("wait", "wait!") and counts:
                worse = judged(step, says)
                yield "open", to(("idle", known, says, None), bad=worse)
            else:
                yield "end", to((step, known, says, None))
        if step in ("wait", "wait!") and mistake == "cached":
            worse = judged(step, says)
            yield "open", to(("idle", known, says, check), bad=worse)


def links_broken(state):
    log, operators, _, _, _, bad = state
    if bad:
        return bad
    if all(step == "done" for step, *_ in operators) and len(log) < len(operators):
        return "a change that returned is not in the log"
    return None


def check(start, steps, broken, mistake):
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
            return len(before), fault, " ".join(reversed(way))
        for name, following in steps(state, mistake):
            if following not in before:
                before[following] = (state, name)
                waiting.append(following)
    return len(before), None, ""


PROTOCOLS = {
    "tries": (tries_start, tries_steps, tries_broken, TRY_MISTAKES),
    "tries in a day": (day_start, day_steps, day_broken, DAY_MISTAKES),
    "revocations": (links_start, links_steps, links_broken, LINK_MISTAKES),
}


def main():
    is_wrong = False
    for name, (start, steps, broken, mistakes) in PROTOCOLS.items():
        for mistake in mistakes if "--broken" in sys.argv else [None]:
            began = time.monotonic()
            states, fault, way = check(start, steps, broken, mistake)
            seconds = time.monotonic() - began
            label = f"{name}: {mistake}: {mistakes[mistake]}" if mistake else name
            print(f"{label}: {states} states, {seconds:.1f} s: {fault or 'holds'}{': ' + way if way else ''}")
            is_wrong |= bool(fault) != bool(mistake)
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
