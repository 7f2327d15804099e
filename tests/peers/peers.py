#!/usr/bin/env python3
"""Proves what Handout promises against servers that people run: stores, a queue, a proxy, a judge of mails, an OpenID provider, and a client of S3.

    .test/venv/bin/python tests/peers/peers.py --program target/debug/handout [--only NAME]… [--quick] [--kills N] [--strict]

Each server is prepared by tests/peers/servers.sh, and runs on loopback as a process of its own. Prints a row for each server and proof, and exits
with 1 if a proof failed. What cannot be tried here is named as skipped, with the reason; with `--strict` that is a failure, too. `--only` takes
names of servers and of proofs: these of those. `--quick` takes versitygw, ElasticMQ and the embedded endpoint alone, and few kills. docs/compatibility.md says what was seen.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "crash"), str(HERE.parent / "faults")]

import endpoint  # noqa: E402
import intake  # noqa: E402
import mails  # noqa: E402
import queues  # noqa: E402
import sign_ins  # noqa: E402
import stores  # noqa: E402
import zips  # noqa: E402
from desk import Skipped, Wrong  # noqa: E402
from endpoint import EmbeddedEndpoint  # noqa: E402
from servers import STORES, ElasticMq, Keycloak, Mailpit, Minio, Versitygw  # noqa: E402

OF_STORES = (
    stores.suite_of_stores,
    stores.odd_keys,
    stores.bad_links,
    stores.published,
    stores.many,
    stores.checked,
    stores.versions,
    stores.behind_a_proxy,
    zips.zips,
    stores.ledger,
)
OF_QUEUES = (queues.suite_of_queues, queues.standard, queues.fifo, queues.redriven)
PARTS = [kind.part for kind in (*STORES, ElasticMq, Mailpit, Keycloak, EmbeddedEndpoint)]
QUICK = ("versitygw", "elasticmq", "embedded")


class Table:
    def __init__(self):
        self.rows = []

    def play(self, server, name, proof, *what):
        """Makes one proof, and prints its row."""
        began = time.monotonic()
        try:
            end, words = "ok", proof(*what)
        except Skipped as reason:
            end, words = "skipped", str(reason)
        except Wrong as found:
            end, words = "FAILED", str(found)
        except Exception:  # noqa: BLE001  the others are still tried
            end, words = "FAILED", traceback.format_exc()
        self.add(server, name, end, words, time.monotonic() - began)

    def add(self, server, name, end, words, took=0.0):
        self.rows.append((server, name, end))
        print(f"| {server} | {name.replace('_', ' ')} | {end} | {took:.0f} s | {words} |", flush=True)

    def count(self, end):
        return sum(row[2] == end for row in self.rows)


def prepared(part):
    """Why a server cannot be had, if so."""
    ended = subprocess.run([HERE / "servers.sh", part], stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    return None if ended.returncode == 0 else ended.stderr.strip().splitlines()[-1]


@contextlib.contextmanager
def running(table, kind):
    """A server; nothing, and a row that says why, where it cannot be had."""
    if reason := prepared(kind.part):
        table.add(kind.name, "everything", "skipped", reason)
        yield None
        return
    server = kind()
    try:
        yield server
    finally:
        server.stop()


def play(wanted, table):
    program = wanted.program.resolve()

    def is_wanted(kind, name):
        if wanted.quick and kind.part not in QUICK:
            return False
        servers = {name for name in wanted.only if name in PARTS}
        proofs = set(wanted.only) - servers
        return (not servers or kind.part in servers) and (not proofs or name in proofs)

    def chosen(kind, proofs):
        return [proof for proof in proofs if is_wanted(kind, proof.__name__)]

    for kind in STORES:
        if proofs := chosen(kind, (*OF_STORES, *[stores.role] * kind.has_roles, *[stores.revoked] * kind.denies_by_tag)):
            with running(table, kind) as store:
                for proof in proofs if store else ():
                    # Its users and their policies are made by mc.
                    if proof is stores.revoked and (reason := prepared("mc")):
                        table.add(kind.name, proof.__name__, "skipped", reason)
                        continue
                    # Its workers have their jobs from there.
                    if proof is stores.ledger and (reason := prepared(ElasticMq.part)):
                        table.add(kind.name, proof.__name__, "skipped", reason)
                        continue
                    more = (wanted.kills,) if proof is stores.ledger else ()
                    table.play(kind.name, proof.__name__, proof, program, store, *more)
    proofs = chosen(ElasticMq, OF_QUEUES)
    tellers = [kind for kind in (Versitygw, Minio) if is_wanted(ElasticMq, "events") and not (wanted.quick and kind.part not in QUICK)]
    if proofs or tellers:
        with running(table, ElasticMq) as queue, running(table, Versitygw) as store:
            for proof in proofs if queue and store else ():
                table.play(queue.name, proof.__name__, proof, program, store, queue)
            for kind in tellers if queue else ():
                if reason := prepared(kind.part):
                    table.add(queue.name, f"events of {kind.name}", "skipped", reason)
                else:
                    table.play(queue.name, f"events of {kind.name}", queues.events, program, kind, queue)
    if is_wanted(Minio, "webhook"):
        if reason := prepared(Minio.part):
            table.add(Minio.name, "webhook", "skipped", reason)
        else:
            table.play(Minio.name, "webhook", intake.webhook, program, Minio)
    if is_wanted(EmbeddedEndpoint, "before_a_client"):
        play_endpoint(table, program)
    if is_wanted(Mailpit, "judged"):
        with running(table, Mailpit) as mailpit, running(table, Versitygw) as store:
            if mailpit and store:
                table.play(mailpit.name, "templates", mails.judged, program, store, mailpit)
    if is_wanted(Keycloak, "signed_in"):
        with running(table, Keycloak) as keycloak, running(table, Versitygw) as store:
            if keycloak and store:
                table.play(keycloak.name, "signed_in", sign_ins.signed_in, program, store, keycloak)


def play_endpoint(table, program):
    """The one server that is the program itself; the peer is the client."""
    if reason := prepared(Versitygw.part):
        table.add(EmbeddedEndpoint.name, "before a client", "skipped", reason)
        return
    server = EmbeddedEndpoint(program)
    try:
        table.play(server.name, "before_a_client", endpoint.before_a_client, program, server)
    finally:
        server.stop()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, required=True, help="a debug build: others cannot be killed at named places")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a server, as servers.sh calls it, or a proof")
    parser.add_argument("--quick", action="store_true", help="versitygw, ElasticMQ and the embedded endpoint alone, with few kills")
    parser.add_argument("--kills", type=int, help="of workers with each store's ledger (300; 20 with --quick)")
    parser.add_argument("--strict", action="store_true", help="what is skipped is a failure")
    wanted = parser.parse_args()
    wanted.kills = wanted.kills or (20 if wanted.quick else 300)
    return wanted


def main():
    wanted, table, began = arguments(), Table(), time.monotonic()
    # Its end goes through every `finally`, so that no server is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root = tempfile.mkdtemp(prefix="handout-peers-")
    os.environ["TMPDIR"] = tempfile.tempdir = root
    print("| server | proof | result | took | |\n|---|---|---|---|---|", flush=True)
    play(wanted, table)
    failed, skipped = table.count("FAILED"), table.count("skipped")
    kept = f"; what they left is in {root}" if failed else ""
    print(f"{table.count('ok')} proofs in {time.monotonic() - began:.0f} s; {failed} failed, {skipped} skipped{kept}")
    if not failed:
        shutil.rmtree(root, ignore_errors=True)
    if not table.rows:
        sys.exit(f"peers: nothing is called {', '.join(wanted.only)}")
    sys.exit(bool(failed or wanted.strict and skipped))


if __name__ == "__main__":
    main()
