#!/usr/bin/env python3
"""Judges deploy/helm and deploy/kubernetes without a cluster.

    .test/venv/bin/python tests/deploy/chart.py target/debug/handout

Each values file of the chart is linted and rendered, and what comes out is held to the schemas of Kubernetes. Then the program is started as its container would be:
with the command, the environment, the configuration and the secrets of the manifest, as the user of its securityContext, on moto, until the probes of the manifest are
answered. Values that cannot work must be refused with a sentence. The manifests of deploy/kubernetes must be what the chart renders; UPDATE=1 writes them.
"""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request

import boto3
import jsonschema
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/handout"
TOOLS = ROOT / ".test/deploy/bin"
KUBERNETES = "1.37"
PLAIN = {"handout.yaml": "workers-values.yaml", "handout-portal.yaml": "portal-values.yaml"}
PATIENCE = 180

sys.path.insert(0, str(ROOT / "tests/servers"))
from serving import free_port  # noqa: E402


def fail(reason):
    print(f"chart: {reason}", file=sys.stderr)
    sys.exit(1)


def run(*command, ok=True):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    said = done.stdout + done.stderr
    if (done.returncode == 0) != ok:
        fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said}")
    return done.stdout if ok else said


def render(*arguments, ok=True):
    return run(TOOLS / "helm", "template", "handout", CHART, "--namespace", "handout", "--kube-version", f"{KUBERNETES}.0", *arguments, ok=ok)


# --- what Kubernetes says ---------------------------------------------------------------------------------------------------------------


def strict(schema):
    """A schema of a CustomResourceDefinition in which a field that it does not name is an error. A cluster drops such a field without a word."""
    if isinstance(schema, list):
        return [strict(of) for of in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: {name: strict(of) for name, of in value.items()} if key == "properties" else strict(value) for key, value in schema.items()}
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("type", None)
        schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in schema and schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


def custom_resources():
    """The schema of each custom resource by its version and kind, as KEDA and the Prometheus operator define it (tests/deploy/crds.py)."""
    schemas = {}
    for file in sorted((ROOT / "tests/deploy/crds").glob("*.yaml")):
        definition = yaml.safe_load(file.read_text())["spec"]
        for version in definition["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            # What is true of the metadata of every resource is not said again.
            schema["properties"]["metadata"] = {"type": "object"}
            schemas[f"{definition['group']}/{version['name']}", definition["names"]["kind"]] = schema
    return schemas


def refuses_what_is_undefined(resource, schema):
    """The schemas are strict: a field that they do not name, on either level, is refused."""
    for place in (resource["spec"], resource["spec"].get("scaleTargetRef") or resource["spec"].get("podIdentity") or resource["spec"]["endpoints"][0]):
        place["misspelt"] = "x"
        if jsonschema.Draft202012Validator(schema).is_valid(resource):
            fail(f"the schema of {resource['kind']} accepts a field that is not defined")
        del place["misspelt"]


def valid(name, text, folder):
    """Every resource has a schema, and follows it."""
    file = folder / f"{name}.yaml"
    file.write_text(text)
    custom = custom_resources()
    resources = [resource for resource in yaml.safe_load_all(text) if resource]
    known = [resource for resource in resources if (resource["apiVersion"], resource["kind"]) not in custom]
    file.write_text(yaml.safe_dump_all(known))
    said = run(TOOLS / "kubernetes-validate", "--strict", "-k", KUBERNETES, file)
    for resource in resources:
        if schema := custom.get((resource["apiVersion"], resource["kind"])):
            jsonschema.validate(resource, schema, cls=jsonschema.Draft202012Validator)
            refuses_what_is_undefined(resource, schema)
    if "Couldn't find schema" in said or not known:
        fail(f"{name}: not every resource was judged:\n{said}")
    names = [(resource["kind"], resource["metadata"]["name"]) for resource in resources]
    if len(set(names)) != len(names):
        fail(f"{name}: two resources have one name: {sorted(names)}")
    return resources


def hardened(name, workload):
    """What is true of every pod, and no schema asks for."""
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    who = pod["securityContext"] | container["securityContext"]
    expected = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    wrong = {key: who.get(key) for key, value in expected.items() if who.get(key) != value}
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    grace = int(environment["HANDOUT_QUEUE__GRACE_PERIOD"].removesuffix("s"))
    if wrong or pod["automountServiceAccountToken"] or pod["terminationGracePeriodSeconds"] < grace + 15:
        fail(f"{name}: the pod of {workload['metadata']['name']} is not confined, or is killed before it has drained: {wrong}")


# --- what the program says --------------------------------------------------------------------------------------------------------------


def project(mount, resources, pod, folder):
    """Fills a directory as the kubelet fills the projected volume: links into a folder that can be exchanged."""
    data = folder / "..2026"
    data.mkdir(parents=True)
    (folder / "..data").symlink_to("..2026")
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == mount["name"])
    texts = {resource["metadata"]["name"]: resource["data"] for resource in resources if resource["kind"] == "ConfigMap"}
    files = {}
    for source in volume["projected"]["sources"]:
        if "configMap" in source:
            files |= texts[source["configMap"]["name"]]
        elif items := source["secret"].get("items"):
            files |= {item["path"]: SECRETS[item["key"]] for item in items}
        else:
            files |= SECRETS_OF[source["secret"]["name"]]
    for name, content in files.items():
        content = content.encode() if isinstance(content, str) else content
        (data / name).write_bytes(content)
        (data / name).chmod(volume["projected"]["defaultMode"])
        (folder / name).symlink_to(f"..data/{name}")


