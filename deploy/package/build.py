#!/usr/bin/env python3
"""Makes a Debian package, a tarball, an OCI image and bills of materials of a program that is built.

    .test/package/bin/python deploy/package/build.py [--deb] target/dist/handout target/package

With --deb, the Debian package alone. The same program at the same commit gives the same bytes: times are those of SOURCE_DATE_EPOCH, or of the last commit.
"""

import datetime
import gzip
import io
import os
import pathlib
import platform
import re
import shutil
import string
import subprocess
import sys
import tarfile
import tempfile

import crates
import image

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAINTAINER = os.environ.get("MAINTAINER", "Handout <handout@localhost.localdomain>")
# By the number that ELF has for the processor.
MACHINES = {62: ("amd64", "x86_64"), 183: ("arm64", "aarch64")}


def output(*command, **more):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, cwd=ROOT, **more).stdout


def compressed(path, data, when):
    """As gzip -9n would, with no time in it."""
    path.write_bytes(gzip.compress(data.encode() if isinstance(data, str) else data, 9, mtime=0))


def roff(text):
    """Text that roff prints as it is."""
    return re.sub(r"^([.'])", r"\\&\1", text.replace("\\", "\\e").replace("-", "\\-"), flags=re.M)


def commands_of(said):
    """The commands that a help text lists, each with its description."""
    if "Commands:" not in said:
        return []
    listed = said.split("Commands:", 1)[1].split("\nOptions:", 1)[0]
    # A long description goes on in further lines.
    commands = re.findall(r"^  ([a-z][a-z0-9-]*) {2,}(\S.*(?:\n {10,}\S.*)*)", listed, re.M)
    return [(name, " ".join(text.split())) for name, text in commands if name != "help"]


def helps(program, path):
    """A command's help, and that of each command below it."""
    said = output(program, *path, "--help", env=os.environ | {"COLUMNS": "100"})
    yield path, said
    for name, _ in commands_of(said):
        yield from helps(program, [*path, name])


def manuals(program, version, when):
    """The manual pages by their names, from what the program says of its commands: one of the program, and one of each command."""
    said = output(program, "--help")
    commands = commands_of(said)
    if len(commands) < 10:
        sys.exit(f"package: only {len(commands)} commands in --help")
    codes = said.split("Exit codes:", 1)[1].strip().split("\n\n", 1)[0]
    status = [".SH EXIT STATUS", roff(" ".join(codes.split()))]
    lines = [
        f'.TH HANDOUT 1 {when:%Y-%m-%d} "Handout {version}" "User Commands"',
        ".SH NAME",
        "handout \\- hands files out of S3 as links, mails and galleries",
        ".SH SYNOPSIS",
        ".B handout",
        ".I COMMAND",
        "[\\fIOPTION\\fR]...",
        ".SH DESCRIPTION",
        "Each command has a page of its own, and prints its options and an example with",
        ".BR \\-\\-help .",
        ".SH COMMANDS",
    ]
    for name, text in commands:
        lines += [".TP", f".BR handout\\-{roff(name)} (1)", roff(text)]
    lines += [".SH FILES", ".TP", ".I /etc/handout/config.toml", "The configuration, which lists every key with its default."]
    lines += [".TP", ".I /var/lib/handout", "Queue, ledger, audit log and secret of the service."]
    pages = {"handout": "\n".join(lines + status) + "\n"}
    for name, text in commands:
        lines = [
            f'.TH HANDOUT\\-{roff(name).upper()} 1 {when:%Y-%m-%d} "Handout {version}" "User Commands"',
            ".SH NAME",
            f"handout\\-{roff(name)} \\- {roff(text[0].lower() + text[1:])}",
        ]
        for path, said in helps(program, [name]):
            section = "DESCRIPTION" if path == [name] else roff(" ".join(["handout", *path]).upper())
            lines += [f".SH {section}", ".nf", roff(said.strip()), ".fi"]
        lines += [*status, ".SH SEE ALSO", ".BR handout (1)"]
        pages[f"handout-{name}"] = "\n".join(lines) + "\n"
    return pages


def copyright_file():
    mit = (ROOT / "LICENSE-MIT").read_text().strip()
    holder = next((line for line in mit.splitlines() if line.lower().startswith("copyright")), "Copyright (c) the authors of Handout")
    paragraph = "\n".join(f" {line}" if line.strip() else " ." for line in mit.splitlines())
    return f"""\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: handout
Comment: The licence texts of the crates that are linked are in licences.txt.gz.

Files: *
Copyright: {holder.removeprefix("Copyright ").removeprefix("(c) ")}
License: MIT or Apache-2.0

License: MIT
{paragraph}

License: Apache-2.0
 On Debian systems, the text of this licence is in
 /usr/share/common-licenses/Apache-2.0.
"""


