"""Verifies an audit log without a line of the program: chain, tree, checkpoints, registry.

    python verify_audit.py DIRECTORY VERIFIER_KEY

Written from the specifications: RFC 6962 section 2.1 (the tree), c2sp.org/signed-note, c2sp.org/tlog-checkpoint, and from
what docs/adr (0043 to 0048) say of the log. Says how much it saw as JSON, or stops with what is wrong.
"""

import base64
import hashlib
import json
import pathlib
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


def root_of(leaves):
    """The definition of the RFC, by levels: pairs are joined, an odd one goes up as it is."""
    if not leaves:
        return sha256(b"")
    level = [sha256(b"\x00" + leaf) for leaf in leaves]
    while len(level) > 1:
        pairs = [sha256(b"\x01" + a + b) for a, b in zip(level[::2], level[1::2])]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def checkpoint(key, note):
    origin, size, root = key.open(note).splitlines()
    ours, log, stream = origin.split("/")
    assert ours == "handout", "the origin is a stream of ours"
    return log, stream, int(size), base64.b64decode(root)


def stream(key, log, name, segments):
    hashes, checkpoints, previous, last = [], 0, bytes(32), None
    for segment in segments:
        for raw in segment.read_bytes().splitlines(keepends=True):
            line = json.loads(raw)
            assert (line["stream"], line["seq"]) == (name, len(hashes)), f"{segment}: {line['seq']}"
            assert line["prev"] == "sha256:" + previous.hex(), f"{segment}: {line['seq']} does not follow"
            if line["ev"] == "checkpoint":
                assert checkpoint(key, line["note"]) == (log, name, len(hashes), root_of(hashes))
                checkpoints += 1
            previous, last = sha256(raw), line["ev"]
            hashes.append(previous)
    assert last in ("close", "recover"), f"{name} has its last line"
    return len(hashes), root_of(hashes), checkpoints


def main(directory, key):
    directory, key = pathlib.Path(directory), Key(key)
    origin, named, log, generation, *entries = key.open((directory / "streams.note").read_text()).splitlines()
    assert origin == "handout/streams"
    assert log.startswith("log ") and len(log) == 4 + 32
    assert generation.startswith("generation ") and int(generation.split(" ")[1]) > 0
    total = {"streams": 0, "lines": 0, "checkpoints": 0}
    for entry in entries:
        name, state, size, root = entry.split(" ")
        assert state == "closed", f"{name} has ended"
        lines, found, checkpoints = stream(key, log[4:], name, sorted(directory.glob(name + ".*.jsonl")))
        assert (lines, found) == (int(size), base64.b64decode(root)), f"{name} is as it was registered"
        total["streams"] += 1
        total["lines"] += lines
        total["checkpoints"] += checkpoints
    known = {entry.split(" ")[0] for entry in entries}
    assert {path.name.split(".")[0] for path in directory.glob("*.jsonl")} == known, "all are registered"
    print(json.dumps(total))


main(*sys.argv[1:])
