"""Verifies an audit log without a line of the program: chain, tree, checkpoints, registry.

    python verify_audit.py DIRECTORY VERIFIER_KEY

Written from the specifications: RFC 6962 section 2.1 (the tree), c2sp.org/signed-note, c2sp.org/tlog-checkpoint, and from
what docs/adr (0043 to 0048, and 0080) say of the log. Compressed segments are read by the program `zstd`. Says how much it saw as JSON, or stops with what is wrong.
"""

import base64
import hashlib
import json
import pathlib
import subprocess
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha256(data):
    return hashlib.sha256(data).digest()


class Key:
    def __init__(self, text):
        self.name, key_id, key = text.split("+", 2)
        key = base64.b64decode(key, validate=True)
        assert key[:1] == b"\x01", "the key is of the type Ed25519"
        self.id = sha256(self.name.encode() + b"\n" + key)[:4]
        assert self.id.hex() == key_id, "the key has the id that it says"
        self.key = Ed25519PublicKey.from_public_bytes(key[1:])

    def open(self, note):
        text, signatures = note.rsplit("\n\n", 1)
        text += "\n"
        (line,) = signatures.splitlines()
        dash, name, signature = line.split(" ")
        assert (dash, name) == ("\u2014", self.name), "the note is signed by the key"
        signature = base64.b64decode(signature, validate=True)
        assert signature[:4] == self.id, "the note is signed by the key"
        self.key.verify(signature[4:], text.encode())
        return text


class Tree:
    """The roots of complete subtrees, the largest first: one for each bit of the number of leaves."""

    def __init__(self, size=0, peaks=()):
        self.size, self.peaks = size, list(peaks)
        assert len(self.peaks) == bin(size).count("1"), "one root for each complete subtree"

    def push(self, leaf):
        hashed, size = sha256(b"\x00" + leaf), self.size
        while size & 1:
            hashed, size = sha256(b"\x01" + self.peaks.pop() + hashed), size >> 1
        self.peaks.append(hashed)
        self.size += 1

    def root(self):
        if not self.peaks:
            return sha256(b"")
        *left, right = self.peaks
        for peak in reversed(left):
            right = sha256(b"\x01" + peak + right)
        return right


def lines_of(segment):
    if segment.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", segment], check=True, stdout=subprocess.PIPE).stdout
    return segment.read_bytes()


def checkpoint(key, note):
    origin, size, root = key.open(note).splitlines()
    ours, log, stream = origin.split("/")
    assert ours == "handout", "the origin is a stream of ours"
    return log, stream, int(size), base64.b64decode(root)


def stream(key, log, name, segments, tree, previous):
    checkpoints, last = 0, None
    for segment in segments:
        for raw in lines_of(segment).splitlines(keepends=True):
            line = json.loads(raw)
            assert (line["stream"], line["seq"]) == (name, tree.size), f"{segment}: {line['seq']}"
            assert line["prev"] == "sha256:" + previous.hex(), f"{segment}: {line['seq']} does not follow"
            if line["ev"] == "checkpoint":
                assert checkpoint(key, line["note"]) == (log, name, tree.size, tree.root())
                checkpoints += 1
            previous, last = sha256(raw), line["ev"]
            tree.push(previous)
    assert last in ("close", "recover"), f"{name} has its last line"
    return checkpoints


def main(directory, key):
    directory, key = pathlib.Path(directory), Key(key)
    origin, named, log, generation, *entries = key.open((directory / "streams.note").read_text()).splitlines()
    assert origin == "handout/streams"
    assert log.startswith("log ") and len(log) == 4 + 32
    assert generation.startswith("generation ") and int(generation.split(" ")[1]) > 0
    removed = {entry.split(" ")[0]: entry.split(" ")[2:] for entry in entries if entry.split(" ")[1] == "removed"}
    entries = [entry for entry in entries if entry.split(" ")[1] not in ("removed", "removed-before")]
    total = {"streams": 0, "lines": 0, "checkpoints": 0}
    for entry in entries:
        name, state, size, root = entry.split(" ")
        assert state == "closed", f"{name} has ended"
        segments = sorted(directory.glob(name + ".*.jsonl*"))
        tree, previous, before = Tree(), bytes(32), 0
        if name in removed:
            number, before, place, *end = removed[name]
            assert place in ("archived", "expired")
            before = int(before)
            assert not segments or int(segments[0].name.split(".")[1]) == int(number) + 1, f"{name} goes on"
            if end == ["all"]:
                assert not segments and before == int(size), f"{name} is gone"
                continue
            previous = base64.b64decode(end[0])
            tree = Tree(before, [base64.b64decode(peak) for peak in end[1].split(",")])
        checkpoints = stream(key, log[4:], name, segments, tree, previous)
        assert (tree.size, tree.root()) == (int(size), base64.b64decode(root)), f"{name} is as it was registered"
        total["streams"] += 1
        total["lines"] += tree.size - before
        total["checkpoints"] += checkpoints
    known = {entry.split(" ")[0] for entry in entries}
    assert {path.name.split(".")[0] for path in directory.glob("*.jsonl*")} <= known, "all are registered"
    print(json.dumps(total))


main(*sys.argv[1:])
