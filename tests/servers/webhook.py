#!/usr/bin/env python3
"""A receiver of webhooks on a free port of 127.0.0.1, which verifies what it gets by the reference library of Standard Webhooks.

    .test/venv/bin/python tests/servers/webhook.py [--port N] SECRET

Prints `ready <port>` when it listens, and ends when its standard input is closed.

    POST /any            204, or the next of the planned answers with a page of 100 KB; with a wrong signature always 401
    GET  /plan?JSON      plans answers: [503, 429, "hang", "endless"]; the last is a 200 whose page never ends
    GET  /posts          what was posted and answered: [{id, body, is_valid, answer, path}]
"""

import argparse
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from standardwebhooks import Webhook, WebhookVerificationError

HANG = 60
PAGE_BYTES = 100_000


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plan, posts, lock, secret = [], [], threading.Lock(), ""

    def answer(self, status, body=b""):
        self.send_response(status)
        if status in (429, 503):
            self.send_header("Retry-After", "1")
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        with self.lock:
            if url.path == "/plan":
                self.plan[:] = json.loads(unquote(url.query))
            body = json.dumps(self.posts).encode()
        self.answer(200, body)

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        try:
            body, is_valid = Webhook(self.secret).verify(text, dict(self.headers)), True
        except WebhookVerificationError:
            body, is_valid = json.loads(text), False
        with self.lock:
            planned = self.plan.pop(0) if self.plan else 204
            status = planned if is_valid else 401
            id = self.headers["webhook-id"]
            self.posts.append({"id": id, "body": body, "is_valid": is_valid, "answer": status, "path": self.path})
        if status == "hang":
            time.sleep(HANG)
            return
        if status == "endless":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(HANG * 10):
                self.wfile.write(b"1\r\nx\r\n")
                time.sleep(0.1)
            return
        # A page of a balancer, or of a framework, may be long.
        self.answer(status, b"" if status == 204 else b"x" * PAGE_BYTES)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("secret")
    arguments = parser.parse_args()
    Receiver.secret = arguments.secret
    server = Server(("127.0.0.1", arguments.port), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"ready {server.server_port}", flush=True)
    sys.stdin.read()


main()
