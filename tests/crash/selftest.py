#!/usr/bin/env python3
"""Whether the checker can fail: doctors the evidence of a world in which all went well, and expects each change to be found.

    .test/venv/bin/python tests/crash/selftest.py --program target/debug/handout
"""

import argparse
import base64
import contextlib
import json
import pathlib
import random
import shutil
import sqlite3
import sys
import tempfile

import checker
from world import SqliteWorld


def a_world(directory, program):
    """Three jobs that end well, and one that is refused, with `hold`."""
    world = SqliteWorld(directory, program, random.Random(7), "hold")
    for extra in ({}, {"gallery": {"publish": world.jobs.publish}}, {"manifest": {"format": "csv", "publish": world.jobs.publish}}):
        body, job, recipients = world.jobs.good()
        order = {key: value for key, value in json.loads(body).items() if key not in ("gallery", "manifest")}
        world.submit(json.dumps({**order, **extra}), job, recipients, "done")
    world.submit(*world.jobs.refused())
    assert world.settle() == 0, world.worker.tail()
    world.close()


# --- What is done to the evidence ---------------------------------------------------------------------------------------


def edit_lines(path, edit):
    path.write_text("".join(json.dumps(line) + "\n" for line in edit([json.loads(line) for line in path.read_text().splitlines()])))


def a_doubled_mail(world):
    edit_lines(world / "sink.jsonl", lambda mails: [*mails, mails[0]])


def a_second_mail_under_another_name(world):
    """Allowed by a doubt, but not recognisable as the same mail."""

    def edit(mails):
        octets = base64.b64decode(mails[0]["data"])
        renamed = octets.replace(b"Message-ID: <", b"Message-ID: <x")
        assert renamed != octets
        return [*mails, {**mails[0], "data": base64.b64encode(renamed).decode()}]

    edit_lines(world / "sink.jsonl", edit)
    change_facts(world, on_doubt="resend")
    rid = first_rid(world)
    statement(world, "UPDATE record SET n = 1 WHERE rid = ?", rid)
    for kind, body in (("i", {}), ("o", {"outcome": "unknown", "words": ""}), ("v", {"verdict": "resend_ok"})):
        insert_record(world, rid, 0, kind, body)


def a_missing_audit_line(world):
    edit_segment(world, lambda lines: [line for line in lines if b'"ev":"issue"' not in line or line is not first_issue(lines)])


def a_line_that_came_after_its_mail(world):
    edit_lines(world / "sink.jsonl", lambda mails: [{**mails[0], "audit_sizes": {}}, *mails[1:]])


def a_line_of_somebody_else(world):
    edit_segment(world, lambda lines: [line.replace(b'"rid":"', b'"rid":"0') if line is first_issue(lines) else line for line in lines])


def a_page_with_an_unrecorded_link(world):
    next((world / "pages").rglob("*.html")).write_text(f'<a href="http://127.0.0.1/k?x-handout={"0" * 32}&amp;X-Amz-Signature={"1" * 64}">')


def a_deleted_message_without_done(world):
    statement(world, "DELETE FROM record WHERE kind = 'done'")


def a_forgotten_message(world):
    statement(world, "INSERT INTO message (body, visible_at, enqueued_at) VALUES ('', 0, ?)", 0)


def a_forgotten_recipient(world):
    rid = first_rid(world)
    statement(world, "DELETE FROM record WHERE rid = ?", rid)
    to = json.loads((world / "sink.jsonl").read_text().splitlines()[0])["to"]
    job = first_job(world)
    edit_lines(world / "sink.jsonl", lambda mails: [mail for mail in mails if checker.mail_of(mail).to != to or checker.mail_of(mail).job != job])


def a_refusal_that_vanished(world):
    statement(world, "DELETE FROM message WHERE state = 'parked'")


def a_leaked_signature(world):
    append(world / "logs/worker.log", f"a link: {a_signature(world)}\n")


def a_leaked_url(world):
    append(world / "logs/worker.log", f"https://b.example/k?X-Amz-Signature={'f' * 64}\n")


def a_signature_in_the_ledger(world):
    insert_record(world, "", 1, "plan", {"note": a_signature(world)})


def a_leaked_password(world):
    append(world / "logs/worker.log", json.loads((world / "facts.json").read_text())["passwords"][0])


def a_leaked_login(world):
    password = json.loads((world / "facts.json").read_text())["passwords"][0]
    append(world / "logs/worker.log", "AUTH PLAIN " + base64.b64encode(f"\0handout\0{password}".encode()).decode())


