"""What is proved of a ZIP that Handout makes inside a store: every byte of it, by the programs that people open one with."""

import base64
import hashlib
import http.client
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import zipfile
import zlib

from desk import HERE, Desk, need

MIB = 1 << 20

#: Around each size at which a layout decides, and names that differ on other systems.
FILES = {
    "shoot/0 empty": 0,
    "shoot/1 small.txt": 5,
    "shoot/day 1/Süd +50%.mp4": 12 * MIB + 3,
    "shoot/day 1/süd +50%.MP4": 5 * MIB,
    "shoot/日本語.raw": 5 * MIB + 1,
    "shoot/large.raw": 23 * MIB + 17,
    "shoot/tail.txt": 8,
}


def bytes_of(key, size):
    block = hashlib.sha256(key.encode()).digest()
    return (block * (size // len(block) + 1))[:size]


def zips(program, store):
    """A job's ZIP has every byte of its files, opens with every program, and its link can be resumed."""
    desk, s3 = Desk(program, store), store.client()
    bucket = desk.with_bucket("zips")
    for key, size in FILES.items():
        s3.put_object(Bucket=bucket, Key=key, Body=bytes_of(key, size))
    zip_fields = {"name": "Harbour", "publish": {"bucket": f"{bucket}-out", "prefix": "zips/"}}
    order = {"v": 1, "id": "zip", "from": {"connection": "store", "bucket": bucket, "prefix": "shoot/"}}
    order |= {"email": {"to": ["ann@acme.example"]}, "zip": zip_fields}
    result = json.loads(desk.said("job", "run", "--json", "-", input=json.dumps(order)))
    address = result["zips"][0]
    head = s3.head_object(Bucket=f"{bucket}-out", Key=address.removeprefix(f"s3://{bucket}-out/"), ChecksumMode="ENABLED")
    uploads = s3.list_multipart_uploads(Bucket=f"{bucket}-out").get("Uploads", [])
    need(not uploads, f"{len(uploads)} uploads are left")
    need(head["ContentType"] == "application/zip", f"its type is {head['ContentType']}")

    folder = pathlib.Path(tempfile.mkdtemp(prefix="zip-"))
    path = folder / "Harbour.zip"
    link = next(link for link in desk.mail_links() if "Harbour.zip" in urllib.parse.unquote(link))
    whole = resumed(link, head["ContentLength"])
    path.write_bytes(whole)
    stored = desk.published(address)["Body"].read()
    need(stored == whole, "the link gives other bytes than the store has")
    judged = subprocess.run([sys.executable, HERE.parent / "servers/judge_zip.py", path], capture_output=True, text=True, check=False)
    need(judged.returncode == 0, judged.stderr[-800:])
    said = json.loads(judged.stdout)
    with zipfile.ZipFile(path) as archive:
        found = {hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    need(found == {hashlib.sha256(bytes_of(key, size)).hexdigest() for key, size in FILES.items()}, "a file has other bytes")
    need(len(said["names"]) == len(FILES), f"it has {said['names']}")
    own = head.get("ChecksumCRC32")
    if own is not None and head.get("ChecksumType") == "FULL_OBJECT":
        need(int.from_bytes(base64.b64decode(own), "big") == zlib.crc32(whole), "the store's checksum is another")
    shutil.rmtree(folder)
    parts = head["ETag"].strip('"').rpartition("-")[2]
    way = f"made inside it, in {parts} parts" if "-" in head["ETag"] else "written as a whole"
    way += ", verified by its CRC-32" if own else ", without a checksum of the store"
    judges = [name for name in ("unzip", "zip -T", "7z", "bsdtar", "Python", "Java") if name.split()[0] not in said["missing"]]
    return f"{way}; {len(whole):,} bytes, right for {', '.join(judges)}; resumed"


def resumed(link, size):
    """The bytes of a link, in two requests, of which the second goes on where the first was broken off."""
    parts = urllib.parse.urlsplit(link)
    got = b""
    for headers, most in (({}, size // 3), ({"Range": f"bytes={size // 3}-"}, None)):
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        need(answer.status == (206 if headers else 200), f"the ZIP's link answers {answer.status}")
        got += answer.read(most) if most else answer.read()
        connection.close()
    return got
