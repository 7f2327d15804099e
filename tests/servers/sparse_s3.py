#!/usr/bin/env python3
"""An S3 whose files are zeros of any size, to count what a ZIP of large files costs: nothing is stored.

    .test/venv/bin/python tests/servers/sparse_s3.py COUNT BYTES

Prints `ready <port>` when it listens on 127.0.0.1, and ends when its standard input is closed. The bucket `reports` has COUNT files
`shoot/IMG_<n>.mov` of BYTES each. It computes checksums as Amazon S3 documents them: of each part, copied or uploaded, and of the whole
object, which must be what `x-amz-checksum-crc32` says at completion. `GET /-/counts` answers the requests by kind and the bytes of files
that were read, as JSON. Signatures are not checked, and other requests are answered 501.
"""

import base64
import collections
import http.server
import json
import re
import struct
import sys
import threading
import urllib.parse
import zlib

COUNT, BYTES = int(sys.argv[1]), int(sys.argv[2])
STAMP = "2026-11-28T10:00:00.000Z"
NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
BLOCK = bytes(1 << 20)

counts = collections.Counter()
uploads, objects = {}, {}
lock = threading.Lock()


def times(matrix, vector):
    total, at = 0, 0
    while vector:
        if vector & 1:
            total ^= matrix[at]
        vector >>= 1
        at += 1
    return total


def joined(first, second, length):
    """The CRC-32 of two pieces, as zlib's crc32_combine: https://github.com/madler/zlib/blob/v1.2.11/crc32.c"""
    odd = [0xEDB88320] + [1 << bit for bit in range(31)]
    even = [times(odd, row) for row in odd]
    odd = [times(even, row) for row in even]
    while length:
        even = [times(odd, row) for row in odd]
        if length & 1:
            first = times(even, first)
        length >>= 1
        odd, even = even, odd
    return first ^ second


def of_zeros(length, known={}):
    if length not in known:
        sum_, block, size, rest = 0, zlib.crc32(b"\0"), 1, length
        while rest:
            if rest & 1:
                sum_ = joined(sum_, block, size)
            block, size, rest = joined(block, block, size), size * 2, rest >> 1
        known[length] = sum_
    return known[length]


def written(crc):
    return base64.b64encode(struct.pack(">I", crc)).decode()


def key_of(number):
    return f"shoot/IMG_{number:06}.mov"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.connection.setsockopt(6, 1, 1)  # TCP_NODELAY

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Length": str(len(body)), **named}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fail(self, status, code):
        self.answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>")

    def asked(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        bucket, _, key = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        return bucket, key, query

    def do_GET(self):
        bucket, key, query = self.asked()
        if bucket == "-":
            return self.answer(200, json.dumps(counts))
        if not key:
            counts["list"] += 1
            return self.list(query)
        if "uploadId" in query:
            counts["list_parts"] += 1
            return self.answer(200, f"<ListPartsResult {NS}><IsTruncated>false</IsTruncated></ListPartsResult>")
        counts["get"] += 1
        if bucket != "reports":
            return self.fail(404, "NoSuchKey")
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        length = min(last, BYTES - 1) - first + 1
        with lock:
            counts["bytes_read"] += length
        self.send_response(206)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Range", f"bytes {first}-{first + length - 1}/{BYTES}")
        self.send_header("ETag", '"zeros"')
        self.end_headers()
        while length:
            sent = min(length, len(BLOCK))
            self.wfile.write(memoryview(BLOCK)[:sent])
            length -= sent

    def list(self, query):
        after = int(query.get("continuation-token", "0"))
        some = range(after, min(COUNT, after + int(query.get("max-keys", "1000"))))
        entry = f"<LastModified>{STAMP}</LastModified><ETag>&quot;zeros&quot;</ETag><Size>{BYTES}</Size><StorageClass>STANDARD</StorageClass>"
        rows = "".join(f"<Contents><Key>{key_of(number)}</Key>{entry}</Contents>" for number in some if key_of(number).startswith(query.get("prefix", "")))
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{some.stop}</NextContinuationToken>" if some.stop < COUNT else "<IsTruncated>false</IsTruncated>"
        self.answer(200, f'<?xml version="1.0"?><ListBucketResult {NS}><Name>reports</Name><KeyCount>{len(some)}</KeyCount>{more}{rows}</ListBucketResult>', Content_Type="application/xml")

    def do_HEAD(self):
        bucket, key, _ = self.asked()
        counts["head"] += 1
        if not key:
            return self.answer(200)
        if bucket == "reports":
            return self.answer(200, ETag='"zeros"', Content_Length=str(BYTES), Last_Modified="Sat, 28 Nov 2026 10:00:00 GMT")
        if key in objects:
            return self.answer(200, ETag='"whole"', Content_Length=str(objects[key]), Last_Modified="Sat, 28 Nov 2026 10:00:00 GMT")
        self.answer(404)

    def do_PUT(self):
        _, key, query = self.asked()
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if "uploadId" not in query:
            counts["put"] += 1
            objects[key] = len(body)
            return self.answer(200, ETag='"put"')
        parts, number = uploads[query["uploadId"]], int(query["partNumber"])
        source = self.headers.get("x-amz-copy-source")
        if source is None:
            counts["upload_part"] += 1
            crc = zlib.crc32(body)
            if self.headers["x-amz-checksum-crc32"] != written(crc):
                return self.fail(400, "BadDigest")
            parts[number] = (len(body), crc)
            with lock:
                counts["bytes_uploaded"] += len(body)
            return self.answer(200, ETag=f'"{number}"', x_amz_checksum_crc32=written(crc))
        counts["copy_part"] += 1
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["x-amz-copy-source-range"]).groups())
        length = last - first + 1
        crc = of_zeros(length)
        parts[number] = (length, crc)
        self.answer(200, f"<CopyPartResult {NS}><ETag>&quot;{number}&quot;</ETag><LastModified>{STAMP}</LastModified><ChecksumCRC32>{written(crc)}</ChecksumCRC32></CopyPartResult>")

    def do_POST(self):
        bucket, key, query = self.asked()
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if "uploads" in query:
            counts["create"] += 1
            upload = f"u{len(uploads)}"
            uploads[upload] = {}
            return self.answer(200, f"<InitiateMultipartUploadResult {NS}><Bucket>{bucket}</Bucket><Key>x</Key><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>")
        counts["complete"] += 1
        parts = uploads.pop(query["uploadId"])
        numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", body)]
        if numbers != sorted(parts):
            return self.fail(400, "InvalidPart")
        if any(not 5 << 20 <= parts[number][0] <= 5 << 30 for number in numbers[:-1]):
            return self.fail(400, "EntityTooSmall")
        whole, size = 0, 0
        for number in numbers:
            length, crc = parts[number]
            whole, size = joined(whole, crc, length), size + length
        if self.headers["x-amz-checksum-crc32"] != written(whole) or int(self.headers["x-amz-mp-object-size"]) != size:
            return self.fail(400, "BadDigest")
        objects[key] = counts["zip_bytes"] = size
        counts["parts"] = len(numbers)
        self.answer(200, f"<CompleteMultipartUploadResult {NS}><Bucket>{bucket}</Bucket><Key>x</Key><ETag>&quot;whole&quot;</ETag></CompleteMultipartUploadResult>")

    def do_DELETE(self):
        counts["delete"] += 1
        self.answer(204)


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"ready {server.server_address[1]}", flush=True)
    try:
        sys.stdin.buffer.read()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