def machine_of(program):
    """What Debian, and Rust, call the processor that the program is for."""
    with open(program, "rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF" or (number := int.from_bytes(head[18:20], "little")) not in MACHINES:
        sys.exit(f"package: {program} is no program for amd64 or arm64")
    return MACHINES[number]


def stage(program, folder, version, when, target):
    """What goes into all of them."""
    shutil.copy(program, folder / "handout")
    _, processor = machine_of(program)
    strip = "strip" if processor == platform.machine() else f"{processor}-linux-gnu-strip"
    subprocess.run([strip, "-s", folder / "handout"], check=True)
    (folder / "handout").chmod(0o755)
    shutil.copy(ROOT / "config.toml", folder)
    unit = (ROOT / "systemd/handout.service").read_text()
    if unit.count("/usr/local/bin/handout run") != 1:
        sys.exit("package: the unit has no ExecStart=/usr/local/bin/handout run")
    # A package has its program in /usr/bin; how to install by hand is not said there.
    unit = unit.replace("/usr/local/bin/handout run", "/usr/bin/handout run")
    unit = "".join(line for line in unit.splitlines(keepends=True) if not line.startswith(("#   install ", "#   systemctl daemon-reload")))
    unit = unit.replace("#\n#\n", "#\n", 1)
    (folder / "handout.service").write_text(unit)
    (folder / "completions").mkdir()
    for shell in ["bash", "fish", "zsh"]:
        (folder / f"completions/handout.{shell}").write_text(output(program, "completions", shell))
    (folder / "man").mkdir()
    for name, page in manuals(program, version, when).items():
        compressed(folder / f"man/{name}.1.gz", page, when)
    changes = f"handout ({version}-1) unstable; urgency=medium\n\n  * Version {version}. What changes for operators is in CHANGELOG.md.\n\n -- {MAINTAINER}  {when:%a, %d %b %Y %H:%M:%S +0000}\n"
    compressed(folder / "changelog.Debian.gz", changes, when)
    (folder / "copyright").write_text(copyright_file())
    compressed(folder / "licences.txt.gz", crates.licence_texts(target), when)


def tarball(folder, path, name, when):
    """The same for other systems, with the licences and the documents beside it."""

    def settled(info):
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        info.mtime = int(when.timestamp())
        info.mode = 0o755 if info.mode & 0o100 else 0o644
        return info

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as archive:
        files = {file.relative_to(folder): file for file in folder.rglob("*") if file.is_file() and file.name not in ("copyright", "changelog.Debian.gz", "handout.service")}
        files |= {pathlib.Path(path): ROOT / path for path in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE", "systemd/handout.service"]}
        for inside, file in sorted(files.items()):
            archive.add(file, f"{name}/{inside}", filter=settled)
    compressed(path, data.getvalue(), when)


def main():
    is_deb_alone = sys.argv[1] == "--deb"
    program, target = (pathlib.Path(argument).resolve() for argument in sys.argv[1 + is_deb_alone :])
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or output("git", "log", "-1", "--format=%ct"))
    when = datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    commit = os.environ.get("COMMIT") or output("git", "rev-parse", "HEAD").strip()
    machine, processor = machine_of(program)
    rust = f"{processor}-unknown-linux-gnu"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        folder, downloads = scratch / "stage", scratch / "debs"
        folder.mkdir()
        downloads.mkdir()
        stage(program, folder, version, when, rust)
        sbom = crates.bill(rust, version, when, commit)
        compressed(folder / "sbom.cdx.json.gz", sbom, when)
        values = {"ARCH": machine, "VERSION": version, "MAINTAINER": MAINTAINER, "MTIME": f"{when:%Y-%m-%dT%H:%M:%SZ}", "STAGE": str(folder)}
        config = scratch / "nfpm.yaml"
        config.write_text(string.Template((ROOT / "deploy/package/nfpm.yaml").read_text()).substitute(values))
        package = target / f"handout_{version}-1_{machine}.deb"
        nfpm = pathlib.Path(sys.executable).parent / "nfpm"
        output(nfpm, "package", "--config", config, "--packager", "deb", "--target", package, env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch)})
        if is_deb_alone:
            return
        name = f"handout-{version}-{processor}-linux"
        tarball(folder, target / f"{name}.tar.gz", name, when)
        debs = image.download(downloads, machine)
        of_image = crates.bill(rust, version, when, commit, image.components(debs))
        oci = target / f"handout-{version}-{machine}.oci.tar"
        digest, size = image.write(oci, folder, debs, of_image, machine, version, when, epoch, commit)
        (target / f"handout-{version}-{machine}.cdx.json").write_text(sbom)
        (target / f"handout-{version}-{machine}-image.cdx.json").write_text(of_image)
    for path in [package, target / f"{name}.tar.gz"]:
        print(f"package: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}, {path.stat().st_size / 1e6:.1f} MB")
    print(f"package: {oci.relative_to(ROOT) if oci.is_relative_to(ROOT) else oci}, {size / 1e6:.1f} MB compressed, {digest}")


if __name__ == "__main__":
    main()
