"""The crates that the program links: their licences, the licence texts, and the bill of materials (CycloneDX 1.6)."""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

from license_expression import get_spdx_licensing

ROOT = pathlib.Path(__file__).resolve().parents[2]
LICENCES = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.I)
# Code, and what comes with tests and samples of a crate, is not a text of its licence.
CODE = {".rs", ".c", ".cc", ".h", ".py", ".go", ".js", ".pl", ".toml", ".json"}
UNLINKED = {"tests", "test", "benches", "examples", "wasm", "resources", "fuzz"}

# Libraries in C that crates bring along in their source, which scanners know by another name than the crate's: where each says its version, and its licence.
BUNDLED = {
    "aws-lc-sys": ("aws-lc", "aws-lc/include/openssl/base.h", r'AWSLC_VERSION_NUMBER_STRING "([0-9.]+)"', "pkg:github/aws/aws-lc@v{}", "ISC AND (Apache-2.0 OR ISC)"),
    "libmimalloc-sys": ("mimalloc", "c_src/mimalloc/v3/include/mimalloc.h", r"define MI_MALLOC_VERSION +(\d+)", "pkg:github/microsoft/mimalloc@v{}", "MIT"),
    "libsqlite3-sys": ("sqlite", "sqlite3/sqlite3.h", r'define SQLITE_VERSION +"([0-9.]+)"', "pkg:generic/sqlite@{}", "blessing"),
    "zstd-sys": ("zstd", "zstd/lib/zstd.h", None, "pkg:github/facebook/zstd@v{}", "BSD-3-Clause OR GPL-2.0-only"),
}


def output(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, cwd=ROOT).stdout


class Crate:
    def __init__(self, package):
        self.name, self.version = package["name"], package["version"]
        self.id = package["id"]
        self.folder = pathlib.Path(package["manifest_path"]).parent
        # Older crates write a slash for OR.
        self.licence = re.sub(r" */ *", " OR ", package["license"] or "")
        self.authors = package["authors"]
        self.repository = package["repository"]
        self.is_ours = package["source"] is None

    def __str__(self):
        return f"{self.name} {self.version}"

    @property
    def purl(self):
        return f"pkg:cargo/{self.name}@{self.version}"

    def texts(self):
        """Each licence text with its path inside the crate; a crate with libraries in C has theirs in folders of their own."""
        files = [file for file in sorted(self.folder.rglob("*")) if LICENCES.match(file.name) and file.suffix.lower() not in CODE and file.is_file()]
        inside = [(file.relative_to(self.folder), file) for file in files]
        found = [(str(path), file.read_text(errors="replace").strip()) for path, file in inside if not UNLINKED & set(path.parts[:-1])]
        if not found and "MIT" in self.licence.split(" OR "):
            # Some crates name the licence and do not print it. Its text is the same for all but the holder.
            holder = ", ".join(re.sub(r" *<.*>", "", author) for author in self.authors) or f"the authors of {self.name}"
            text = re.sub(r"(?m)^Copyright .*$", f"Copyright (c) {holder}", (ROOT / "LICENSE-MIT").read_text().strip(), count=1)
            found = [("MIT, as its Cargo.toml says", text)]
        return found


@functools.cache
def linked(target):
    """The crates of the program for one target, and for each those that it uses: procedural macros and build scripts are not linked."""
    metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    tree = output("cargo", "tree", "--locked", "-p", "handout", "-e", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe", "--target", target, "-f", "{p}")
    wanted = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    crates = {package["id"]: Crate(package) for package in metadata["packages"] if (package["name"], f"v{package['version']}") in wanted}
    if len(crates) != len(wanted) or len(crates) < 100:
        sys.exit(f"package: {len(wanted)} crates are linked, and {len(crates)} are known")
    uses = {node["id"]: sorted(d["pkg"] for d in node["deps"] if d["pkg"] in crates and any(kind["kind"] is None for kind in d["dep_kinds"])) for node in metadata["resolve"]["nodes"]}
    ordered = sorted(crates.values(), key=lambda crate: (crate.name, crate.version))
    return ordered, {id: of for id, of in uses.items() if id in crates}


@functools.cache
def spdx():
    """It has 700 licences, and takes half a second to make."""
    return get_spdx_licensing()


@functools.cache
def licence_policy():
    return tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]


