#!/usr/bin/env python3
"""Judges the bills of materials and the licence texts of `make package`.

    .test/package/bin/python tests/package/materials.py target/package FOLDER-OF-THE-UNPACKED-TARBALL

Each bill follows the schema of CycloneDX, names each crate that `cargo tree` says is linked, with the checksum of Cargo.lock, and no other; each has a licence that deny.toml allows, and a
text. Bills and texts that are doctored must be found. Exit 0 good, 1 bad.
"""

import copy
import json
import pathlib
import re
import subprocess
import sys
import tomllib

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import get_spdx_licensing

ROOT = pathlib.Path(__file__).resolve().parents[2]
POLICY = tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]
SPDX = get_spdx_licensing()
# The C libraries inside crates, which deny.toml does not see: SQLite is in the public domain, and of zstd's two licences the permissive one is taken.
INSIDE = {"aws-lc": {"ISC", "Apache-2.0"}, "mimalloc": {"MIT"}, "sqlite": {"blessing"}, "zstd": {"BSD-3-Clause"}}


def satisfied(parsed, allowed):
    """By trying every set of licences that satisfies it: the disjunctive normal form says them."""
    parsed = SPDX.dnf(parsed)
    for choice in parsed.args if parsed.__class__.__name__ == "OR" else [parsed]:
        parts = choice.args if choice.__class__.__name__ == "AND" else [choice]
        if all(part.render() in allowed for part in parts):
            return True
    return False


def licence_problem(component):
    allowed = set(POLICY["allow"]) | INSIDE.get(component["name"], set())
    for exception in POLICY["exceptions"]:
        if exception["crate"] == component["name"]:
            allowed |= set(exception["allow"])
    try:
        (licence,) = component["licenses"]
        parsed = SPDX.parse(licence["expression"], validate=True)
    except Exception as error:
        return f"{component['name']}: its licence cannot be read: {error}"
    return None if satisfied(parsed, allowed) else f"{component['name']}: {licence['expression']} is not allowed"


def target(bill):
    return next(of["value"] for of in bill["metadata"]["component"]["properties"] if of["name"] == "handout:target")


def linked(triple):
    tree = subprocess.run(["cargo", "tree", "--locked", "-p", "handout", "-e", "normal,no-proc-macro", "--prefix", "none", "--target", triple], capture_output=True, text=True, cwd=ROOT, check=True)
    return {(line.split()[0], line.split()[1].removeprefix("v")) for line in tree.stdout.splitlines() if line} - {("handout", bill_version())}


def bill_version():
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]


def problems(bill, crates, sums):
    """What is wrong with a bill."""
    if said := JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)):
        return [f"the schema of CycloneDX refuses it: {str(said)[:300]}"]
    debian = [of for of in bill["components"] if of.get("purl", "").startswith("pkg:deb/")]
    found = {(of["name"], of["version"]): of for of in bill["components"] if of not in debian}
    wrong = [f"{name} {version} is {'missing' if (name, version) in crates else 'not linked'}" for name, version in crates ^ set(found)]
    for (name, version), component in found.items():
        if checksum := sums.get((name, version)):
            if component.get("hashes") != [{"alg": "SHA-256", "content": checksum}] or component.get("purl") != f"pkg:cargo/{name}@{version}":
                wrong.append(f"{name} has another checksum or address than Cargo.lock")
        for of in [component, *component.get("components", [])]:
            if problem := licence_problem(of):
                wrong.append(problem)
    inside = {of["name"] for component in found.values() for of in component.get("components", [])}
    if inside != set(INSIDE):
        wrong.append(f"the libraries in C are {sorted(inside)}")
    references = {of["bom-ref"] for of in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    if {of["ref"] for of in bill["dependencies"]} | {ref for of in bill["dependencies"] for ref in of["dependsOn"]} != references:
        wrong.append("the graph and the components differ")
    return wrong


def texts_problems(texts, crates, sums):
    """A licence text for each crate: its name stands over one."""
    parts = texts.split("=" * 78 + "\n")[1:]
    named = {}
    for names, text in zip(parts[::2], parts[1::2], strict=True):
        for line in names.splitlines():
            named.setdefault(line.split(":")[0], []).append(text.strip())
    wrong = [f"{name} {version} has no licence text" for name, version in crates if (name, version) in sums and max(map(len, named.get(f"{name} {version}", [""]))) < 200]
    if not any("aws-lc/LICENSE" in part for part in parts):
        wrong.append("the licence of aws-lc itself is missing")
    return wrong


def doctored(bill, texts, crates, sums):
    """Every change must be found."""

    def changed(change):
        other = copy.deepcopy(bill)
        change(other)
        return problems(other, crates, sums)

    of = next(index for index, component in enumerate(bill["components"]) if component["name"] == "tokio")
    changes = {
        "a copyleft licence": lambda other: other["components"][of].update(licenses=[{"expression": "MIT AND GPL-3.0-only"}]),
        "a licence of no list": lambda other: other["components"][of].update(licenses=[{"expression": "LicenseRef-own"}]),
        "no licence": lambda other: other["components"][of].pop("licenses"),
        "a crate less": lambda other: other["components"].pop(of),
        "another checksum": lambda other: other["components"][of]["hashes"][0].update(content="0" * 64),
        "a field of no schema": lambda other: other.update(misspelt=1),
    }
    missed = [name for name, change in changes.items() if not changed(change)]
    if not texts_problems(re.sub(r"(?m)^tokio [0-9.]+: .*\n", "", texts.replace("tokio ", "tokio ", 1)), crates, sums):
        missed.append("a crate without a text")
    return missed


def main():
    folder, tarball = map(pathlib.Path, sys.argv[1:])
    texts = (tarball / "licences.txt").read_text()
    sums = {(of["name"], of["version"]): of["checksum"] for of in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"] if "checksum" in of}
    bills = sorted(folder.glob("*.cdx.json"))
    if len(bills) != 2:
        sys.exit(f"materials: expected two bills in {folder}")
    for path in bills:
        bill = json.loads(path.read_text())
        crates = linked(target(bill))
        of_image = [of["name"] for of in bill["components"] if of.get("purl", "").startswith("pkg:deb/")]
        wrong = problems(bill, crates, sums) + texts_problems(texts, crates, sums)
        if len(of_image) != (5 if "-image." in path.name else 0):
            wrong.append(f"packages of Debian: {of_image}")
        if wrong:
            sys.exit(f"materials: {path.name}: " + "; ".join(wrong[:10]))
    if missed := doctored(bill, texts, crates, sums):
        sys.exit(f"materials: not found: {missed}")
    print(f"materials: {len(crates)} crates, each with a licence that is allowed and its text; both bills follow CycloneDX 1.6")


if __name__ == "__main__":
    main()