def an_accepted_mail_that_nobody_sent(world):
    edit_lines(world / "sink.jsonl", lambda mails: mails[1:])


def a_mail_without_an_intent(world):
    statement(world, "DELETE FROM record WHERE rid = ? AND kind = 'i'", first_rid(world))


def a_changed_byte_of_the_audit_log(world):
    edit_segment(world, lambda lines: [line.replace(b"PDF", b"PDG") if number == 2 else line.replace(b'"attempt":1', b'"attempt":2') for number, line in enumerate(lines)])


#: Which rule must find it.
DOCTORED = {
    a_doubled_mail: "A",
    a_second_mail_under_another_name: "A",
    a_missing_audit_line: "B",
    a_line_that_came_after_its_mail: "B",
    a_line_of_somebody_else: "B",
    a_page_with_an_unrecorded_link: "B",
    a_forgotten_message: "C",
    a_forgotten_recipient: "C",
    a_refusal_that_vanished: "C",
    a_deleted_message_without_done: "D",
    a_leaked_signature: "E",
    a_leaked_url: "E",
    a_signature_in_the_ledger: "E",
    a_leaked_password: "E",
    a_leaked_login: "E",
    an_accepted_mail_that_nobody_sent: "F",
    a_mail_without_an_intent: "F",
    a_changed_byte_of_the_audit_log: "G",
}


# --- Helpers ------------------------------------------------------------------------------------------------------------


def append(path, text):
    with open(path, "a") as file:
        file.write(text)


def change_facts(world, **facts):
    path = world / "facts.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def statement(world, sql, *values):
    with contextlib.closing(sqlite3.connect(world / "state/handout.sqlite")) as database, database:
        assert database.execute(sql, values).rowcount > 0, sql


def insert_record(world, rid, n, kind, body):
    statement(
        world, "INSERT INTO record (job, rid, n, kind, nonce, body, at) VALUES (?, ?, ?, ?, '', ?, 0)", first_job(world), rid, n, kind, json.dumps(body)
    )


def first_mail(world):
    return checker.mail_of(json.loads((world / "sink.jsonl").read_text().splitlines()[0]))


def first_job(world):
    return first_mail(world).job


def first_rid(world):
    secret = checker.Secret(bytes.fromhex(json.loads((world / "facts.json").read_text())["secret"]))
    return secret.recipient_id(first_mail(world).to)


def a_signature(world):
    return checker.signature_of(first_mail(world).links[0])


def first_issue(lines):
    return next(line for line in lines if b'"ev":"issue"' in line)


def edit_segment(world, edit):
    """Changes the segment that holds the links' lines."""
    path = max((world / "state/audit").glob("*.jsonl"), key=lambda path: path.stat().st_size)
    path.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))


def a_wire_on_which_a_message_was_deleted_too_early():
    """The same rule for SQS, where a proxy's log tells the order."""
    sent, done, deleted = {"did": "sent", "message": "m", "job": "j"}, {"did": "done", "job": "j"}, {"did": "deleted", "message": "m"}
    parked = {"did": "sent", "message": "p", "job": None, "parked": "m"}
    for wire, expected in (([sent, done, deleted], 0), ([sent, parked, deleted], 0), ([sent, deleted, done], 1), ([sent, deleted], 1)):
        found = list(checker.deleted_after_done_on_the_wire(checker.Evidence({}, wire=wire)))
        assert len(found) == expected, (wire, found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True, type=pathlib.Path)
    program = parser.parse_args().program.resolve()
    missed = []
    with tempfile.TemporaryDirectory(prefix="handout-crash-selftest-") as root:
        whole = pathlib.Path(root) / "w"
        whole.mkdir()
        a_world(whole, program)
        violations = checker.judge(checker.gather(whole))
        assert not violations, violations
        for doctor, rule in DOCTORED.items():
            world = pathlib.Path(root) / doctor.__name__
            shutil.copytree(whole, world)
            doctor(world)
            found = checker.judge(checker.gather(world))
            told = sorted({violation.rule for violation in found})
            print(f"{doctor.__name__.replace('_', ' '):48} found by {', '.join(told) or 'nobody'}")
            if rule not in told:
                missed.append(doctor.__name__)
        a_wire_on_which_a_message_was_deleted_too_early()
    if missed:
        sys.exit(f"not found: {', '.join(missed)}")


if __name__ == "__main__":
    main()
