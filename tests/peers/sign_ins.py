"""A reader of portal links signs in, with Chromium, at the OpenID provider that most companies run themselves."""

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request

from desk import HERE, Desk, environment, json_lines, need
from line import free_port

PORTAL = """
[portal]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
[[portal.oidc]]
name = "staff"
issuer = "{issuer}"
client_id = "handout"
client_secret_file = "oidc-secret"
domains = ["acme.example"]
"""

TEXT = b"name,amount\nharbour,12\n"


@contextlib.contextmanager
def served(desk, port):
    """The portal alone, as `handout portal` serves it."""
    with open(desk.dir / "portal.log", "w") as log:
        command = [desk.program, "portal", "--config", desk.config]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment())
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/robots.txt", timeout=2).close()
                break
            except OSError:
                need(process.poll() is None and time.monotonic() < deadline, f"no portal: {(desk.dir / 'portal.log').read_text()[-500:]}")
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)


def portal_links(desk):
    """The links to files in the mails of the outbox, by recipient."""
    links = {}
    for path in (desk.dir / "state/outbox").glob("*.eml"):
        text = path.read_text().replace("=\n", "")
        links[re.search(r"^To: .*?([\w.]+@[\w.]+)", text, re.MULTILINE)[1]] = re.search(r"http://127\.0\.0\.1:\d+/d/\w{44}", text)[0]
    return links


def with_chromium(link, login, password):
    script = HERE.parent / "browser/portal_oidc.mjs"
    ended = subprocess.run(["node", script, link, login, "--keycloak", password], capture_output=True, text=True, timeout=120, env=os.environ)
    need(ended.returncode == 0, f"Chromium: {ended.stderr[-500:]}")
    return json.loads(ended.stdout)


def signed_in(program, store, keycloak):
    """Ann signs in and has her file; Bob, whose address the provider has not verified, does not."""
    port = free_port()
    desk = Desk(program, store, more=PORTAL.format(port=port, issuer=keycloak.issuer))
    (desk.dir / "oidc-secret").write_text(keycloak.secret)
    (desk.dir / "oidc-secret").chmod(0o600)
    keycloak.admits(f"http://127.0.0.1:{port}/sign-in/oidc/callback", {"ann@acme.example": True, "bob@acme.example": False})
    bucket = desk.with_bucket("signed")
    store.client().put_object(Bucket=bucket, Key="2026/a.csv", Body=TEXT)
    desk.job("daily", bucket, email={"to": ["ann@acme.example", "bob@acme.example"]}, links={"via": "portal", "sign_in": "oidc", "expires_in": "1d"})
    links = portal_links(desk)
    need(len(links) == 2, f"mails: {sorted(links)}")
    checked = desk.run("check")
    need(re.search(r"portal\.oidc\.staff.*its metadata and its keys can be read", checked.stdout), checked.stdout[-800:])
    with served(desk, port):
        try:
            urllib.request.urlopen(links["ann@acme.example"], timeout=10).close()
            need(False, "the link opens without a sign-in")
        except urllib.error.HTTPError as error:
            need(error.code == 401, f"without a sign-in: {error.code}")
        seen = with_chromium(links["ann@acme.example"], "ann", keycloak.password)
        need(seen["file"] == {"name": "a.csv", "text": TEXT.decode()}, f"Ann: {seen}")
        other = with_chromium(links["bob@acme.example"], "bob", keycloak.password)
        need(other["file"] is None and other["statuses"][-1] == 403, f"Bob: {other}")
    lines = [line for path in sorted((desk.dir / "state/audit").glob("*.jsonl")) for line in json_lines(path.read_text())]
    events = [line["ev"] for line in lines if line.get("ev") in ("signed_in", "opened")]
    need(events == ["signed_in", "opened"], f"audit: {events}")
    return "signed in with Chromium under PKCE, and the file came; an address that is not verified gets nothing"