SECRETS = {"secret.key": bytes(range(32)), "aws-credentials": "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = testing\n"}
SECRETS_OF = {"handout-smtp": {"smtp-password": "a password\n"}, "handout-minio": {"minio-secret": "minio-password\n"}}


class Workload:
    """A pod's process, on this machine."""

    def __init__(self, program, resources, workload, folder, moto):
        self.name = workload["metadata"]["name"]
        pod = workload["spec"]["template"]["spec"]
        (self.container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount for mount in self.container["volumeMounts"]}
        self.places = {path: folder / self.name / mount["name"] for path, mount in mounts.items()}
        (folder / self.name).mkdir()
        project(mounts["/etc/handout"], resources, pod, self.places["/etc/handout"])
        user = {}
        who = pod["securityContext"]
        if os.geteuid() == 0:
            user = {"user": who["runAsUser"], "group": who["runAsGroup"], "extra_groups": [who["fsGroup"]]}
        for path in ["/var/lib/handout", "/tmp"]:
            # Root's, and open to its group: so the kubelet mounts a volume for fsGroup.
            self.places[path].mkdir()
            self.places[path].chmod(0o2775)
        if user:
            for path in [*self.places.values(), *(self.places["/etc/handout"] / "..2026").iterdir()]:
                os.chown(path, 0, who["fsGroup"])
        self.ports = {port["name"]: free_port() for port in self.container["ports"]}
        inside = {port["containerPort"]: self.ports[port["name"]] for port in self.container["ports"]}
        self.environment = {entry["name"]: self.here(entry["value"]) for entry in self.container["env"]}
        for name, value in self.environment.items():
            host, _, port = value.rpartition(":")
            if name.endswith("__LISTEN"):
                self.environment[name] = f"{host}:{inside[int(port)]}"
        # Nothing here reaches a real account.
        self.environment |= {"AWS_EC2_METADATA_DISABLED": "true", "TMPDIR": str(self.places["/tmp"])}
        if "AWS_SHARED_CREDENTIALS_FILE" not in self.environment:
            self.environment |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        command = [self.here(part) for part in self.container["command"] + self.container["args"]]
        self.command = [str(program), *command[1:]]
        self.user = user
        self.moto = moto

    def here(self, text):
        """A path of the container as one of this machine."""
        for path, place in self.places.items():
            if text == path or text.startswith(path + "/"):
                return str(place) + text[len(path) :]
        return text

    def accepts(self):
        """The configuration as it is rendered, with nothing over it but the container's own environment."""
        command = [self.command[0], "audit", "key", "--config", self.command[-1]]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, **self.user)
        if done.returncode != 0:
            fail(f"{self.name}: the program rejects what was rendered: {done.stderr}")

    def runs(self, config):
        """Starts it on moto, and waits for the probes."""
        environment = dict(self.environment, HANDOUT_MAIL__TRANSPORT="outbox")
        for name in config["connections"]:
            environment[f"HANDOUT_CONNECTIONS__{name.upper()}__ENDPOINT_URL"] = self.moto
        if config.get("queue", {}).get("kind") == "sqs":
            environment["HANDOUT_QUEUE__ENDPOINT_URL"] = self.moto
        log = self.places["/tmp"] / "log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(self.command, env=environment, stdin=subprocess.DEVNULL, stderr=stderr, **self.user)
        try:
            for probe in ["livenessProbe", "readinessProbe"]:
                self.answers(probe, process, log)
            if "portal" in self.ports:
                self.serves_portal(log)
            process.send_signal(signal.SIGTERM)
            if (code := process.wait(PATIENCE)) != 0:
                fail(f"{self.name} ended with {code} after SIGTERM:\n{log.read_text()}")
        finally:
            process.kill()
            process.wait()
        state = pathlib.Path(self.environment["HANDOUT_STATE_DIR"])
        if state.stat().st_mode & 0o777 != 0o700 or not list(state.glob("audit/*")):
            fail(f"{self.name}: no private state directory with an audit log at {state}")

    def answers(self, probe, process, log):
        get = self.container[probe]["httpGet"]
        deadline = time.monotonic() + PATIENCE
        said = None
        while time.monotonic() < deadline and process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.ports[get['port']]}{get['path']}", timeout=5).close()
                return
            except urllib.error.HTTPError as error:
                said = error.read().decode()
            except OSError as error:
                said = error
            time.sleep(0.1)
        fail(f"{self.name}: {probe} was not answered: {said}\n{log.read_text()}")

    def serves_portal(self, log):
        """A forged link is answered by the portal itself."""
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.ports['portal']}/d/forged", timeout=10).close()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return
            fail(f"{self.name}: the portal answered {error.code} to a forged link\n{log.read_text()}")
        except OSError as error:
            fail(f"{self.name}: the portal did not answer: {error}\n{log.read_text()}")
        fail(f"{self.name}: the portal opened a forged link")


