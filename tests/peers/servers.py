"""Servers that people run, as `servers.sh` made them: each a process of its own on a free port of 127.0.0.1, ended by its id."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import boto3
from botocore.config import Config

from checker import ACCESS_KEY, SECRET_KEY
from line import free_port

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1] / ".test/peers"
REGION = "eu-west-1"


def client(service, port, **more):
    # For signed links boto3 takes version 2 otherwise.
    version = "s3v4" if service == "s3" else "v4"
    config = Config(signature_version=version, s3={"addressing_style": "path"}, retries={"max_attempts": 10, "mode": "standard"}, max_pool_connections=20)
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, **more}
    return boto3.client(service, endpoint_url=f"http://127.0.0.1:{port}", region_name=REGION, config=config, **keys)


class Server:
    """One process and its directory; it can be killed and started again, and keeps its data."""

    #: Which part of servers.sh it is, and how the table calls it.
    part, name = "", ""
    patience = 60

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"handout-{self.part}-"))
        self.port, self.process = free_port(), None
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def command(self):
        raise NotImplementedError

    def environment(self):
        return {}

    def start(self):
        with open(self.dir / "server.log", "a") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.environment()}, start_new_session=True
            )
        self.until_it_answers()

    def until_it_answers(self):
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.is_well():
                    return
            time.sleep(0.05)
        said = (self.dir / "server.log").read_text()[-800:]
        raise RuntimeError(f"{self.name} did not start; it {'runs' if self.process.poll() is None else 'ended'}:\n{said}")

    def is_well(self):
        """It answers, and not that it cannot work yet."""
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=2).close()
        except urllib.error.HTTPError as error:
            return error.code != 503
        return True

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


class Store(Server):
    """An S3 server."""

    access_key, secret_key = ACCESS_KEY, SECRET_KEY
    #: What it does otherwise than S3 does, or cannot; each proof holds the server against it.
    opens_another_region = False
    #: Of which keys it refuses an object, and which it keeps and does not list under their names.
    refuses = hides = ()
    has_versions = True
    keeps_a_ledger = True
    has_roles = False
    #: Whether a policy of a user can deny objects by their tag.
    denies_by_tag = False
    #: Which key is read from its event about a key, by the rules of S3's events.
    told_as = staticmethod(lambda key: key)

    def __init__(self, told_events=None, token=None):
        self.told_events = told_events  # the URL that it tells of each upload
        self.token = token  # what it shows there; then it keeps the events that were not taken
        super().__init__()

    def tells_events_of(self, bucket):
        """Where it does not do so by itself."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def client(self, service="s3"):
        return client(service, self.port, aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key)

    def bucket(self, name):
        self.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    def fill(self, bucket, keys):
        """Puts an object at each key, whose bytes are its key; by signed links, since boto3 takes milliseconds for each."""
        s3 = self.client()

        def put(some):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            for key in some:
                url = urllib.parse.urlsplit(s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": key}))
                connection.request("PUT", f"{url.path}?{url.query}", body=key.encode())
                answer = connection.getresponse()
                words = answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"PUT {key}: {answer.status} {words[:200]}")
            connection.close()

        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            for done in [threads.submit(put, keys[at::8]) for at in range(8)]:
                done.result()


class Versitygw(Store):
    part, name = "versitygw", "versitygw 1.8.0"
    #: Its keys are paths: a name in them has 255 bytes at most, and "." and "//" are nothing.
    refuses = ("x" * 1000, "folder and file/inside")
    hides = ("double//slash", "/leading")
    #: It escapes nothing.
    told_as = staticmethod(urllib.parse.unquote_plus)

    def command(self):
        for name in ("objects", "versions"):
            (self.dir / name).mkdir(exist_ok=True)
        told = ["--event-webhook-url", self.told_events] if self.told_events else []
        options = ["--region", REGION, "--keep-alive", "--quiet", *told]
        return [ROOT / "bin/versitygw", "--port", f"127.0.0.1:{self.port}", *options, "posix", "--versioning-dir", self.dir / "versions", self.dir / "objects"]

    def environment(self):
        return {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}

    def fill(self, bucket, keys):
        """Its objects are files."""
        for key in keys:
            path = self.dir / "objects" / bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(key.encode())


