#!/usr/bin/env python3
"""Judges the OCI image of `make package`: what is in it, that a registry takes it as it is, and that it runs confined.

    .test/package/bin/python tests/package/image.py target/package/handout-0.1.0-amd64.oci.tar

skopeo reads it, also as older versions of Docker do, and umoci unpacks it: neither shares code with what made it. The program then runs as the image says, in namespaces without a network: its user and environment, a root that is
read-only, no capability, no new privileges, and the volume as the only place to write. Wants root. Exit 0 good, 1 bad.
"""

import json
import os
import pathlib
import re
import shlex
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
CRANE = ROOT / ".test/package/bin/crane"
LIMIT = 20_000_000
PACKAGES = ["ca-certificates", "libc6", "libgcc-s1", "netbase", "tzdata"]
# An emulator, for the image of another processor, takes many times as long.
SECONDS = {"native": 300, "emulated": 1800}
KEY = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

# What is mounted before the program is the only process in the root.
PLACE = """\
set -eu
ip link set lo up
mount --make-rprivate /
mount --bind "$BUNDLE" "$BUNDLE"
mount -o remount,bind,ro "$BUNDLE"
mount -t proc proc "$BUNDLE/proc"
mount --bind "$VOLUME" "$BUNDLE/var/lib/handout"
"""


def fail(reason):
    print(f"image: {reason}", file=sys.stderr)
    sys.exit(1)


def run(*command, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class Image:
    def __init__(self, archive, scratch):
        self.layout = scratch / "layout"
        with tarfile.open(archive) as file:
            file.extractall(self.layout, filter="data")
        (self.entry,) = json.loads((self.layout / "index.json").read_text())["manifests"]
        self.tag = self.entry["annotations"]["org.opencontainers.image.ref.name"]
        self.manifest = self.blob(self.entry)
        self.config = self.blob(self.manifest["config"])
        self.root = scratch / "bundle/rootfs"
        native = run("dpkg", "--print-architecture").strip()
        self.seconds = SECONDS["native" if self.config["architecture"] == native else "emulated"]
        # umoci reads no zstd. Both forms that the archive has are read: OCI's, and that of `docker save`.
        for form, name in [("docker-archive", "by-docker"), ("oci-archive", "by-oci")]:
            run("skopeo", "copy", "--dest-compress-format", "gzip", f"{form}:{archive}", f"oci:{scratch / name}:{self.tag}")
            read = run("skopeo", "inspect", "--config", "--raw", f"oci:{scratch / name}:{self.tag}")
            if json.loads(read)["rootfs"] != self.config["rootfs"]:
                fail(f"as {form} it has other layers")
        run("umoci", "unpack", "--image", f"{scratch / 'by-oci'}:{self.tag}", scratch / "bundle")

    def blob(self, of):
        return json.loads((self.layout / "blobs" / of["digest"].replace(":", "/")).read_text())

    def inside(self, volume, script):
        """Runs lines of commands in the image's namespaces, each begun with `handout`, as its user in its root."""
        user, _, group = self.config["config"]["User"].partition(":")
        environment = self.config["config"]["Env"]
        confined = ["setpriv", "--no-new-privs", "--bounding-set=-all,+sys_chroot,+setuid,+setgid,+dac_override", "--inh-caps=-all"]
        enter = ["unshare", f"--root={self.root}", f"--wd={self.config['config']['WorkingDir']}", f"--setgid={group}", f"--setuid={user}"]
        (program,) = self.config["config"]["Entrypoint"]
        words = shlex.join([*confined, *enter, program])
        # Variables of a command stand behind its name: `handout A=1 -- run`.
        handout = f'handout() {{ v=; while [ "${{1:-}}" != -- ]; do v="$v $1"; shift; done; shift; env -i {shlex.join(environment)} $v {words} "$@"; }}\n'
        command = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "sh", "-c", PLACE + handout + script]
        return subprocess.run(command, capture_output=True, text=True, timeout=self.seconds, env=os.environ | {"BUNDLE": str(self.root), "VOLUME": str(volume)})


def described(image):
    """The labels and the sizes."""
    labels = image.config["config"]["Labels"]
    wanted = {"org.opencontainers.image." + name for name in ("title", "description", "version", "revision", "created", "licenses")}
    if set(labels) != wanted or labels["org.opencontainers.image.version"] != image.tag:
        fail(f"the labels are {labels}")
    if image.config["config"]["User"] != "65532:65532":
        fail(f"the user is {image.config['config']['User']}")
    size = sum(layer["size"] for layer in image.manifest["layers"])
    if size > LIMIT:
        fail(f"the layers have {size} bytes, and may have {LIMIT}")
    return size


def filled(image):
    """Nothing is in it that is not needed: no shell, no program but one, nothing with the rights of another, nothing that its user may write but the volume and /tmp."""
    programs, writable = [], []
    for path in sorted(image.root.rglob("*")):
        name, info = str(path.relative_to(image.root)), path.lstat()
        if stat.S_ISLNK(info.st_mode):
            if not (image.root / os.readlink(path).lstrip("/") if os.readlink(path).startswith("/") else path.parent / os.readlink(path)).exists():
                fail(f"/{name} links to nothing")
            continue
        if info.st_mode & 0o6000:
            fail(f"/{name} is setuid or setgid")
        if info.st_mode & 0o002 or info.st_uid == 65532:
            writable.append(name)
        elif info.st_uid or info.st_gid:
            fail(f"/{name} is not root's")
        if stat.S_ISREG(info.st_mode) and info.st_mode & 0o111 and not re.search(r"/lib[^/]*\.so[.0-9]*$", name):
            programs.append(name)
    if [name for name in programs if "/ld-linux-" not in name] != ["usr/bin/handout"]:
        fail(f"programs: {programs}")
    if writable != ["tmp", "var/lib/handout"]:
        fail(f"its user may write {writable}")
    if (packages := sorted(file.name for file in (image.root / "var/lib/dpkg/status.d").iterdir())) != PACKAGES:
        fail(f"packages: {packages}")
    documented = sorted(file.name for file in (image.root / "usr/share/doc").iterdir())
    if documented != sorted([*PACKAGES, "gcc-12-base", "handout"]):
        fail(f"copyrights: {documented}")
    authorities = (image.root / "etc/ssl/certs/ca-certificates.crt").read_text().count("BEGIN CERTIFICATE")
    zones = sum(1 for path in (image.root / "usr/share/zoneinfo").rglob("*") if path.is_file())
    if authorities < 100 or zones < 400:
        fail(f"{authorities} certificate authorities and {zones} files of time zones")


