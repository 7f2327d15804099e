"""The embedded endpoint before the test client of a peer: versitygw's, which talks to it as the SDK of Go does, and by hand."""

import contextlib
import http.client
import http.server
import os
import re
import shutil
import subprocess
import threading
import urllib.parse

from checker import Secret
from desk import need
from line import free_port
from servers import ROOT, Server

CONFIG = """
state_dir = "{dir}/state"
secret_key_file = "{dir}/secret.key"
[connections.local]
directory = "{dir}/buckets"
[embedded]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{front}"
[mail]
from = "Reports <reports@sender.example>"
[http]
listen = "127.0.0.1:{http}"
[[allow]]
connection = "local"
bucket = "reports"
recipients = ["*@acme.example"]
"""

#: The client's groups of tests about what the endpoint does.
GROUPS = ("PresignedAuth", "Authentication", "HeadBucket", "GetObject", "HeadObject", "ListObjectsV2")

#: The tests of these groups that need what the endpoint does not have.
BEYOND = {
    "uploads in parts": (
        "PresignedAuth_UploadPart",
        *(f"{what}Object_mp_part_number_{case}" for what in ("Get", "Head") for case in ("exceeds_parts_count", "resp_status", "success")),
        *(f"ListObjectsV2_mp_masking_{case}" for case in ("delimiter", "start_after", "truncation")),
        "ListObjectsV2_should_not_list_pending_mps",
    ),
    "stored checksums": (
        *(f"{what}Object_{case}" for what in ("Get", "Head") for case in ("checksums", "empty_object_part_number_1", "ranged_with_checksum_mode")),
        "GetObject_dir_object_checksum",
    ),
    "tags": ("Authentication_incorrect_payload_hash", "GetObject_success", "HeadObject_success"),
    "access without a signature": ("GetObject_overrides_fail_public", "HeadObject_overrides_fail_public"),
    "versitygw's own API for users": ("Authentication_date_mismatch",),
    "keys that are paths, whose names have 255 bytes": ("HeadObject_name_too_long",),
    "a continuation token that is the last key: S3's is opaque": ("ListObjectsV2_both_start_after_and_continuation_token",),
}


class EmbeddedEndpoint(Server):
    """A daemon with a directory of buckets, and a front that makes them."""

    part, name = "embedded", "embedded endpoint"

    def __init__(self, program):
        self.program = program
        super().__init__()

    def start(self):
        secret = Secret(os.urandom(32))
        self.access_key = "HANDOUT" + secret.derive(b"embedded-credentials", b"local", b"id")[:13].upper()
        self.secret_key = secret.derive(b"embedded-credentials", b"local", b"secret")
        self.front = Front(self.port, self.dir / "buckets")
        (self.dir / "buckets/reports").mkdir(parents=True)
        (self.dir / "secret.key").write_bytes(secret.secret)
        text = CONFIG.format(dir=self.dir, port=self.port, front=self.front.port, http=free_port())
        (self.dir / "config.toml").write_text(text)
        super().start()

    def command(self):
        return [self.program, "run", "--config", self.dir / "config.toml"]

    def stop(self):
        super().stop()
        if front := getattr(self, "front", None):
            front.stop()

    def judged(self, test):
        """Whether one of the client's tests passes, and what it says."""
        keys = ["-a", self.access_key, "-s", self.secret_key, "-e", f"http://127.0.0.1:{self.front.port}"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        command = [ROOT / "bin/versitygw", "--region", "us-east-1", "test", *keys, test]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, env=environment)
        words = re.sub(r"\x1b\[\d*m", "", ended.stdout + ended.stderr)
        return ended.returncode == 0 and "PASS" in words, words.strip()


class Front:
    """Makes and removes buckets as folders, since the client wants one for each test, and passes everything else on byte by byte."""

    def __init__(self, upstream, folder):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # An answer leaves in one piece: some tests read it after they have cancelled the request.
            wbufsize = 1 << 16

            def log_message(self, *_):
                pass

            def answer(self):
                body = self.body()
                if (status := made_by_hand(folder, self.command, self.path)) is not None:
                    return self.send(status, [], b"")
                return self.send(*passed_on(upstream, self, body))

            def body(self):
                if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return b"".join(parts)

            def send(self, status, headers, body):
                self.send_response_only(status)
                length = next((value for name, value in headers if name.lower() == "content-length"), None)
                for name, value in headers:
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                has_body = status not in (204, 304)
                if has_body:
                    self.send_header("Content-Length", (self.command == "HEAD" and length) or str(len(body)))
                self.end_headers()
                if has_body and self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def made_by_hand(folder, method, target):
    """The status of what the operator does by hand: buckets, and the removal of objects after a test; nothing for the endpoint's own."""
    path, _, query = target.partition("?")
    bucket, _, key = path.strip("/").partition("/")
    if "X-Amz-" in query or not bucket:
        return None
    place = folder / urllib.parse.unquote(bucket)
    if method == "DELETE" and key:
        return 204
    if key or query and not query.startswith("x-id="):
        return None
    if method == "PUT":
        place.mkdir(exist_ok=True)
        return 200
    if method == "DELETE":
        shutil.rmtree(place, ignore_errors=True)
        return 204
    return None


def passed_on(upstream, request, body):
    connection = http.client.HTTPConnection("127.0.0.1", upstream, timeout=60)
    try:
        connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            if name.lower() not in ("connection", "transfer-encoding"):
                connection.putheader(name, value)
        if body and not request.headers.get("Content-Length"):
            connection.putheader("Content-Length", str(len(body)))
        # The endpoint answers some requests before it has read their body.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        connection.close()


def tests():
    """The names of the client's tests."""
    said = subprocess.run([ROOT / "bin/versitygw", "test", "--help"], capture_output=True, text=True).stdout
    names = {line.split()[0] for line in said.splitlines() if line.strip()}
    return sorted(name for name in names if name.partition("_")[0] in GROUPS)


def before_a_client(_program, endpoint):
    """Every test of what the endpoint does passes, and the others are named with what they need."""
    beyond = {test: what for what, some in BEYOND.items() for test in some}
    names = tests()
    # One after the other: each process of the client calls its first bucket the same.
    results = {test: endpoint.judged(test) for test in names}
    passed = {test for test, (passed, _) in results.items() if passed}
    wrong = [f"{test}: {results[test][1][-300:]}" for test in names if test not in passed and test not in beyond]
    need(not wrong, "; ".join(wrong))
    stale = sorted(test for test in beyond if test in passed or test not in results)
    need(not stale, f"these pass now, or are gone: {', '.join(stale)}")
    return f"{len(passed)} of {len(names)} tests of versitygw's client pass; the others need {counted(BEYOND)}"


def counted(beyond):
    return ", ".join(f"{what} ({len(some)})" for what, some in beyond.items())