class Minio(Store):
    part, name = "minio", "MinIO 2026-02-12"
    #: As people run it, without MINIO_SITE_REGION: with that, it refuses links of another region.
    opens_another_region = True
    has_roles = denies_by_tag = True
    refuses = ("double//slash", "x" * 1000)
    #: Below an object that is a "folder" too, nothing is listed.
    hides = ("/leading", "folder and file/inside")

    def command(self):
        return [ROOT / "bin/minio", "server", "--quiet", self.dir / "data", "--address", f"127.0.0.1:{self.port}"]

    def tells_events_of(self, bucket):
        queue = {"QueueArn": "arn:minio:sqs::peers:webhook", "Events": ["s3:ObjectCreated:*"]}
        self.client().put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [queue]})

    def environment(self):
        own = {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY, "HOME": str(self.dir)}
        if self.told_events:
            own.update(MINIO_NOTIFY_WEBHOOK_ENABLE_peers="on", MINIO_NOTIFY_WEBHOOK_ENDPOINT_peers=self.told_events)
        if self.token:
            own.update(MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_peers=self.token, MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_peers=str(self.dir / "events"))
        return {**own, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}

    def ask(self, *words):
        """What its own command says."""
        ended = subprocess.run([ROOT / "bin/mc", "--config-dir", self.dir / "mc", *words], capture_output=True, text=True, timeout=60)
        if ended.returncode != 0:
            raise RuntimeError(f"mc {' '.join(map(str, words))}: {ended.stderr[-400:]}")
        return ended.stdout

    def signer(self):
        """The store as a user of its own sees it, who may read and write; no policy binds the root user."""
        self.ask("alias", "set", "peers", self.url, ACCESS_KEY, SECRET_KEY)
        self.ask("admin", "user", "add", "peers", "signer", "secret-of-the-signer")
        self.ask("admin", "policy", "attach", "peers", "readwrite", "--user", "signer")
        return KeyOf(self, "signer", "secret-of-the-signer")

    def deny(self, signer, bucket, policy):
        """Puts a policy about a bucket beside those of a user, as docs/links/leaked.md says."""
        path = self.dir / "policy.json"
        path.write_text(json.dumps(policy))
        self.ask("admin", "policy", "create", "peers", f"handout-{bucket}", path)
        self.ask("admin", "policy", "attach", "peers", f"handout-{bucket}", "--user", signer.access_key)


class KeyOf:
    """A store, with another key for it."""

    def __init__(self, store, access_key, secret_key):
        self.url, self.bucket, self.client = store.url, store.bucket, store.client
        self.access_key, self.secret_key = access_key, secret_key


GARAGE = """
metadata_dir = "{dir}/meta"
data_dir = "{dir}/data"
db_engine = "lmdb"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{secret}"
[s3_api]
s3_region = "{region}"
api_bind_addr = "127.0.0.1:{port}"
"""


class Garage(Store):
    part, name = "garage", "Garage 2.5.0"
    #: It answers 200 to a write with a condition, and writes.
    keeps_a_ledger = False
    has_versions = False
    #: Its database, LMDB, has keys of some 500 bytes at most.
    refuses = (f"long/{'/'.join(['x' * 199] * 4)}/{'x' * 195}", "x" * 1000)
    hides = ("/leading",)
    #: Garage makes its own keys.
    access_key = secret_key = None

    def command(self):
        configuration = self.dir / "garage.toml"
        if not configuration.exists():
            configuration.write_text(GARAGE.format(dir=self.dir, rpc=free_port(), port=self.port, region=REGION, secret=os.urandom(32).hex()))
        return [ROOT / "bin/garage", "-c", configuration, "server"]

    def ask(self, *words):
        """What its own command says."""
        ended = subprocess.run([ROOT / "bin/garage", "-c", self.dir / "garage.toml", *words], capture_output=True, text=True, timeout=30)
        if ended.returncode != 0:
            raise RuntimeError(f"garage {' '.join(words)}: {ended.stderr[-400:]}")
        return ended.stdout

    def start(self):
        super().start()
        if self.access_key is None:
            node = self.ask("node", "id", "-q").partition("@")[0]
            self.ask("layout", "assign", "-z", "here", "-c", "1G", node)
            self.ask("layout", "apply", "--version", "1")
            made = self.ask("key", "create", "peers")
            self.access_key = re.search(r"Key ID:\s*(\S+)", made).group(1)
            self.secret_key = re.search(r"Secret key:\s*(\S+)", made).group(1)
            self.ask("key", "allow", "--create-bucket", self.access_key)


