#!/usr/bin/env python3
"""Judges deploy/observability: alerts, their tests, and the dashboard.

    .test/venv/bin/python tests/deploy/metrics.py target/debug/handout

promtool checks the rules and runs their tests; each alert must have a test in which it fires and one in which it is silent. Every expression of the dashboard is parsed by promtool,
too. Then a daemon with a portal, an intake, a schedule, a feedback queue and retention is scraped: each metric and each value of a label that rules, dashboard and documentation name must be in its answer, and the
documentation must name each metric.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "deploy/observability"
PAGE = ROOT / "docs/operating/metrics.md"
PATIENCE = 120
# Labels that Prometheus adds, and the variables of the dashboard.
ADDED = {"job", "instance"}
# What version 0.1 exposed to the same configuration: names that users have in rules and dashboards.
BEFORE = pathlib.Path(__file__).with_name("metrics_of_0_1.txt")
OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"

sys.path.insert(0, str(ROOT / "tests/servers"))
from serving import free_port  # noqa: E402


def fail(reason):
    print(f"metrics: {reason}", file=sys.stderr)
    sys.exit(1)


def promtool(*arguments):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, cwd=HERE)
    if done.returncode != 0:
        fail(f"promtool {' '.join(map(str, arguments))}:\n{done.stdout}{done.stderr}")


# --- rules ------------------------------------------------------------------------------------------------------------------------------


def rules():
    promtool("check", "rules", "rules.yaml")
    promtool("test", "rules", "rules_test.yaml")
    groups = yaml.safe_load((HERE / "rules.yaml").read_text())["groups"]
    alerts = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    fires, silent = set(), set()
    for case in yaml.safe_load((HERE / "rules_test.yaml").read_text())["tests"]:
        for test in case["alert_rule_test"]:
            (fires if test["exp_alerts"] else silent).add(test["alertname"])
    if fires != set(alerts) or silent != set(alerts):
        fail(f"not every alert has a test in which it fires and one in which it is silent: {set(alerts) ^ fires | set(alerts) ^ silent}")
    for name, rule in alerts.items():
        if rule["labels"]["severity"] not in ("warning", "critical") or not {"summary", "description", "runbook"} <= rule["annotations"].keys():
            fail(f"{name}: no severity, or no summary, description and runbook")
        page, _, heading = rule["annotations"]["runbook"].partition("#")
        lines = (ROOT / page).read_text().splitlines()
        anchors = {re.sub(r"[^\w-]", "", line.lstrip("# ").lower().replace(" ", "-")) for line in lines if line.startswith("#")}
        if heading and heading not in anchors:
            fail(f"{name}: {page} has no heading {heading}")
    tabled(alerts)
    return [rule["expr"] for rule in alerts.values()]


def tabled(alerts):
    """The table of the page has every alert once, and names the metrics and the values of labels that its rule is about."""
    rows = re.findall(r"^\| `(Handout\w+)` \| (.*)$", PAGE.read_text(), re.M)
    if sorted(name for name, _ in rows) != sorted(alerts):
        fail(f"{PAGE.name} and rules.yaml have not the same alerts: {sorted({name for name, _ in rows} ^ set(alerts))}")
    for name, row in rows:
        expression = alerts[name]["expr"]
        for words in [r"\b(handout_\w+|up)\b", r'(\w+="\w+")']:
            of_rule = {word for word in re.findall(words, expression) if not word.startswith("job=")}
            of_row = set(re.findall(words, " ".join(re.findall(r"`[^`]+`", row.split(" | ")[0]))))
            if of_rule != of_row:
                fail(f"{PAGE.name}: {name} is about {sorted(of_rule)}, and not about {sorted(of_row)}")


# --- dashboard --------------------------------------------------------------------------------------------------------------------------


def dashboard(folder):
    board = json.loads((HERE / "dashboard.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    if len({panel["id"] for panel in board["panels"]}) != len(board["panels"]):
        fail("two panels of the dashboard have one id")
    taken = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if x >= 24 or taken.setdefault((x, y), panel["title"]) != panel["title"]:
                    fail(f"the panel {panel['title']} lies over another or outside")
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    # Grafana puts an interval and the chosen values in the place of variables.
    plain = [expression.replace("$__rate_interval", "5m").replace("$job", "handout").replace("$instance", ".+") for expression in expressions]
    if any("$" in expression for expression in plain):
        fail("an expression of the dashboard has an unknown variable")
    file = folder / "dashboard.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": [{"record": "r:a:b", "labels": {"n": str(n)}, "expr": e} for n, e in enumerate(plain)]}]}))
    promtool("check", "rules", file)
    variables = [variable["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    return plain + [query.replace("$job", "handout") for query in variables]


# --- a real daemon ----------------------------------------------------------------------------------------------------------------------

CONFIG = """\
state_dir = "state"
[connections.local]
directory = "buckets"
[embedded]
listen = "127.0.0.1:{embedded}"
[http]
listen = "127.0.0.1:{http}"
[intake]
listen = "127.0.0.1:{intake}"
token_file = "intake-token"
[portal]
listen = "127.0.0.1:{portal}"
public_url = "https://files.acme.example"
[[portal.oidc]]
name = "staff"
issuer = "https://127.0.0.1:9"
client_id = "handout"
domains = ["acme.example"]
[[allow]]
connection = "local"
bucket = "reports"
recipients = ["*@acme.example"]
[feedback]
queue_url = "http://127.0.0.1:9/000000000000/feedback"
region = "eu-west-1"
[audit]
compress = true
[[schedule]]
name = "acme-minutely"
cron = "* * * * *"
job_file = "job.json"
"""
# Nothing answers at the address of the feedback queue.
ENVIRONMENT = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
JOB = '{ "v": 1, "from": { "connection": "local", "bucket": "reports", "prefix": "" }, "email": { "to": ["ann@acme.example"] } }'


def scraped(program, folder):
    """The answer of /metrics of a daemon with all parts, once its schedule has started a job and that has mailed."""
    ports = {name: free_port() for name in ["embedded", "http", "intake", "portal"]}
    (folder / "buckets/reports").mkdir(parents=True)
    (folder / "buckets/reports/a.txt").write_text("a")
    (folder / "job.json").write_text(JOB)
    (folder / "intake-token").write_text("0123456789abcdef" * 4)
    (folder / "config.toml").write_text(CONFIG.format(**ports))
    command = [program, "run", "--config", folder / "config.toml"]
    url = f"http://127.0.0.1:{ports['http']}/metrics"
    # The schedule is due at the next minute, and the queue is asked five seconds after the start.
    awaited = [
        r"^handout_schedule_lateness_seconds_count\{.*\} [1-9]",
        r'^handout_mails_total\{result="accepted"\} [1-9]',
        r'^handout_job_duration_seconds_count\{result="done"\} [1-9]',
        r"^handout_queue_messages\{",
    ]
    awaited += [rf"^handout_{step}_duration_seconds_count [1-9]" for step in ["list", "sign", "record", "deliver"]]
    return answer(command, url, awaited, folder / "log")


def get(url, accept="*/*"):
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=5) as got:
        return got.headers["Content-Type"], got.read().decode()


def answer(command, url, awaited, log):
    """Starts a daemon, and returns its answers, as text and as OpenMetrics, once the text has all that is awaited."""
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stderr=stderr)
    try:
        deadline = time.monotonic() + PATIENCE
        text = ""
        while time.monotonic() < deadline and process.poll() is None:
            try:
                kind, text = get(url)
                if all(re.search(sample, text, re.M) for sample in awaited):
                    if kind != "text/plain; version=0.0.4; charset=utf-8":
                        fail(f"the text format is called {kind}")
                    return text, get(url, OPEN_METRICS)
            except OSError:
                pass
            time.sleep(0.1)
        fail(f"the daemon did not answer {awaited}:\n{text}\n{log.read_text()}")
    finally:
        process.terminate()
        process.wait(PATIENCE)


class Metrics:
    """The families of a scrape, with the labels of their samples."""

    def __init__(self, text):
        self.types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
        self.samples = {}
        for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? [^ ]+$", text, re.M):
            self.samples.setdefault(name, []).append(dict(re.findall(r'(\w+)="([^"]*)"', labels)))

    def family(self, name):
        """The family of a name in an expression; a histogram has names with endings."""
        if name in self.types:
            return name
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        return base if self.types.get(base) == "histogram" else None

    def misses(self, expression):
        """What an expression names and no scrape has."""
        for name, selector in re.findall(r"\b(handout_\w+)(?:\{([^}]*)\})?", expression):
            if self.family(name) is None:
                return f"no metric {name}"
            samples = self.samples.get(name, [])
            for label, operator, value in re.findall(r'(\w+)(=~|!=|!~|=)"([^"]*)"', selector):
                if label in ADDED:
                    continue
                # A label of a family without samples could have any name.
                if not any(label in labels for labels in samples):
                    return f"{name} has no label {label}"
                if operator == "=" and not any(labels.get(label) == value for labels in samples):
                    return f"{name} has no {label}={value}"
        return None


def kept(text):
    """All names, types and labels of the version before."""
    has = {f"# TYPE {name} {kind}" for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M)}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? [^ ]+$", text, re.M):
        pairs = ",".join(f'{label}="{value}"' for label, value in sorted(re.findall(r'(\w+)="([^"]*)"', labels)))
        has.add(f"{name}{{{pairs}}}" if pairs else name)
    if missing := set(BEFORE.read_text().splitlines()) - has:
        fail(f"/metrics no longer has {sorted(missing)}")


def open_metrics(kind, text, plain):
    """The answer to Prometheus is OpenMetrics with the same samples; `le` is a number there."""
    if kind != "application/openmetrics-text; version=1.0.0; charset=utf-8" or not text.endswith("\n# EOF\n"):
        fail(f"the answer to Prometheus is {kind}, and ends in {text[-20:]!r}")
    number = lambda value: value if value == "+Inf" else str(float(value))
    def samples(text):
        found = set()
        for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? [^ ]+$", text, re.M):
            pairs = re.findall(r'(\w+)="([^"]*)"', labels)
            found.add((name, *sorted((label, number(value) if label == "le" else value) for label, value in pairs)))
        return found
    # An error may have been counted between the two.
    if differing := samples(text) ^ samples(plain):
        fail(f"the two formats differ in {sorted(differing)[:5]}")
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M):
        if name.endswith("_total") or kind not in ("counter", "gauge", "histogram"):
            fail(f"OpenMetrics has a {kind} {name}")


def documented(metrics):
    """The table of the page has every metric, with its type and the values of its labels."""
    rows = dict(re.findall(r"^\| `(handout_\w+)` \| (.*)$", PAGE.read_text(), re.M))
    if rows.keys() != metrics.types.keys():
        fail(f"{PAGE.name} and /metrics have not the same metrics: {sorted(rows.keys() ^ metrics.types.keys())}")
    for name, row in rows.items():
        kind, labels, _ = (cell.strip() for cell in row.split("|", 2))
        if kind != metrics.types[name]:
            fail(f"{PAGE.name}: {name} is a {metrics.types[name]}, not a {kind}")
        if not (samples := metrics.samples.get(name)):
            continue
        before, _, values = labels.partition(":")
        names = set(re.findall(r"`(\w+)`", before))
        has = {label for sample in samples for label in sample}
        if names != has:
            fail(f"{PAGE.name}: {name} has the labels {sorted(has)}, not {sorted(names)}")
        listed = set(re.findall(r"`(\w+)`", values))
        (label,) = has if len(has) == 1 else (None,)
        if listed and listed != {sample[label] for sample in samples}:
            fail(f"{PAGE.name}: {name} has the values {sorted({sample[label] for sample in samples})}, not {sorted(listed)}")


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        of_rules = rules()
        of_dashboard = dashboard(scratch)
        text, (kind, other) = scraped(program, scratch)
        metrics = Metrics(text)
        kept(text)
        open_metrics(kind, other, text)
        # A check that finds nothing wrong in wrong expressions is none.
        for wrong in ["handout_job_total", 'handout_jobs_total{outcome="parked"}', 'handout_jobs_total{result="dead"}']:
            if not metrics.misses(wrong):
                fail(f"{wrong} passes")
        for where, expressions in {"rules": of_rules, "dashboard": of_dashboard}.items():
            for expression in expressions:
                if missed := metrics.misses(expression):
                    fail(f"{where}: {missed}: {expression}")
        documented(metrics)
        pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
        for page in pages:
            for expression in re.findall(r"`(handout_[a-z_]+(?:\{[^}`]*\})?)[^`]*`", page.read_text()):
                base = re.match(r"\w+", expression).group()
                prefix = base.endswith("_") or any(known.startswith(base + "_") for known in metrics.types)
                if metrics.family(base) is None and not prefix:
                    fail(f"{page.relative_to(ROOT)}: no metric {base}")
        named = {metrics.family(name) for expression in of_dashboard for name in re.findall(r"handout_\w+", expression)}
        if missing := metrics.types.keys() - named:
            fail(f"the dashboard shows nothing of {sorted(missing)}")
        print(f"metrics: {len(of_rules)} alerts fire and are silent; {len(metrics.types)} metrics are real, documented and on the dashboard")


if __name__ == "__main__":
    main()
