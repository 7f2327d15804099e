"""What is proved of the intake and a store with a webhook of its own: its events become jobs by HTTP, each once, through restarts and lost answers."""

import collections
import contextlib
import http.client
import http.server
import json
import threading
import time

from desk import Desk, environment, fetch, need
from line import free_port
from queues import ON_EVENT, wait_for
from world import Worker

TOKEN = "token-of-the-webhook-0123456789abcdef"

INTAKE = """
[intake]
listen = "127.0.0.1:{port}"
token_file = "intake-token"
"""

KEYS = ["a b.txt", "Größe é.txt", "in/Q3 report.pdf", "a+b.txt", "100%.txt", "a%20b.txt", "what?.txt", "#1.txt", "a&b=c.txt", "日本語/📄.txt"]


class Taker:
    """A daemon with an intake, and the bucket whose events it takes."""

    def __init__(self, program, store, port, name):
        self.bucket, self.port = name, port
        self.desk = Desk(program, store, more=INTAKE.format(port=port))
        (self.desk.dir / "intake-token").write_text(TOKEN)
        self.desk.with_bucket(name)
        source = {"connection": "store", "bucket": "{{event.bucket}}", "keys": ["{{event.key}}"]}
        job = {"v": 1, "id": "upload", "from": source, "email": {"to": ["ann@acme.example"], "subject": "[{{event.key}}]"}}
        (self.desk.dir / "on-upload.json").write_text(json.dumps(job))
        with open(self.desk.config, "a") as config:
            config.write(ON_EVENT.format(bucket=name))
        self.daemon = Worker(program, self.desk.config, self.desk.dir / "daemon.log")
        self.daemon.environment = environment()

    def start(self):
        self.daemon.start()
        self.daemon.wait_until_ready()

    def kill(self):
        self.daemon.kill()
        self.daemon.process.wait()

    def put(self, keys):
        for key in keys:
            self.desk.store.client().put_object(Bucket=self.bucket, Key=key, Body=key.encode())

    def mailed(self):
        index = self.desk.dir / "state/outbox/index.jsonl"
        lines = index.read_text().splitlines() if index.exists() else []
        return [json.loads(line)["subject"].removeprefix("[").removesuffix("]") for line in lines]

    def until_mailed_once(self, keys, seconds=60):
        wait_for(lambda: set(keys) <= set(self.mailed()), lambda: f"not mailed: {set(keys) - set(self.mailed())}\n{self.daemon.tail()}", seconds)
        # A second mail would come soon after the first.
        time.sleep(2)
        count = collections.Counter(self.mailed())
        need(count == collections.Counter(keys), f"mails: {count - collections.Counter(keys)} too many")


@contextlib.contextmanager
def losing_first_answers(port, to):
    """Passes each request on to the intake, and closes the connection instead of its first answer."""
    seen, lost = set(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            connection = http.client.HTTPConnection("127.0.0.1", to, timeout=30)
            try:
                connection.request("POST", self.path, body, {"Authorization": self.headers["authorization"], "Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except OSError:
                self.close_connection = True
                return
            finally:
                connection.close()
            if answer.status == 202 and body not in seen:
                seen.add(body)
                lost.append(body)
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def webhook(program, kind):
    """Events that a store sends by its own webhook are handed out once: odd keys, a daemon that is killed and started, answers that are lost."""
    port, front = free_port(), free_port()
    store = kind(told_events=f"http://127.0.0.1:{front}/events", token=TOKEN)
    taker = Taker(program, store, port, "webhook")
    try:
        with losing_first_answers(front, port) as lost:
            taker.start()
            store.tells_events_of(taker.bucket)
            taker.put(KEYS)
            mailed = list(KEYS)
            taker.until_mailed_once(mailed)
            need(len(lost) == len(KEYS), f"{len(lost)} answers were lost, of {len(KEYS)}")
            for link in taker.desk.mail_links():
                need(fetch(link).status == 200, f"a link does not open: {link.partition('?')[0]}")
            # Nobody is there to take them; the store keeps them.
            taker.kill()
            down = [f"down/{number}.txt" for number in range(5)]
            taker.put(down)
            time.sleep(4)
            taker.start()
            mailed += down
            taker.until_mailed_once(mailed)
            # Killed while they come.
            kills = 0
            for round in range(4):
                under_way = [f"killed/{round}-{number}.txt" for number in range(4)]
                uploading = threading.Thread(target=taker.put, args=(under_way,))
                uploading.start()
                time.sleep(0.05 * round)
                taker.kill()
                kills += 1
                uploading.join()
                taker.start()
                mailed += under_way
            taker.until_mailed_once(mailed, 120)
            code = taker.daemon.stop()
        need(code == 0, f"the daemon ended with {code}: {taker.daemon.tail()[-800:]}")
        return f"{len(mailed)} uploads by its webhook with a token, mailed once; {len(lost)} answers lost and {kills + 1} kills in between; the events of a daemon that was down came when it was back"
    finally:
        if taker.daemon.process and taker.daemon.process.poll() is None:
            taker.kill()
        store.stop()
