#!/usr/bin/env python3
"""Holds the export of spans to a receiver of OTLP that shares no code with the program.

    .test/otlp/bin/python tests/otlp/otlp.py target/debug/handout

The program was built with `--features otlp`. A real daemon does jobs with and without a trace; the receiver decodes what is posted with the messages
of opentelemetry-proto. Then the receiver is down, and then it hangs: jobs and the stop are as fast as without one, and lost spans are counted.
"""

import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 60
# How long a job or a stop may take without being held up: far less than the ten seconds of a request for spans.
SOON = 5
TRACE, STEP = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ADDRESS = "ann@acme.example"

sys.path.insert(0, str(ROOT / "tests/servers"))
from serving import free_port  # noqa: E402


def fail(reason):
    print(f"otlp: {reason}", file=sys.stderr)
    sys.exit(1)


class Receiver:
    """Takes spans at /v1/traces, or hangs."""

    def __init__(self, hangs=False):
        self.bodies, self.headers, self.asked = [], [], threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                receiver.asked.set()
                if hangs:
                    time.sleep(PATIENCE)
                    return
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.headers.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                receiver.bodies.append(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self):
        found = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                of = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                for scope in resource.scope_spans:
                    found += [(of, span) for span in scope.spans]
        return found


class Daemon:
    """A daemon with a queue in a file and an object."""

    def __init__(self, program, traces, variables=None):
        self.program, self.scratch = program, tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)
        (self.folder / "buckets/reports").mkdir(parents=True)
        (self.folder / "buckets/reports/a.txt").write_text("a")
        self.http = free_port()
        config = f"""\
state_dir = "state"
[connections.local]
directory = "buckets"
[embedded]
listen = "127.0.0.1:{free_port()}"
[http]
listen = "127.0.0.1:{self.http}"
[results]
file = "results.jsonl"
[[allow]]
connection = "local"
bucket = "reports"
recipients = ["*@acme.example"]
"""
        if traces:
            config += f'[traces]\nurl = "{traces}"\n'
        self.config = self.folder / "config.toml"
        self.config.write_text(config)
        self.environment = {"PATH": os.environ["PATH"], **(variables or {})}
        self.log = (self.folder / "log").open("wb")
        self.process = subprocess.Popen([program, "run", "--config", self.config], env=self.environment, stdin=subprocess.DEVNULL, stderr=self.log, cwd=self.folder)
        self.wait("the daemon is ready", lambda: self.get("/ready") is not None)

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=5) as got:
                return got.read().decode()
        except OSError:
            return None

    def wait(self, what, is_so):
        until = time.monotonic() + PATIENCE
        while not (so := is_so()):
            if time.monotonic() > until or self.process.poll() is not None:
                fail(f"it never was so that {what}:\n{(self.folder / 'log').read_text()}")
            time.sleep(0.05)
        return so

    def job(self, name, *options):
        """Submits a job, and returns how long it took until its result was there."""
        job = {"v": 1, "id": name, "from": {"connection": "local", "bucket": "reports", "prefix": ""}, "email": {"to": [ADDRESS]}}
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(job))
        done = subprocess.run([self.program, "job", "submit", file, "--config", self.config, *options], env=self.environment, capture_output=True, text=True, cwd=self.folder)
        if done.returncode != 0:
            fail(f"job submit {name}: {done.stderr}")
        begun = time.monotonic()
        results = self.folder / "results.jsonl"
        self.wait(f"{name} is done", lambda: results.exists() and f'"{name}"' in results.read_text())
        return time.monotonic() - begun

    def counted(self, result):
        return int(re.search(rf'^handout_spans_total\{{result="{result}"\}} (\d+)$', self.get("/metrics"), re.M)[1])

    def stop(self):
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        if code != 0:
            fail(f"the daemon ended with {code}:\n{(self.folder / 'log').read_text()}")
        return time.monotonic() - begun


def attributes(span):
    return {pair.key: pair.value.string_value for pair in span.attributes}


