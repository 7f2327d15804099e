"""An OCI image of the program, without a daemon and without a Dockerfile: two layers, made of Debian packages that apt has verified and of what `make package` staged.

One archive holds an OCI layout, and the `manifest.json` that `docker load` reads.
"""

import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
USER = 65532
STATE = "var/lib/handout"
# What the image runs on, with the licence of each. Debian's base-files and gcc-12-base contribute licence texts, and the name of the release.
PACKAGES = {
    "libc6": "LGPL-2.1-or-later",
    "libgcc-s1": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "ca-certificates": "MPL-2.0 AND GPL-2.0-or-later",
    "tzdata": "LicenseRef-public-domain",
    "netbase": "GPL-2.0-only",
}
TEXTS = ["base-files", "gcc-12-base"]
# No shell is there for scripts, and no reader for manuals; tzdata's two copies with other leap seconds are for astronomers. iconv's converters are not asked for.
LEFT_OUT = ("usr/sbin/", "usr/share/man/", "usr/share/lintian/", "usr/share/zoneinfo/right/", "usr/share/zoneinfo/posix/", "etc/ca-certificates/", "usr/lib/x86_64-linux-gnu/gconv/", "usr/lib/aarch64-linux-gnu/gconv/")
ACCOUNTS = {
    "etc/passwd": f"root:x:0:0:root:/root:/sbin/nologin\nhandout:x:{USER}:{USER}:Handout:/{STATE}:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nhandout:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
}


class Tree:
    """Files by path, which become one layer: sorted, root's, and all of one time."""

    def __init__(self, epoch):
        self.entries, self.epoch = {}, epoch

    def put(self, path, data=b"", mode=0o644, kind=tarfile.REGTYPE, link="", user=0):
        parent = os.path.dirname(path)
        if parent and parent not in self.entries:
            self.put(parent, mode=0o755, kind=tarfile.DIRTYPE)
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.linkname, info.mtime = kind, mode, link, self.epoch
        info.uid = info.gid = user
        info.size = len(data)
        self.entries[path] = (info, data)

    def tar(self):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for path in sorted(self.entries):
                info, data = self.entries[path]
                archive.addfile(info, io.BytesIO(data))
        return made.getvalue()


def download(folder, machine):
    """The packages of this Debian, by apt, which verifies them."""
    apt = ["apt-get", "-o", "APT::Sandbox::User=root"]
    if machine != subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip():
        # The lists of another processor stand apart: this system is not told that it has two.
        lists = ROOT / f".test/{machine}/apt"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        for option in (f"APT::Architecture={machine}", f"APT::Architectures={machine}", f"Dir::State::Lists={lists}", "Dir::Cache::pkgcache=", "Dir::Cache::srcpkgcache="):
            apt += ["-o", option]
    command = [*apt, "download", *(f"{name}:{machine}" for name in [*PACKAGES, *TEXTS])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        subprocess.run([*apt, "update"], capture_output=True)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"package: apt-get download failed: {done.stderr.strip()}")
    return {file.name.split("_")[0]: file for file in sorted(folder.glob("*.deb"))}


def members(deb):
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            path = info.name.removeprefix("./").rstrip("/")
            if info.isdir() or not path:
                continue
            of = archive.extractfile(info) if info.isreg() or info.islnk() else None
            yield path, info, of.read() if of else b""


def field(deb, name):
    return subprocess.run(["dpkg-deb", "-f", deb, name], check=True, capture_output=True, text=True).stdout.strip()


def base(debs, epoch):
    """The layer below the program."""
    tree, authorities = Tree(epoch), {}
    for name in PACKAGES:
        for path, info, data in members(debs[name]):
            if path.startswith("usr/share/ca-certificates/"):
                authorities[path] = data
            elif path.startswith(LEFT_OUT) or (path.startswith("usr/share/doc/") and not path.endswith("/copyright")):
                continue
            elif info.issym():
                tree.put(path, kind=tarfile.SYMTYPE, link=info.linkname, mode=0o777)
            else:
                tree.put(path, data, 0o755 if info.mode & 0o100 else 0o644)
        # Where scanners of images look for Debian's packages in images without dpkg.
        tree.put(f"var/lib/dpkg/status.d/{name}", subprocess.run(["dpkg-deb", "-f", debs[name]], check=True, capture_output=True).stdout)
    tree.put("etc/ssl/certs/ca-certificates.crt", b"".join(data.strip() + b"\n" for _, data in sorted(authorities.items())))
    for name in TEXTS:
        for path, info, data in members(debs[name]):
            if path.startswith("usr/share/common-licenses/") and info.issym():
                tree.put(path, kind=tarfile.SYMTYPE, link=info.linkname, mode=0o777)
            elif path.startswith("usr/share/common-licenses/") or path == "usr/lib/os-release" or path.endswith("gcc-12-base/copyright"):
                tree.put(path, data)
    tree.put("usr/share/doc/libgcc-s1", kind=tarfile.SYMTYPE, link="gcc-12-base", mode=0o777)
    tree.put("etc/localtime", kind=tarfile.SYMTYPE, link="/usr/share/zoneinfo/Etc/UTC", mode=0o777)
    tree.put("etc/os-release", kind=tarfile.SYMTYPE, link="../usr/lib/os-release", mode=0o777)
    for path, text in ACCOUNTS.items():
        tree.put(path, text.encode())
    for folder in ("proc", "sys", "dev", "root"):
        tree.put(folder, mode=0o755 if folder != "root" else 0o700, kind=tarfile.DIRTYPE)
    tree.put("tmp", mode=0o1777, kind=tarfile.DIRTYPE)
    return tree


