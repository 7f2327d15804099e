"""A small HTTP proxy before S3 and SQS: writes down what took effect, fails as told, and lets time pass for the queue.

Each worker has a port of its own, so that it is known who holds which message. `wire.jsonl` has one line for each write that the server
answered with success, in the order of the answers: a message sent, received or deleted, a record of the ledger put.
"""

import asyncio
import json
import pathlib
import urllib.parse

from listener import Listener

HOP = (b"connection", b"keep-alive", b"transfer-encoding")


class Faults:
    """Fails some calls: before they reach the server, or after, when they took effect and nobody is told."""

    KINDS = ("500 before", "503 before", "cut before", "500 after", "cut after")

    def __init__(self, rng, rate):
        self.rng, self.rate = rng, rate
        self.count = 0

    def next(self):
        if self.rng.random() >= self.rate:
            return None
        self.count += 1
        return self.rng.choice(self.KINDS)


class Proxy:
    def __init__(self, world, s3_port, sqs_port, workers, queue="", parked=""):
        self.world, self.s3_port, self.sqs_port = pathlib.Path(world), s3_port, sqs_port
        self.queue, self.parked = queue, parked
        self.log = open(self.world / "wire.jsonl", "a")
        self.faults = None
        self.longest_hold = None  # seconds; what a receive asks for is cut down to this
        self.longest_wait = None  # seconds; for messages that are given back for later
        self.hold = 30
        self.on_record = lambda worker, key, body: None
        self.unanswered = {}  # path -> (worker, body) of the PUTs of which the server, killed, said nothing
        self.receipts = [{} for _ in range(workers + 1)]  # receipt -> message id, by who received it
        self.names = {}  # message id -> job
        self.listener = Listener(self.serve, workers + 1)
        self.ports = self.listener.ports

    def stop(self):
        self.listener.stop()
        self.log.close()

    @property
    def control(self):
        """The port of the harness: nothing fails there."""
        return self.ports[-1]

    def held_by(self, worker):
        """The receipts that a worker has and did not give back."""
        held = list(self.receipts[worker])
        self.receipts[worker].clear()
        return held

    def note(self, **entry):
        self.log.write(json.dumps(entry) + "\n")
        self.log.flush()

    async def serve(self, worker, reader, writer):
        upstreams = {}
        try:
            while (request := await read_message(reader)) is not None:
                port = self.sqs_port if b"x-amz-target" in request[1] else self.s3_port
                if port not in upstreams:
                    upstreams[port] = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
                upstream = upstreams[port]
                fault = self.faults.next() if self.faults and worker != len(self.ports) - 1 else None
                if fault in ("500 before", "503 before"):
                    answer(writer, int(fault[:3]))
                    continue
                if fault == "cut before":
                    return
                request = self.rewritten(request)
                if (response := await self.answered(upstream, request)) is None:
                    self.look_at_unanswered(worker, request)
                    return
                self.look(worker, request, response)
                if fault == "cut after":
                    return
                if fault == "500 after":
                    answer(writer, 500)
                    continue
                write_message(writer, response)
                await writer.drain()
                if b"close" in response[1].get(b"connection", b"").lower():
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            for _, upstream in upstreams.values():
                upstream.close()

    async def answered(self, upstream, request):
        """The server's answer; nothing where it died before."""
        try:
            write_message(upstream[1], request)
            return await read_message(upstream[0], request)
        except (ConnectionError, asyncio.IncompleteReadError):
            return None

    def rewritten(self, request):
        """Lets time pass more quickly for the queue than the configuration can say."""
        first, headers, body = request
        action = headers.get(b"x-amz-target", b"").decode().rpartition(".")[2]
        if action not in ("ReceiveMessage", "ChangeMessageVisibility"):
            return request
        order = json.loads(body)
        if action == "ReceiveMessage":
            if self.longest_hold is not None:
                order["VisibilityTimeout"] = min(order["VisibilityTimeout"], self.longest_hold)
            order["WaitTimeSeconds"] = min(order.get("WaitTimeSeconds", 0), 1)
        elif order["VisibilityTimeout"] != self.hold and self.longest_wait is not None:
            order["VisibilityTimeout"] = min(order["VisibilityTimeout"], self.longest_wait)
        elif order["VisibilityTimeout"] == self.hold and self.longest_hold is not None:
            order["VisibilityTimeout"] = self.longest_hold
        return first, headers, json.dumps(order).encode()

    def look(self, worker, request, response):
        """Writes down what took effect."""
        status = int(response[0].split()[1])
        if not 200 <= status < 300:
            return
        method, path = target_of(request)
        action = request[1].get(b"x-amz-target", b"").decode().rpartition(".")[2]
        if action:
            self.look_at_queue(worker, action, json.loads(request[2]), json.loads(response[2] or b"{}"))
        elif method == "PUT":
            self.unanswered.pop(path, None)
            self.on_record(worker, path, request[2])
        elif method == "GET" and self.unanswered.get(path, (None, None))[1] == response[2]:
            # It took effect, as who asks for it now learns.
            self.on_record(self.unanswered.pop(path)[0], path, response[2])

    def look_at_unanswered(self, worker, request):
        """Whether a PUT took effect shows when it is read. A lease counts at once: to end one that is not there harms nothing."""
        method, path = target_of(request)
        if method == "PUT" and path.endswith("/lease"):
            self.on_record(worker, path, request[2])
        elif method == "PUT":
            self.unanswered[path] = worker, request[2]

    def look_at_queue(self, worker, action, order, answer):
        mine = order.get("QueueUrl", "").rpartition("/")[2] == self.queue.rpartition("/")[2]
        match action:
            case "SendMessage" if mine:
                job = json.loads(order["MessageBody"]).get("id")
                self.names[answer["MessageId"]] = job
                self.note(did="sent", message=answer["MessageId"], job=job)
            case "SendMessage":
                was = order.get("MessageAttributes", {}).get("handout-message-id", {}).get("StringValue")
                self.note(did="sent", message=answer["MessageId"], job=None, parked=was)
            case "ReceiveMessage" if mine:
                for message in answer.get("Messages", []):
                    self.receipts[worker][message["ReceiptHandle"]] = message["MessageId"]
                    self.note(did="received", message=message["MessageId"], worker=worker)
            case "ChangeMessageVisibility" if order["VisibilityTimeout"] == 0:
                self.receipts[worker].pop(order["ReceiptHandle"], None)
            case "DeleteMessage" if mine:
                message = self.receipts[worker].pop(order["ReceiptHandle"], None)
                if message is not None:
                    self.note(did="deleted", message=message, worker=worker)


