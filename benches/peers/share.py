#!/usr/bin/env python3
"""Links to every object under a prefix: `handout presign --recursive --json` beside `mc share download --recursive --json`, in one run.

    .test/venv/bin/python benches/peers/share.py --program target/release/handout [--objects 10000] [--rounds 3]

Started by `make share`. Both ask the same versitygw on loopback. Handout writes its audit lines, and syncs them, as it does by default. Prints the CPU
time and the time of each round, and ends with 1 if a round's links are not all there, or mc takes less than ten times the CPU of Handout.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parents[1] / "tests"
sys.path[:0] = [str(TESTS / name) for name in ("peers", "crash", "faults")]

from servers import REGION, ROOT, Versitygw  # noqa: E402

BUCKET, PREFIX = "acme-reports", "exports/2026/"

#: How many times less CPU than mc.
LEAST_RATIO = 10


def run(command, environment, output):
    """Seconds of CPU, and seconds, of a command whose output goes to a file."""
    began = time.monotonic()
    with open(output, "wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"share: {command[0]} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - began


def links(output, name):
    """Key -> link."""
    lines = (json.loads(line) for line in output.read_text().split("\n") if line)
    if name == "mc":
        return {line["url"].partition(f"/{BUCKET}/")[2]: line["share"] for line in lines}
    return {line["key"]: line["url"] for line in lines}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    home = pathlib.Path(tempfile.mkdtemp(prefix="handout-share-"))
    store = Versitygw()
    try:
        keys = [f"{PREFIX}{at // 1000:03}/{at:07}.csv" for at in range(wanted.objects)]
        store.fill(store.bucket(BUCKET), keys)
        plain = {"PATH": os.environ["PATH"], "HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true"}
        aws = {
            "HANDOUT_STATE_DIR": str(home / "state"),
            "AWS_ENDPOINT_URL_S3": store.url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": store.access_key,
            "AWS_SECRET_ACCESS_KEY": store.secret_key,
        }
        mc = [str(ROOT / "bin/mc"), "--config-dir", str(home / "mc"), "--json"]
        made = [*mc, "alias", "set", "store", store.url, store.access_key, store.secret_key]
        subprocess.run(made, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=plain)
        place = f"s3://{BUCKET}/{PREFIX}"
        commands = {
            "handout": ([str(wanted.program.resolve()), "presign", "--recursive", "--json", place], {**plain, **aws}),
            "mc": ([*mc, "share", "download", "--recursive", f"store/{BUCKET}/{PREFIX}"], plain),
        }
        spent = {name: [] for name in commands}
        print(f"{wanted.objects:,} objects", *(f"{name:>28}" for name in commands))
        for number in range(wanted.rounds):
            row = []
            for name, (command, environment) in commands.items():
                output = home / f"{name}.jsonl"
                cpu, took = run(command, environment, output)
                if sorted(links(output, name)) != sorted(keys):
                    sys.exit(f"share: {name} did not link each object once")
                spent[name].append(cpu)
                row.append(f"{cpu:8.3f} s of CPU in {took:6.2f} s")
            print(f"round {number + 1:>8}", *(f"{words:>28}" for words in row), flush=True)
        ratio = statistics.median(spent["mc"]) / statistics.median(spent["handout"])
        print(f"mc takes {ratio:.1f} times the CPU of handout")
        sys.exit(ratio < LEAST_RATIO)
    finally:
        store.stop()
        subprocess.run(["rm", "-rf", str(home)], check=True)


if __name__ == "__main__":
    main()