def started(program, name, resources, folder, moto):
    """Starts every workload of a values file, on a moto of its own contents."""
    (text,) = (resource["data"]["config.toml"] for resource in resources if resource["kind"] == "ConfigMap")
    config = tomllib.loads(text)
    client = {"endpoint_url": moto, "region_name": "us-east-1", "aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    s3, sqs = boto3.client("s3", **client), boto3.client("sqs", **client | {"region_name": "eu-west-1"})
    buckets = {rule["bucket"] for rule in config["allow"]} | {config.get("ledger", {}).get("bucket")} - {None}
    for bucket in sorted(buckets):
        s3.create_bucket(Bucket=bucket)
    for key in ["url", "parked_url"]:
        if url := config.get("queue", {}).get(key):
            sqs.create_queue(QueueName=url.rsplit("/", 1)[1])
    workloads = [resource for resource in resources if resource["kind"] == "StatefulSet"]
    if not workloads:
        fail(f"{name}: no workload")
    for workload in workloads:
        hardened(name, workload)
        pod = Workload(program, resources, workload, folder, moto)
        pod.accepts()
        pod.runs(config)
        print(f"chart: {name}: {pod.name} was ready and drained", flush=True)


# --- what is refused --------------------------------------------------------------------------------------------------------------------

REFUSED = [
    ("one-worker-values.yaml", ["--set", "worker.replicas=3"], 'several workers need queue.kind = "sqs"'),
    ("one-worker-values.yaml", ["--set", "keda.enabled=true"], 'several workers need queue.kind = "sqs"'),
    ("one-worker-values.yaml", ["--set", "secretKey.existingSecret="], "secretKey.existingSecret is missing"),
    ("one-worker-values.yaml", ["--set", "config="], "config is empty"),
    ("one-worker-values.yaml", ["--set-file", f"config={ROOT / 'config.toml'}"], "config has no [[allow]] rule"),
    ("minio-values.yaml", ["--set", "networkPolicy.metrics=true"], "'metrics' not allowed"),
    ("one-worker-values.yaml", ["--set", "portal.enabled=true"], "portal.publicUrl is missing"),
    ("one-worker-values.yaml", ["--set", "portal.enabled=true,portal.publicUrl=https://files.acme.example"], 'portal.separate needs ledger.kind = "s3"'),
    ("portal-values.yaml", ["--set", "portal.ingress.tlsSecretName="], "portal.ingress.tlsSecretName is missing"),
    ("portal-values.yaml", ["--set", "keda.region="], "keda.queueUrl and keda.region are missing"),
    ("portal-values.yaml", ["--set", "portal.publicUrl=http://files.acme.example"], "does not match pattern"),
    ("one-worker-values.yaml", ["--set", "worker.replica=3"], "'replica' not allowed"),
    ("read-only-values.yaml", ["--set", "secretKey.base64=c2hvcnQ="], "does not match pattern"),
]


def refused():
    for values, arguments, sentence in REFUSED:
        said = render("-f", CHART / "ci" / values, *arguments, ok=False)
        if sentence not in said:
            fail(f"{values} with {arguments}: expected {sentence!r}, got: {said}")
    print(f"chart: {len(REFUSED)} sets of values that cannot work are refused")


# --- what the guide prints --------------------------------------------------------------------------------------------------------------


def printed(folder):
    """The command of the guide, with `template` in the place of `install`, installs what is valid; that of an upgrade renders, too."""
    page = (ROOT / "docs/operating/kubernetes.md").read_text()
    install, upgrade = (arguments_of(page, command) for command in ["install", "upgrade"])
    (config,) = (argument.removeprefix("config=") for argument in install if argument.startswith("config="))
    (folder / config).write_text(yaml.safe_load((CHART / "ci/one-worker-values.yaml").read_text())["config"])
    arguments = [argument.replace(f"config={config}", f"config={folder / config}") for argument in install]
    # A template has no release: the values that are used again are those of the installation.
    if "--reset-then-reuse-values" not in upgrade:
        fail("the guide's upgrade forgets the values of the release, or takes none of the new chart")
    (tag,) = (argument.removeprefix("image.tag=") for argument in upgrade if argument.startswith("image.tag="))
    text = run(TOOLS / "helm", "template", "--kube-version", f"{KUBERNETES}.0", *arguments, "--set", f"image.tag={tag}")
    if f"image: registry.acme.example/handout:{tag}" not in text or upgrade[:2] != arguments[:2]:
        fail("the guide's upgrade is not one of the release that it installs")
    text = run(TOOLS / "helm", "template", "--kube-version", f"{KUBERNETES}.0", *arguments)
    resources = valid("printed", text, folder)
    said = re.search(r"exec (\S+)-0 -- handout check", page).group(1)
    if ("StatefulSet", said) not in {(resource["kind"], resource["metadata"]["name"]) for resource in resources}:
        fail(f"the guide's command makes no StatefulSet {said}")
    files = re.findall(r"^\| `([a-z-]+-values\.yaml)` \|", page, re.M)
    if sorted(files) != sorted(file.name for file in (CHART / "ci").iterdir()):
        fail(f"the guide names other values files than those in {CHART / 'ci'}: {files}")
    print("chart: the guide's command installs what is valid")


def arguments_of(page, command):
    """The arguments of a command of helm in the guide, with the clone at its place."""
    (text,) = re.findall(rf"^helm {command} ([^\\\n]*(?:\\\n[^\\\n]*)*)$", page, re.M)
    return [argument.replace("/path/to/clone", str(ROOT)) for argument in shlex.split(text.replace("\\\n", " "))]


# --- plain manifests --------------------------------------------------------------------------------------------------------------------

HEAD = """\
# Made from deploy/helm/handout with ci/{values}: `UPDATE=1 tests/deploy.sh target/debug/handout` writes it. Change the image, the role and the
# configuration by a kustomization of your own, as docs/operating/kubernetes.md shows.
"""


def secrets_in(resource):
    """The names of the secrets that a resource mounts."""
    if isinstance(resource, list):
        return set().union(*map(secrets_in, resource), set())
    if not isinstance(resource, dict):
        return set()
    named = {of["name"] for key, of in resource.items() if key == "secret" and isinstance(of, dict) and "name" in of}
    return named.union(*map(secrets_in, resource.values()), set())


def plain(folder):
    secrets = valid("secrets", (ROOT / "deploy/kubernetes/secrets.yaml").read_text(), folder)
    made = {secret["metadata"]["name"] for secret in secrets}
    for file, values in PLAIN.items():
        text = render("-f", CHART / "ci" / values)
        lines = [line.rstrip() for line in text.splitlines() if "helm.sh/chart" not in line and not line.startswith("# Source:")]
        text = HEAD.format(values=values) + "\n".join(lines).replace("managed-by: Helm", "managed-by: kustomize") + "\n"
        named = secrets_in(valid("plain", text, folder))
        if not named or not named <= made:
            fail(f"deploy/kubernetes/{file} mounts the secrets {sorted(named)}, and secrets.yaml has {sorted(made)}")
        path = ROOT / "deploy/kubernetes" / file
        if os.environ.get("UPDATE") == "1":
            path.write_text(text)
        if not path.exists() or path.read_text() != text:
            fail(f"deploy/kubernetes/{file} is not what the chart renders: write it with `UPDATE=1 tests/deploy.sh target/debug/handout`")
    print("chart: deploy/kubernetes is what the chart renders")


def customized(folder):
    """The kustomization of the guide puts the reader's image, role and configuration into the manifests, and a changed configuration makes other pods."""
    if not shutil.which("kubectl"):
        if os.environ.get("REQUIRE_PARTS") == "1":
            fail("kubectl is missing, which builds the kustomization of the guide")
        print("chart: kubectl is missing: the kustomization of the guide was not built")
        return
    page = (ROOT / "docs/operating/kubernetes.md").read_text()
    (text,) = re.findall(r"^```text\n(resources: .*?)^```$", page, re.M | re.S)
    folder = folder / "kustomization"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(text)
    shutil.copy(ROOT / "deploy/kubernetes/handout.yaml", folder)
    config = yaml.safe_load((CHART / "ci/workers-values.yaml").read_text())["config"]
    names = set()
    for mark in ["# one\n", "# another\n"]:
        (folder / "config.toml").write_text(mark + config)
        built = valid("customized", run("kubectl", "kustomize", folder), folder)
        of_kind = {}
        for resource in built:
            of_kind.setdefault(resource["kind"], []).append(resource)
        ((config_map,), (account,), (workers,)) = (of_kind[kind] for kind in ["ConfigMap", "ServiceAccount", "StatefulSet"])
        pod = workers["spec"]["template"]["spec"]
        used = [source["configMap"]["name"] for volume in pod["volumes"] for source in volume.get("projected", {}).get("sources", []) if "configMap" in source]
        wanted = yaml.safe_load(text)
        (image,) = wanted["images"]
        if not config_map["data"]["config.toml"].startswith(mark) or used != [config_map["metadata"]["name"]]:
            fail(f"the guide's kustomization does not give the pods its configuration: {used}")
        if pod["containers"][0]["image"] != f"{image['newName']}:{image['newTag']}":
            fail(f"the guide's kustomization does not set the image: {pod['containers'][0]['image']}")
        plain_account = next(r for r in yaml.safe_load_all((ROOT / "deploy/kubernetes/handout.yaml").read_text()) if r["kind"] == "ServiceAccount")
        if account["metadata"]["annotations"] == plain_account["metadata"]["annotations"]:
            fail("the guide's kustomization does not set the role")
        names.add(used[0])
    if len(names) != 2:
        fail("a changed configuration does not change the pods of the guide's kustomization")
    print("chart: the guide's kustomization sets image, role and configuration")


# --- what values hand out ---------------------------------------------------------------------------------------------------------------


def apart():
    """No example publishes where one of its rules hands out: pages have links of other recipients."""
    for file in sorted((CHART / "ci").glob("*-values.yaml")):
        rules = tomllib.loads(yaml.safe_load(file.read_text())["config"])["allow"]
        for place in {place for rule in rules for place in rule.get("publish", [])}:
            bucket, _, prefix = place.removeprefix("s3://").partition("/")
            for rule in rules:
                files = rule.get("prefix", "")
                if rule["bucket"] == bucket and (prefix.startswith(files) or files.startswith(prefix)):
                    fail(f"{file.name}: a rule hands out what lies in {place}, where pages are published")
    print("chart: pages lie outside what the rules of the examples hand out")


# --- the image --------------------------------------------------------------------------------------------------------------------------

# The C library of each release of Debian.
GLIBC = {"12": (2, 36), "13": (2, 41)}


def image(program):
    """The Dockerfile makes what the chart starts: its user, its command, certificates, and a C library that is new enough for this program."""
    text = (ROOT / "deploy/image/Dockerfile").read_text()
    said = dict(re.findall(r"^(FROM|USER|ENTRYPOINT|COPY) (.*)$", text, re.M))
    who = yaml.safe_load((CHART / "values.yaml").read_text())["podSecurityContext"]
    if said["USER"] != f"{who['runAsUser']}:{who['runAsGroup']}" or said["ENTRYPOINT"] != '["handout"]' or "ca-certificates" not in text:
        fail(f"the image is not what the chart starts: {said}")
    if not said["COPY"].endswith(" handout /usr/local/bin/handout") or "!handout" not in (ROOT / "deploy/image/Dockerfile.dockerignore").read_text().splitlines():
        fail(f"the image does not get the program: {said['COPY']}")
    base = re.fullmatch(r"debian:(\d+)-slim", said["FROM"]).group(1)
    needed = max(tuple(map(int, found)) for found in re.findall(rb"GLIBC_(\d+)\.(\d+)", program.read_bytes()))
    if needed > GLIBC[base]:
        fail(f"the program needs glibc {needed}, and debian:{base} has {GLIBC[base]}")
    for page in ["docs/quick-start/containers.md", "deploy/image/Dockerfile"]:
        if not re.search(r"docker build --file deploy/image/Dockerfile --tag \S+ target/dist$", (ROOT / page).read_text(), re.M):
            fail(f"{page} has no command that builds the image")
    print(f"chart: the image has what the program needs: glibc {'.'.join(map(str, needed))}")


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    files = sorted((CHART / "ci").glob("*-values.yaml"))
    if len(files) < 5:
        fail(f"expected at least five values files in {CHART / 'ci'}")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        scratch.chmod(0o755)
        plain(scratch)
        customized(scratch)
        apart()
        image(program)
        refused()
        printed(scratch)
        chart, version = yaml.safe_load((CHART / "Chart.yaml").read_text()), tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
        if {chart["version"], chart["appVersion"]} != {version}:
            fail(f"Chart.yaml has not the version {version} of Cargo.toml")
        for file in files:
            run(TOOLS / "helm", "lint", "--strict", CHART, "-f", file)
            name = file.name.removesuffix("-values.yaml")
            resources = valid(name, render("-f", file), scratch)
            folder = scratch / name
            folder.mkdir()
            server = subprocess.Popen([sys.executable, ROOT / "tests/servers/moto.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            try:
                port = server.stdout.readline().removeprefix("ready ").strip()
                started(program, name, resources, folder, f"http://127.0.0.1:{port}")
            finally:
                server.stdin.close()
                server.wait()


if __name__ == "__main__":
    main()
