#!/usr/bin/env python3
"""Judges a ZIP by the programs that people open one with, and says as JSON what is in it.

    .test/venv/bin/python tests/servers/judge_zip.py FILE [DIR] [--quick]

    DIR      where bsdtar, or else Python, unpacks it
    --quick  without reading all bytes of large files

Python reads every field that the format has twice and compares; unzip, 7-Zip, bsdtar and Java read it on their own. `missing` names the
programs that this machine does not have. Exit 1, with the reason, if one of them finds fault with it.
"""

import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib

HERE = pathlib.Path(__file__).resolve().parent
MASK = 0xFFFFFFFF


def fail(reason):
    print(f"judge_zip: {reason}", file=sys.stderr)
    sys.exit(1)


def expect(holds, reason):
    if not holds:
        fail(reason)


def fields(extra):
    found = {}
    while extra:
        kind, length = struct.unpack("<HH", extra[:4])
        found[kind] = extra[4 : 4 + length]
        extra = extra[4 + length :]
    return found


def judge_headers(path, archive):
    """The rules for every file: stored, no descriptor, UTF-8, ZIP64 only where a number needs it, the same in both headers."""
    with open(path, "rb") as file:
        for info in archive.infolist():
            name = info.filename
            expect(info.compress_type == 0 and info.compress_size == info.file_size, f"{name} is not stored")
            expect(info.flag_bits == 0x800, f"{name} has the flags {info.flag_bits:#x}")
            expect(info.create_system == 3 and info.external_attr >> 16 == 0o100644, f"{name} is no plain file of Unix")
            parts = name.split("/")
            expect(not any(part in ("", ".", "..") for part in parts) and "\\" not in name and ":" not in name, f"{name!r} is no relative path")
            is_zip64 = info.file_size >= MASK or info.header_offset >= MASK
            expect((1 in fields(info.extra)) == is_zip64, f"{name} has a ZIP64 field in the directory, or needs one")
            file.seek(info.header_offset)
            head = struct.unpack("<IHHHHHIIIHH", file.read(30))
            signature, version, flags, method, _, _, crc, packed, size, name_length, extra_length = head
            expect(signature == 0x04034B50 and flags == 0x800 and method == 0, f"{name} has another local header")
            expect(file.read(name_length) == name.encode(), f"{name} has another name in its local header")
            extra = fields(file.read(extra_length))
            expect(crc == info.CRC, f"{name} has another checksum in its local header")
            if info.file_size >= MASK:
                expect(version == 45 and (packed, size) == (MASK, MASK), f"{name} says its size outside of ZIP64")
                expect(struct.unpack("<QQ", extra[1]) == (info.file_size, info.file_size), f"{name} has another size in its local header")
            else:
                expect(1 not in extra and (packed, size) == (info.file_size, info.file_size), f"{name} has another size in its local header")


def run(missing, program, *arguments, is_silent=False):
    if shutil.which(program) is None:
        missing.append(program)
        return ""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    # What bsdtar unpacks may be long.
    out = subprocess.DEVNULL if is_silent else subprocess.PIPE
    ran = subprocess.run([program, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, check=False)
    said = ((ran.stdout or b"") + ran.stderr).decode(errors="replace")
    expect(ran.returncode == 0, f"{program} {' '.join(map(str, arguments))}: exit {ran.returncode}: {said[-1500:]}")
    return (ran.stdout or b"").decode(errors="replace")


def main():
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    path, is_quick = arguments[0], "--quick" in sys.argv
    missing = []
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        expect(len(set(names)) == len(names), "a name is there twice")
        judge_headers(path, archive)
        if not is_quick:
            bad = archive.testzip()
            expect(bad is None, f"Python: {bad} has another checksum")
        begin = archive.start_dir
        sizes = [info.file_size for info in archive.infolist()]
        length = sum(len(entry) for entry in directory_entries(path, begin, len(names)))
    with open(path, "rb") as file:
        file.seek(begin)
        digest = hashlib.sha256(file.read(length)).hexdigest()
        crc = 0
        if not is_quick:
            file.seek(0)
            while some := file.read(1 << 20):
                crc = zlib.crc32(some, crc)
    if is_quick:
        run(missing, "unzip", "-Z1", path)
        run(missing, "7z", "l", path)
    else:
        run(missing, "unzip", "-tqq", path)
        run(missing, "zip", "-Tqq", path)
        run(missing, "7z", "t", "-bso0", path)
        run(missing, "bsdtar", "-xOf", path, is_silent=True)
        said = run(missing, "java", HERE / "ReadZip.java", path)
        expect(not said or int(said) == len(names), f"Java reads {said} of {len(names)} files")
    listed = run(missing, "bsdtar", "-tf", path).splitlines()
    expect(not listed or len(listed) == len(names), f"bsdtar lists {len(listed)} of {len(names)} files")
    if len(arguments) > 1:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(arguments[1])
    json.dump({"names": names, "sizes": sizes, "directory_sha256": digest, "crc32": crc, "missing": sorted(set(missing))}, sys.stdout)


def directory_entries(path, begin, count):
    with open(path, "rb") as file:
        file.seek(begin)
        for _ in range(count):
            head = file.read(46)
            lengths = struct.unpack("<HHH", head[28:34])
            yield head + file.read(sum(lengths))


if __name__ == "__main__":
    main()