def permitted(crate):
    """Whether deny.toml allows the licence of the crate, in one of the readings that its expression leaves."""
    policy = licence_policy()
    allowed = set(policy["allow"])
    for exception in policy["exceptions"]:
        if exception["crate"] == crate.name:
            allowed |= set(exception["allow"])
    expression = spdx().parse(crate.licence, validate=True)

    def holds(part):
        if hasattr(part, "operator") and part.operator.strip() in ("AND", "OR"):
            return (all if part.operator.strip() == "AND" else any)(holds(of) for of in part.args)
        return str(part) in allowed

    return expression is not None and holds(expression)


@functools.cache
def judged(target):
    """The crates, those that are not of this workspace, and the graph; ends the program where a licence is not permitted."""
    crates, uses = linked(target)
    foreign = [crate for crate in crates if not crate.is_ours]
    if wrong := [f"{crate} ({crate.licence or 'none'})" for crate in foreign if not permitted(crate)]:
        sys.exit(f"package: deny.toml does not allow the licences of {', '.join(wrong)}")
    return crates, foreign, uses


def licence_texts(target):
    """What a distribution of the program must carry."""
    _, foreign, _ = judged(target)
    texts = {}
    for crate in foreign:
        found = crate.texts()
        if not found:
            sys.exit(f"package: {crate} has no licence text")
        for path, text in found:
            texts.setdefault(text, []).append(f"{crate}: {path}")
    head = "\n".join(f"{crate}: {crate.licence}  {crate.repository or ''}".rstrip() for crate in foreign)
    rule = "=" * 78
    # Many crates have the same text, which stands here once.
    parts = [f"{rule}\n" + "\n".join(of) + f"\n{rule}\n\n{text}\n" for text, of in texts.items()]
    return "The crates that handout links, and below their licence texts.\n\n" + head + "\n\n" + "\n".join(parts)


def bundled(crate):
    name, file, pattern, purl, licence = BUNDLED[crate.name]
    text = (crate.folder / file).read_text()
    if pattern:
        version = re.search(pattern, text).group(1)
        if version.isdigit():
            # A number with two digits for the minor version and two for the patch.
            version = f"{int(version[:-4])}.{int(version[-4:-2])}.{int(version[-2:])}"
    else:
        version = ".".join(re.search(rf"define ZSTD_VERSION_{part} +(\d+)", text).group(1) for part in ("MAJOR", "MINOR", "RELEASE"))
    return {"type": "library", "bom-ref": purl.format(version), "name": name, "version": version, "licenses": [{"expression": licence}], "purl": purl.format(version)}


def bill(target, version, when, commit, debian=()):
    """The bill of materials; `debian` are further components, those of the image."""
    crates, _, uses = judged(target)
    sums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    root = next(crate for crate in crates if crate.name == "handout")
    components = []
    for crate in crates:
        if crate is root:
            continue
        component = {"type": "library", "bom-ref": crate.purl, "name": crate.name, "version": crate.version}
        if checksum := sums[crate.name, crate.version]:
            component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        component["licenses"] = [{"expression": crate.licence}]
        if not crate.is_ours:
            component["purl"] = crate.purl
        if crate.repository:
            component["externalReferences"] = [{"type": "vcs", "url": crate.repository}]
        if crate.name in BUNDLED:
            component["components"] = [bundled(crate)]
        components.append(component)
    components += debian
    purls = {crate.id: crate.purl for crate in crates}
    graph = [{"ref": crate.purl, "dependsOn": sorted(purls[id] for id in uses[crate.id])} for crate in crates]
    graph[crates.index(root)]["dependsOn"] += [component["bom-ref"] for component in debian]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": f"{when:%Y-%m-%dT%H:%M:%SZ}",
            "lifecycles": [{"phase": "build"}],
            "component": {
                "type": "application",
                "bom-ref": root.purl,
                "name": "handout",
                "version": version,
                "licenses": [{"expression": root.licence}],
                "properties": [{"name": "handout:target", "value": target}, {"name": "handout:commit", "value": commit}],
            },
        },
        "components": components,
        "dependencies": graph,
    }
    # The same contents have the same number.
    document["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True)).urn
    return json.dumps(document, indent=1, sort_keys=True) + os.linesep