def volume(scratch, name):
    """A volume as a container engine fills it: from the image, with its owner."""
    path = scratch / name
    path.mkdir(mode=0o700)
    os.chown(path, 65532, 65532)
    return path


def demonstrates(image, scratch):
    done = image.inside(volume(scratch, "demo"), "handout -- demo --once\n")
    if done.returncode != 0 or not done.stdout.endswith("All good.\n"):
        fail(f"demo --once ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    # The proof above is of a root that is read-only: its user could write to /tmp otherwise.
    done = image.inside(volume(scratch, "outside"), "handout -- demo --once --dir /tmp/demo\n")
    if done.returncode == 0:
        fail("the root can be written")


def serves(image, scratch):
    """The daemon by its entry point, configured by environment alone, until its health check passes; then SIGTERM."""
    state = volume(scratch, "state")
    buckets = state / "buckets/reports"
    buckets.mkdir(parents=True)
    (buckets / "a.txt").write_text("a file\n")
    for path in [state / "buckets", buckets]:
        os.chown(path, 65532, 65532)
    job = {"v": 1, "id": "first", "from": {"connection": "local", "bucket": "reports", "prefix": ""}, "email": {"to": ["ann@acme.example"]}}
    (state / "job.json").write_text(json.dumps(job))
    rule = '[{connection="local",bucket="reports",recipients=["*@acme.example"]}]'
    variables = f"HANDOUT_SECRET_KEY={KEY} HANDOUT_CONNECTIONS__LOCAL__DIRECTORY=/var/lib/handout/buckets HANDOUT_ALLOW={rule}"
    health = image.config["config"]["Healthcheck"]["Test"]
    if health[:2] != ["CMD", "/usr/bin/handout"]:
        fail(f"the health check is {health}")
    check, ready = shlex.join(health[2:]), "health"
    script = f"""
v='{variables}'
if handout $v -- {check} 2>/dev/null; then echo 'the health check passes without a daemon' >&2; exit 9; fi
handout $v -- {shlex.join(image.config["config"]["Cmd"])} & daemon=$!
for i in $(seq {image.seconds * 2}); do handout $v -- {ready} >/dev/null 2>&1 && break; sleep 0.2; done
handout $v -- {ready} && handout $v -- {check}
handout $v -- job submit job.json
for i in $(seq {image.seconds * 2}); do ls "$VOLUME"/outbox/*.eml >/dev/null 2>&1 && break; sleep 0.2; done
grep -rq 'ann@acme.example' "$VOLUME"/outbox
pkill -TERM -x handout
wait $daemon || {{ echo "the daemon ended with $?" >&2; exit 8; }}
"""
    done = image.inside(state, script)
    if done.returncode != 0:
        fail(f"the daemon of the image ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-3000:]}")


def pushed(image, scratch):
    """A registry has the same image: pushed, pulled and asked for its digest."""
    log = scratch / "registry.log"
    with log.open("w") as stream:
        registry = subprocess.Popen([CRANE, "registry", "serve", "--address", "127.0.0.1:0"], stdout=stream, stderr=stream)
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"serving on port (\d+)", log.read_text())):
            if time.monotonic() > deadline or registry.poll() is not None:
                fail(f"no registry: {log.read_text()}")
            time.sleep(0.1)
        name = f"127.0.0.1:{found.group(1)}/handout:{image.tag}"
        run(CRANE, "push", "--index", image.layout, name)
        # `crane validate` reads no zstd.
        run("skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{scratch / 'pulled'}:{image.tag}")
        missing = {path.name for path in (image.layout / "blobs/sha256").iterdir()} - {path.name for path in (scratch / "pulled/blobs/sha256").iterdir()}
        if missing:
            fail(f"pulled, {len(missing)} of its blobs are missing: {missing}")
        with urllib.request.urlopen(f"http://127.0.0.1:{found.group(1)}/v2/handout/manifests/{image.tag}") as answer:
            index = json.load(answer)
        digest = run(CRANE, "digest", "--platform", f"linux/{image.config['architecture']}", name).strip()
        if digest != image.entry["digest"] or [of["digest"] for of in index["manifests"]] != [digest]:
            fail(f"the registry has {digest}, and the layout {image.entry['digest']}")
    finally:
        registry.terminate()
        registry.wait()


def main():
    archive = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        scratch.chmod(0o755)
        image = Image(archive, scratch)
        size = described(image)
        filled(image)
        pushed(image, scratch)
        demonstrates(image, scratch)
        serves(image, scratch)
    print(f"image: {size / 1e6:.1f} MB compressed; demo --once and a first mail as uid 65532 in a read-only root; {image.entry['digest']} in a registry")


if __name__ == "__main__":
    main()