def takes_spans(program):
    receiver = Receiver()
    variables = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=s%20t", "OTEL_SERVICE_NAME": "reports", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test"}
    daemon = Daemon(program, f"{receiver.url}/v1/traces", variables)
    daemon.job("traced", "--traceparent", f"00-{TRACE}-{STEP}-01")
    daemon.job("unrecorded", "--traceparent", f"00-{'a' * 32}-{'b' * 16}-00")
    daemon.job("untraced")
    of_job = lambda name: [span for _, span in receiver.spans() if attributes(span).get("job.id") == name and span.name == "job"]
    daemon.wait("the spans of both jobs came", lambda: of_job("traced") and of_job("untraced"))
    sent = daemon.counted("sent")
    taken = daemon.stop()
    if taken > SOON:
        fail(f"the stop took {taken:.1f} s")
    spans = receiver.spans()
    if sent > len(spans):
        fail(f"{sent} spans count as sent, and {len(spans)} came")
    traced = [span for _, span in spans if span.trace_id.hex() == TRACE]
    by_id = {span.span_id.hex(): span for span in traced}
    names = sorted(span.name for span in traced)
    for step in ["message", "job", "list", "sign", "record", "mail", "render", "deliver"]:
        if step not in names:
            fail(f"no span of the step {step}: {names}")
    message = next(span for span in traced if span.name == "message")
    if message.parent_span_id.hex() != STEP or "message.id" not in attributes(message):
        fail(f"the message is not in the sender's step: {message}")
    if lost := [span.name for span in traced if span is not message and span.parent_span_id.hex() not in by_id]:
        fail(f"the parents of {lost} did not come")
    job = next(span for span in traced if span.name == "job")
    if attributes(job)["job.id"] != "traced" or job.parent_span_id != message.span_id:
        fail(f"the job is not in its message: {job}")
    mail = next(span for span in traced if span.name == "mail")
    if not re.fullmatch("[0-9a-f]{32}", attributes(mail).get("recipient.rid", "")):
        fail(f"the mail does not name its recipient: {mail}")
    if any(span.end_time_unix_nano < span.start_time_unix_nano or abs(span.start_time_unix_nano / 1e9 - time.time()) > 600 for span in traced):
        fail("the times of spans are wrong")
    if any(span.trace_id.hex() == "a" * 32 for _, span in spans):
        fail("a trace that its sender does not record came")
    if of_job("untraced")[0].trace_id.hex() == TRACE:
        fail("a job without a trace is in the trace of another")
    for of, _ in spans:
        if of.get("service.name") != "reports" or of.get("deployment.environment") != "test" or "service.version" not in of:
            fail(f"the resource is {of}")
    for path, headers in receiver.headers:
        if path != "/v1/traces" or headers.get("content-type") != "application/x-protobuf" or headers.get("api-key") != "s t":
            fail(f"a request to {path} had {headers}")
    if any(text in body for body in receiver.bodies for text in [ADDRESS.encode(), b"http://", b"X-Amz"]):
        fail("a span has an address or a URL")
    return f"{len(spans)} spans came"


def down(program):
    daemon = Daemon(program, None, {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"})
    job = daemon.job("down")
    daemon.wait("the lost spans are counted", lambda: daemon.counted("dropped") > 0)
    daemon.job("again")
    stop = daemon.stop()
    log = (daemon.folder / "log").read_text()
    if job > SOON or stop > SOON or log.count("spans were dropped") != 1:
        fail(f"with a receiver that is down, the job took {job:.1f} s and the stop {stop:.1f} s:\n{log}")
    return f"down: job {job:.1f} s, stop {stop:.1f} s"


def hangs(program):
    receiver = Receiver(hangs=True)
    daemon = Daemon(program, f"{receiver.url}/v1/traces")
    first = daemon.job("first")
    daemon.wait("the receiver was asked", receiver.asked.is_set)
    second = daemon.job("second")
    stop = daemon.stop()
    if max(first, second, stop) > SOON:
        fail(f"with a receiver that hangs, jobs took {first:.1f} and {second:.1f} s and the stop {stop:.1f} s")
    return f"hanging: jobs {first:.1f} and {second:.1f} s, stop {stop:.1f} s"


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    print("otlp: " + "; ".join(scenario(program) for scenario in [takes_spans, down, hangs]))


if __name__ == "__main__":
    main()