ELASTICMQ = """
node-address {{ protocol = http, host = "127.0.0.1", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = "127.0.0.1", sqs-limits = strict }}
rest-stats {{ enabled = false }}
aws {{ region = "{region}", accountId = "000000000000" }}
"""


class ElasticMq(Server):
    part, name = "elasticmq", "ElasticMQ 1.6.12"

    def command(self):
        configuration = self.dir / "elasticmq.conf"
        configuration.write_text(ELASTICMQ.format(port=self.port, region=REGION))
        return ["java", "-Xmx512m", f"-Dconfig.file={configuration}", "-cp", f"{ROOT}/elasticmq/*", "org.elasticmq.server.Main"]


class Mailpit(Server):
    part, name = "mailpit", "Mailpit 1.33.1"

    def command(self):
        self.smtp_port = free_port()
        listen = ["--listen", f"127.0.0.1:{self.port}", "--smtp", f"127.0.0.1:{self.smtp_port}"]
        return [ROOT / "bin/mailpit", "--quiet", "--disable-version-check", "--database", self.dir / "mails.db", *listen]

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=30) as answer:
            return json.load(answer)


class Keycloak(Server):
    """The provider of one realm, with one client and its users."""

    part, name = "keycloak", "Keycloak 26.0.7"
    # It migrates its database as it starts: half a minute on an idle machine.
    patience = 400
    realm, secret, password = "acme", "the-secret-of-the-client", "correct horse"

    def command(self):
        return [ROOT / "keycloak/bin/kc.sh", "start-dev", "--db=dev-mem", "--http-host=127.0.0.1", f"--http-port={self.port}"]

    def environment(self):
        heap = {"JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx512m"}
        return {"KC_BOOTSTRAP_ADMIN_USERNAME": "admin", "KC_BOOTSTRAP_ADMIN_PASSWORD": "admin", **heap}

    def is_well(self):
        try:
            self.ask("GET", "/realms/master/.well-known/openid-configuration")
        except urllib.error.HTTPError:
            return False
        return True

    @property
    def issuer(self):
        return f"http://127.0.0.1:{self.port}/realms/{self.realm}"

    def ask(self, method, path, body=None, form=False, **headers):
        data = urllib.parse.urlencode(body).encode() if form else body and json.dumps(body).encode()
        kind = {} if form or body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {**kind, **headers}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def admits(self, callback, users):
        """Makes the realm with a client for this callback, and users of whom {address: whether it is verified} is known."""
        login = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
        token = self.ask("POST", "/realms/master/protocol/openid-connect/token", login, form=True)["access_token"]
        admin = {"Authorization": f"Bearer {token}"}
        client = {
            "clientId": "handout",
            "secret": self.secret,
            "redirectUris": [callback],
            "standardFlowEnabled": True,
            "attributes": {"pkce.code.challenge.method": "S256"},
        }
        credentials = [{"type": "password", "value": self.password, "temporary": False}]
        people = [
            {
                "username": address.partition("@")[0],
                "email": address,
                "emailVerified": is_verified,
                "enabled": True,
                "firstName": address.partition("@")[0].title(),
                "lastName": "Harbour",
                "credentials": credentials,
            }
            for address, is_verified in users.items()
        ]
        self.ask("POST", "/admin/realms", {"realm": self.realm, "enabled": True, "clients": [client], "users": people}, **admin)


STORES = (Versitygw, Minio, Garage)


class Cloud:
    """A store, and ElasticMQ for queues."""

    def __init__(self, store=Versitygw):
        self.store, self.queue = store(), None
        try:
            self.queue = ElasticMq()
        except BaseException:
            self.stop()
            raise
        self.s3_port, self.sqs_port = self.store.port, self.queue.port

    def stop(self):
        for server in (self.store, self.queue):
            if server is not None:
                server.stop()


@contextlib.contextmanager
def killed_again_and_again(server, rng):
    """Kills a server every few seconds and starts it again; how often, in the list."""
    over, kills, died = threading.Event(), [], []

    def kill():
        while not over.wait(rng.uniform(3, 9)):
            server.kill()
            kills.append(time.monotonic())
            over.wait(rng.uniform(0, 0.5))
            try:
                server.start()
            except RuntimeError as error:
                died.append(error)
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield kills
    finally:
        over.set()
        killer.join()
        if died:
            raise died[0]
