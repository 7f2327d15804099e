#!/usr/bin/env python3
"""Types the commands of docs/operating/backup.md: a backup of a worker that runs, and its restoration in another place.

    .test/venv/bin/python tests/deploy/backup.py target/debug/handout

The worker has SQLite, a relay and jobs in hand while it is copied, and is then killed, as by the loss of its machine. In the place where the copy is restored, the audit log is
whole, the links that were mailed still open and can be told apart, a job that was done is not mailed again, and one that waited is mailed once.
"""

import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
STATE, COPY, CONFIG = "/var/lib/handout", "/srv/backup/handout", "/etc/handout/config.toml"
PATIENCE = 180

sys.path.insert(0, str(ROOT / "tests/servers"))
from serving import free_port  # noqa: E402


def fail(reason):
    print(f"backup: {reason}", file=sys.stderr)
    sys.exit(1)


def printed(title):
    page = (ROOT / "docs/operating/backup.md").read_text()
    part = page.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```sh\n(.*?)^```$", part, re.M | re.S)


class Place:
    """A machine: its configuration, its state, and what the relay of all of them took."""

    def __init__(self, program, folder, files, outbox, port):
        self.program, self.folder, self.outbox = program, folder, outbox
        self.state = folder / "state"
        self.http = free_port()
        folder.mkdir()
        self.config = folder / "config.toml"
        self.config.write_text(
            f"""
state_dir = "{self.state}"
[http]
listen = "127.0.0.1:{self.http}"
[embedded]
listen = "127.0.0.1:{port}"
[connections.local]
directory = "{files}"
[mail]
outbox_dir = "{outbox}"
[[allow]]
connection = "local"
bucket = "reports"
recipients = ["*@acme.example"]
"""
        )

    def types(self, script, copy):
        """Lines of the page, with its paths as those of this place."""
        for path, here in [(STATE, self.state), (COPY, copy), (CONFIG, self.config)]:
            script = script.replace(path, str(here))
        script = f'handout() {{ "{self.program}" "$@"; }}\n{script}'
        done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, cwd=self.folder)
        if done.returncode != 0:
            fail(f"the page's commands ended with {done.returncode}: {script}\n{done.stdout}{done.stderr}")
        return done.stdout

    def says(self, *arguments):
        done = subprocess.run([str(self.program), *arguments, "--config", str(self.config)], capture_output=True, text=True)
        if done.returncode != 0:
            fail(f"handout {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self):
        self.log = (self.folder / "log").open("w")
        process = subprocess.Popen([str(self.program), "run", "--config", str(self.config)], stderr=self.log)
        until(lambda: process.poll() is not None or self.is_ready(), "the daemon is not ready")
        if process.poll() is not None:
            fail(f"the daemon ended with {process.returncode}: {(self.folder / 'log').read_text()}")
        return process

    def is_ready(self):
        return subprocess.run([str(self.program), "health", "--config", str(self.config)], capture_output=True).returncode == 0

    def stops(self, worker):
        """Stops the daemon, or lets it go on if it has the lock of its database: a command would wait for it in vain."""
        worker.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
        database = sqlite3.connect(self.state / "handout.sqlite", timeout=0, isolation_level=None)
        try:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
            return True
        except sqlite3.OperationalError:
            worker.send_signal(signal.SIGCONT)
            return False
        finally:
            database.close()

    def submit(self, job):
        file = self.folder / "job.json"
        recipients = ["ann@acme.example", "bo@acme.example"]
        file.write_text(json.dumps({"v": 1, "id": job, "from": {"connection": "local", "bucket": "reports", "prefix": ""}, "email": {"to": recipients, "subject": job}}))
        self.says("job", "submit", str(file))


def until(condition, reason):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            fail(reason)
        time.sleep(0.1)


def mailed(outbox):
    """How often each job was mailed to each recipient."""
    counts = {}
    for mail in outbox.glob("*.eml"):
        head = mail.read_text(errors="replace").split("\n\n", 1)[0].replace("\r", "")
        found = (re.search(r"^Subject: (.*)$", head, re.M).group(1), re.search(r"^To: .*?([a-z]+@acme\.example)", head, re.M).group(1))
        counts[found] = counts.get(found, 0) + 1
    return counts


def links(outbox, job):
    """The links of a job's mails, from the pages that the outbox writes beside them."""
    found = set()
    for mail in outbox.glob("*.eml"):
        page = mail.with_suffix(".html")
        if re.search(rf"^Subject: {job}\r?$", mail.read_text(errors="replace"), re.M):
            found |= {link.replace("&amp;", "&") for link in re.findall(r'href="(http://127\.0\.0\.1[^"]+X-Amz-Signature[^"]+)"', page.read_text())}
    return found


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    backup, (restore, begin) = printed("Back up"), printed("Restore")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        files = scratch / "files/reports"
        files.mkdir(parents=True)
        for name in ("a.txt", "b.txt"):
            (files / name).write_text(name)
        outbox, port = scratch / "outbox", free_port()
        old = Place(program, scratch / "old", scratch / "files", outbox, port)
        worker = old.start()
        processes = [worker]
        try:
            old.submit("done")
            until(lambda: len(mailed(outbox)) == 2, "the first job was not mailed")
            # Copies are taken while lines are written, and each must be whole.
            for number in range(12):
                old.submit(f"busy-{number}")
            for number in range(3):
                taken = scratch / f"copy-{number}"
                old.types("\n".join(backup), taken)
            until(lambda: len(mailed(outbox)) == 26, "the jobs beside the backup were not mailed")
            # A job that waits while the copy is taken: the daemon holds its files open, and works nothing.
            until(lambda: old.stops(worker), "the daemon was in a transaction each time that it was stopped")
            old.submit("waits")
            last = scratch / "copy-last"
            old.types("\n".join(backup), last)
            worker.kill()
            worker.wait()

            for number in range(3):
                place = Place(program, scratch / f"judge-{number}", scratch / "files", outbox, port)
                place.types(restore, scratch / f"copy-{number}")
            new = Place(program, scratch / "new", scratch / "files", outbox, port)
            if ": whole" not in new.types(restore, last):
                fail("the restored audit log is not said to be whole")
            if "systemctl start handout" not in begin:
                fail("the page does not start the service")
            before = links(outbox, "done")
            worker = new.start()
            processes.append(worker)
            until(lambda: ("waits", "bo@acme.example") in mailed(outbox) and ("waits", "ann@acme.example") in mailed(outbox), "the job that waited was not mailed")
            new.submit("done")
            new.submit("later")
            until(lambda: ("later", "bo@acme.example") in mailed(outbox) and ("later", "ann@acme.example") in mailed(outbox), "a new job was not mailed")
            if twice := {of: count for of, count in mailed(outbox).items() if count != 1}:
                fail(f"mailed more than once: {twice}")
            if len(before) != 4:
                fail(f"the first job has {len(before)} links, and not four")
            for link in before:
                with urllib.request.urlopen(link) as answer:
                    if answer.read() not in (b"a.txt", b"b.txt"):
                        fail("a link of before opens something else")
                explained = json.loads(new.says("explain", "--json", link))
                if explained["opens"]["key"] not in ("a.txt", "b.txt") or explained["is_over"] or not explained["link_id"]:
                    fail(f"handout explain does not explain a link of before: {explained}")
                found = new.says("audit", "find", "--url", link)
                if '"done"' not in found:
                    fail(f"handout audit find does not know whose link it is: {found}")
            worker.send_signal(signal.SIGTERM)
            if worker.wait(PATIENCE) != 0:
                fail(f"the restored daemon ended with {worker.returncode}: {(new.folder / 'log').read_text()}")
            if ": whole" not in new.says("audit", "verify"):
                fail("the audit log is not whole after the restored daemon has written to it")
        finally:
            for process in processes:
                process.kill()
                process.wait()
    print("backup: four copies of a running worker are whole; restored, its links open and nothing was mailed twice")


if __name__ == "__main__":
    main()