def components(debs):
    """The packages of the image, for its bill of materials."""
    made = []
    for name, licence in PACKAGES.items():
        version, machine = field(debs[name], "Version"), field(debs[name], "Architecture")
        purl = f"pkg:deb/debian/{name}@{version.replace('+', '%2B').replace('~', '%7E')}?arch={machine}"
        made.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "licenses": [{"expression": licence}], "purl": purl})
    return made


def program(folder, sbom, epoch):
    """The layer of the program, with a directory for its state that its user owns."""
    tree = Tree(epoch)
    tree.put("usr/bin/handout", (folder / "handout").read_bytes(), 0o755)
    for file in ("copyright", "licences.txt.gz"):
        tree.put(f"usr/share/doc/handout/{file}", (folder / file).read_bytes())
    tree.put("usr/share/doc/handout/sbom.cdx.json", sbom.encode())
    tree.put("etc/handout", mode=0o755, kind=tarfile.DIRTYPE)
    tree.put(STATE, mode=0o700, kind=tarfile.DIRTYPE, user=USER)
    return tree


def configuration(machine, version, when, commit, layers):
    seconds = 10**9
    return {
        "created": when,
        "architecture": machine,
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "ExposedPorts": {"9464/tcp": {}},
            "Env": ["PATH=/usr/bin", f"HANDOUT_STATE_DIR=/{STATE}", "HANDOUT_HTTP__LISTEN=0.0.0.0:9464"],
            "Entrypoint": ["/usr/bin/handout"],
            "Cmd": ["run"],
            "Volumes": {f"/{STATE}": {}},
            "WorkingDir": f"/{STATE}",
            "StopSignal": "SIGTERM",
            "Labels": {
                "org.opencontainers.image.title": "handout",
                "org.opencontainers.image.description": "Hands files out of S3 as links, mails and galleries",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.revision": commit,
                "org.opencontainers.image.created": when,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
            # Docker's field: Kubernetes and Podman ask as they are told by their own configuration.
            "Healthcheck": {"Test": ["CMD", "/usr/bin/handout", "health", "--live"], "Interval": 30 * seconds, "Timeout": 10 * seconds, "StartPeriod": 60 * seconds, "Retries": 3},
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]},
        "history": [{"created": when, "created_by": f"deploy/package/image.py: {what}"} for what in ("Debian packages", "handout")],
    }


def archive(path, config, layers, name, epoch):
    """The layout as one file, from which docker, podman, skopeo and crane take the image."""
    blobs = {}

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    def text(value):
        return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()

    described = blob(text(config), "config.v1+json")
    # Imported here: a Debian package alone is also made without it.
    import zstandard

    # With gzip they would have a third more. A level above 19 would need more memory where the image is unpacked.
    packer = zstandard.ZstdCompressor(level=19, threads=0)
    stacked = [blob(packer.compress(layer), "layer.v1.tar+zstd") for layer in layers]
    labels = {key: value for key, value in config["config"]["Labels"].items()}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": described, "layers": stacked, "annotations": labels}
    entry = blob(text(manifest), "manifest.v1+json")
    entry |= {"platform": {"architecture": config["architecture"], "os": "linux"}, "annotations": {"org.opencontainers.image.ref.name": name.rsplit(":", 1)[1]}}
    files = blobs | {
        "oci-layout": text({"imageLayoutVersion": "1.0.0"}),
        "index.json": text({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}),
        "manifest.json": text([{"Config": place(described), "RepoTags": [name], "Layers": [place(layer) for layer in stacked]}]),
    }
    tree = Tree(epoch)
    for file, data in files.items():
        tree.put(file, data)
    path.write_bytes(tree.tar())
    return entry["digest"], sum(len(data) for data in blobs.values())


def place(of):
    return "blobs/" + of["digest"].replace(":", "/")


def write(path, folder, debs, sbom, machine, version, when, epoch, commit):
    """The image of what is staged in `folder`."""
    layers = [base(debs, epoch).tar(), program(folder, sbom, epoch).tar()]
    config = configuration(machine, version, f"{when:%Y-%m-%dT%H:%M:%SZ}", commit, layers)
    return archive(pathlib.Path(path), config, layers, f"handout:{version}", epoch)