def target_of(request):
    """Method and path of a request."""
    method, target, _ = request[0].decode().split(" ", 2)
    return method, urllib.parse.unquote(target.partition("?")[0])


async def read_message(reader, request=None):
    """A request or a response: (first line, headers, body); nothing when the other side closed."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head[:-4].split(b"\r\n")
    if first.split()[1:2] == [b"100"]:
        return await read_message(reader, request)
    headers = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    if request and (request[0].startswith(b"HEAD ") or first.split()[1] in (b"204", b"304")):
        return first, headers, b""
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return first, headers, body
    if b"content-length" in headers:
        return first, headers, await reader.readexactly(int(headers[b"content-length"]))
    # A request without a length has no body; a response without one ends with its connection.
    body = await reader.read() if request else b""
    return first, headers, body


def write_message(writer, message):
    first, headers, body = message
    is_head = b"content-length" in headers and not body
    kept = {name: value for name, value in headers.items() if name not in HOP and name != b"expect"}
    if not is_head:
        kept[b"content-length"] = str(len(body)).encode()
    writer.write(first + b"\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in kept.items()) + b"\r\n" + body)


def answer(writer, status):
    reason = {500: b"Internal Server Error", 503: b"Service Unavailable"}[status]
    code = {500: b"InternalError", 503: b"SlowDown"}[status]
    body = b'<?xml version="1.0"?><Error><Code>' + code + b"</Code></Error>"
    writer.write(b"HTTP/1.1 %d %s\r\ncontent-length: %d\r\n\r\n" % (status, reason, len(body)) + body)
