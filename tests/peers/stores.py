"""What is proved of Handout and each store, by its command line, boto3 and a plain HTTP client."""

import gzip
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse

from botocore.exceptions import ClientError

from desk import HERE, Desk, Skipped, Wrong, fetch, hrefs, need, suite
from servers import REGION

LONG = "long/" + "/".join(["x" * 199] * 4) + "/" + "x" * 195
LONG_NAME = "x" * 1000

#: Keys as people have them, and as attackers would.
ODD = [
    *("plain.txt", "a b.txt", " leading space", "trailing space ", "two  spaces", "a b/c d.txt", "a+b.txt", "1+1=2", "100%.txt", "a%20b", "%2F", "%00"),
    *("a&b", "what?", "?", "a?b=c", "#1.txt", "a#b", "it's", 'say "hi"', "<b>bold</b>", "a=b", "a:b", "a;b", "a,b", "a@b", "a$b", "a!b", "a*b", "a|b"),
    *("(1)", "[1]", "{1}", "a^b", "a`b", "a~b", "~", "-rf", "_", "a\\b", "\\", ".hidden", "..two", "three...", "a./b", "a../b", "...", "con.txt"),
    *("caf\u00e9 composed", "cafe\u0301 decomposed", "Größe.pdf", "日本語/報告.pdf", "отчёт.pdf", "تقرير.pdf", "דוח.pdf", "📁/📄.pdf", "👩‍👩‍👧.jpg"),
    *("zero\u200bwidth", "rtl\u202egpj.exe", "no\u00a0break", "line\u2028end", "İstanbul", "ﬁ", "Ａ", "\U0001f4a9", "x\ufeff", "\u0301start"),
    *("X-Amz-Signature=1", "?X-Amz-Expires=1", "a%3Fb", "a%2Bb", "+", "++", "%", "%%", "%zz", "=?utf-8?q?x?=", "a/b/c/d/e/f", "{{object.name}}", "${x}"),
    *("double//slash", "/leading", "folder and file", "folder and file/inside", LONG, LONG_NAME),
]

#: What no browser asks for as it is written: Handout names them, and links the others.
NOT_LINKED = ("./a", "a/../b", "a/./b", "tab\there", "delete\x7f")


def suite_of_stores(_program, store):
    """What every store behind Handout must do, an upload in parts among it."""
    suite("peers::a_store_that_people_run_is_a_store", "PEER_S3", store.url, REGION, store.access_key, store.secret_key)
    return "put, list, head, read a beginning, missing keys and buckets, 12 MB in three parts"


def odd_keys(program, store):
    """Each key that the store keeps is linked by `presign` and by a job's list, and opens byte for byte."""
    desk, s3 = Desk(program, store), store.client()
    bucket = desk.with_bucket("odd-keys")
    body = {key: f"the bytes of {key}".encode() for key in ODD}
    kept, refused, words = [], [], []
    for key in ODD:
        try:
            s3.put_object(Bucket=bucket, Key=key, Body=body[key])
            kept.append(key)
        except ClientError as error:
            refused.append(key)
            words.append(error.response["Error"]["Code"])
    listed = {entry["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket) for entry in page.get("Contents", [])}
    hidden = [key for key in kept if key not in listed]
    need(set(refused) == set(store.refuses), f"it refuses {shown(refused)} ({', '.join(sorted(set(words)))})")
    need(set(hidden) == set(store.hides), f"it does not list {shown(hidden)}, but {shown(listed - set(kept))}")

    kept = [key for key in kept if key not in hidden]
    links = desk.links(bucket, kept)
    wrong = [key for key in kept if not opens(links.get(key), body[key])]
    need(not wrong, f"links of presign to {shown(wrong)} do not open, or with other bytes")
    lines = desk.listed(desk.job("odd", bucket, manifest=to(bucket)))
    need({line["key"] for line in lines} == listed, f"a job's list has other keys: {shown({line['key'] for line in lines} ^ listed)}")
    wrong = [line["key"] for line in lines if line["key"] in body and not opens(line["url"], body[line["key"]])]
    need(not wrong, f"links of a job to {shown(wrong)} do not open, or with other bytes")

    ended = desk.run("presign", "--connection", "store", "--no-audit", "--keys-from", "-", f"s3://{bucket}", input="".join(f"{key}\n" for key in NOT_LINKED))
    need(ended.returncode == 1 and not ended.stdout, f"presign links what browsers change: {ended.stdout[:200]}")
    differs = [f"the store refuses {shown(refused)}"] * bool(refused) + [f"it does not list {shown(hidden)} under their names"] * bool(hidden)
    return "; ".join([f"{len(kept)} of {len(kept)} open, of presign and of a job", *differs])


def opens(link, body):
    if link is None:
        return False
    answer = fetch(link)
    return answer.status == 200 and answer.body == body and "attachment" in answer.headers["content-disposition"]


def shown(keys):
    keys = sorted(key if len(key) < 40 else f"{key[:20]}… ({len(key.encode())} bytes)" for key in keys)
    return ", ".join(f"`{key}`" for key in keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")


def to(bucket, **more):
    return {"format": "jsonl", "publish": {"bucket": f"{bucket}-out", "prefix": "lists/"}, **more}


def bad_links(program, store):
    """Links that were changed, have ended or are for another place are refused."""
    desk = Desk(program, store)
    bucket, elsewhere = desk.with_bucket("bad-links"), Desk(program, store, region="ap-south-1")
    for key in ("q3 report.pdf", "q4 report.pdf"):
        store.client().put_object(Bucket=bucket, Key=key, Body=key.encode())
    ends_soon, asked = desk.link(bucket, "q3 report.pdf", "--expires-in", "1s"), time.time()
    link = desk.link(bucket, "q3 report.pdf")
    need(fetch(link).body == b"q3 report.pdf", "the link itself does not open")
    last = link[-1]
    bad = {
        "another signature": link[:-1] + ("1" if last != "1" else "2"),
        "another key": link.replace("q3%20report", "q4%20report", 1),
        "another name to save it as": link.replace("filename%3D%22q3", "filename%3D%22q4"),
        "an extra parameter": f"{link}&response-content-type=text%2Fhtml",
        "a parameter less": re.sub(r"response-content-disposition=[^&]*&", "", link),
        "a longer life": re.sub(r"X-Amz-Expires=\d+", "X-Amz-Expires=604800", link),
        "another key id": link.replace(store.access_key, "AKIAI44QH8DHBEXAMPLE"),
        "604,801 s": store.client().generate_presigned_url("get_object", {"Bucket": bucket, "Key": "q3 report.pdf"}, ExpiresIn=604801),
        "another region": elsewhere.link(bucket, "q3 report.pdf"),
        "ended": ends_soon,
    }
    need(link not in bad.values(), "a bad link is the good one")
    # A signature is dated back by a minute, so that it counts where clocks differ.
    time.sleep(max(0, asked + 3 - time.time()))
    answers = {what: fetch(url) for what, url in bad.items()}
    allowed = {"another region"} if store.opens_another_region else set()
    opened = {what for what, answer in answers.items() if answer.status < 400}
    need(opened == allowed, "; ".join(f"{what}: {answers[what].status}" for what in opened ^ allowed))
    need(not any(b"q3 report.pdf" == answers[what].body for what in bad if what not in allowed), "a refusal has the object's bytes")
    refused = desk.run("presign", "--connection", "store", "--no-audit", "--expires-in", "604801s", f"s3://{bucket}/q3 report.pdf")
    need(refused.returncode != 0 and not refused.stdout, "presign makes a link of more than seven days")
    statuses = ", ".join(f"{what} {answer.status}" for what, answer in answers.items())
    return statuses + ("; the store itself opens links of another region" if allowed else "")


def published(program, store):
    """Pages, tables and lists are there as a browser and a program want them, with their headers."""
    desk = Desk(program, store)
    bucket = desk.with_bucket("pages")
    keys = [f"2026/{number:04} report é.txt" for number in range(1200)]
    store.fill(bucket, keys)
    result = desk.job("page", bucket, email={"to": ["ann@acme.example"]}, gallery={"publish": {"bucket": f"{bucket}-out", "prefix": "pages/"}})
    wanted = {"Content-Type": "text/html; charset=utf-8", "Content-Encoding": "gzip", "Cache-Control": "private, no-store"}
    pages = {link.partition("?")[0]: link for link in desk.mail_links()}
    need(pages, "the mail has no link to the page")
    found = []
    for link in pages.values():
        page = gzip.decompress(has_headers(fetch(link), wanted)).decode()
        inside = hrefs(page)
        # An index leads to pages, and these to the files.
        for further in dict.fromkeys(inside):
            if ".html?" in further:
                found += hrefs(gzip.decompress(has_headers(fetch(further), wanted)).decode())
            else:
                found.append(further)
    names = {urllib.parse.unquote(urllib.parse.urlsplit(link).path).partition(f"/{bucket}/")[2]: link for link in found}
    need(set(keys) <= set(names), f"the pages lack {len(set(keys) - set(names))} of {len(keys)} files")
    for key in random.Random(7).sample(keys, 10):
        need(fetch(names[key]).body == key.encode(), f"the page's link to {key} does not open")
    formats = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl", "urls": "text/plain; charset=utf-8"}
    types = {}
    for format in formats:
        result = desk.job(f"list-{format}", bucket, manifest=to(bucket, format=format))
        got = desk.published(result["manifests"][0])
        types[format] = got["ContentType"]
        need(got.get("ContentEncoding") in (None, ""), f"{format}: Content-Encoding is {got.get('ContentEncoding')}")
        need(got["CacheControl"] == wanted["Cache-Control"], f"{format}: Cache-Control is {got.get('CacheControl')}")
        text = got["Body"].read().decode("utf-8-sig")
        need(text.count("X-Amz-Signature=") == len(keys), f"{format}: {text.count('X-Amz-Signature=')} of {len(keys)} links")
    return f"{len(pages)} page and its parts of {len(keys)} files; " + ", ".join(f"{format}: {type}" for format, type in types.items())


def has_headers(answer, wanted):
    need(answer.status == 200, f"a page answers {answer.status}: {answer.body[:200]}")
    for name, value in wanted.items():
        need(answer.headers[name] == value, f"a page's {name} is {answer.headers[name]}")
    return answer.body


def many(program, store, number=20_000):
    """All keys of a large bucket are listed in the order of their bytes, once, and linked by a job."""
    desk = Desk(program, store)
    bucket = desk.with_bucket("many")
    between = (" ", "-", ".", "/", "_", "~", "é", "0", "A", "a")
    keys = [f"m/{at // 97:03}{between[at % 10]}{at:05}" for at in range(number)]
    store.fill(bucket, keys)
    began = time.monotonic()
    lines = desk.listed(desk.job("many", bucket, manifest=to(bucket)))
    took = time.monotonic() - began
    listed = [line["key"] for line in lines]
    need(sorted(listed) == sorted(keys), f"{len(listed)} keys are listed, {len(set(listed))} of them different")
    need(listed == sorted(keys, key=str.encode), "they are not in the order of their bytes")
    for line in random.Random(7).sample(lines, 50):
        need(fetch(line["url"]).body == line["key"].encode(), f"the link to {line['key']} does not open")
    return f"{number:,} listed in order and linked in {took:.1f} s; 50 opened"


def checked(program, store):
    """`handout check` is content with the store, and names what is wrong with the key, the bucket and the region."""
    desk = Desk(program, store)
    bucket = desk.with_bucket("checked")
    need(f"s3://{bucket}" in desk.said("check"), "check does not name the bucket")
    wrong_key = Desk(program, store)
    wrong_key.allowing(bucket)
    (wrong_key.dir / "s3-secret").write_text("x" * 40)
    missing = Desk(program, store)
    missing.allowing("missing")
    elsewhere = Desk(program, store, region="ap-south-1")
    elsewhere.allowing(bucket)
    said = []
    for what, broken, must in (("a wrong secret", wrong_key, 1), ("a missing bucket", missing, 1), ("another region", elsewhere, 1)):
        ended = broken.run("check")
        line = next((line for line in ended.stdout.splitlines() if re.match(r"(fail|warn)\S*\s+s3://", line, re.IGNORECASE)), None)
        if what == "another region" and store.opens_another_region and ended.returncode == 0:
            said.append(f"{what}: not told, since the store takes each")
            continue
        need(ended.returncode == must and line, f"{what}: check ends with {ended.returncode}: {ended.stdout[-600:]}")
        said.append(f"{what}: {' '.join(line.split()[2:])[:160]}")
    return "; ".join(said)


PROXIED = """public_endpoint_url = "{url}"
"""


class Nginx:
    """Debian's nginx before a store, as the tests of Rust have it."""

    def __init__(self, port, host):
        command = [sys.executable, HERE.parent / "servers/nginx.py", tempfile.mkdtemp(prefix="handout-nginx-"), str(port), "--host", host]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        ready = self.process.stdout.readline()
        if not ready:
            raise Skipped(self.process.stderr.read().strip())
        self.url = f"http://127.0.0.1:{ready.split()[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)


def behind_a_proxy(program, store):
    """Links that name nginx open where it passes Host on; where it does not, `check` says so."""
    said = []
    for host in ("keep", "change"):
        with Nginx(store.port, host) as nginx:
            desk = Desk(program, store, connection=PROXIED.format(url=nginx.url))
            bucket = desk.with_bucket(f"proxied-{host}")
            store.client().put_object(Bucket=bucket, Key="q3 report.pdf", Body=b"the report")
            ended, link = desk.run("check"), desk.link(bucket, "q3 report.pdf")
            need(link.startswith(nginx.url), f"the link names {link.partition('?')[0]}")
            line = next((line for line in ended.stdout.splitlines() if f"links s3://{bucket}" in line), ended.stdout[-400:])
            if host == "keep":
                need(ended.returncode == 0 and "open at" in line, f"check: exit {ended.returncode}: {line}")
                need(fetch(link).body == b"the report", "a link through nginx does not open")
            else:
                need(ended.returncode == 1 and "changes Host" in line, f"check: exit {ended.returncode}: {line}")
                need(fetch(link).status == 403, "a link through a proxy that changes Host opens")
            said.append(f"Host {'passed on: opens' if host == 'keep' else 'changed: 403, and check says so'}")
    return "; ".join(said)


LEDGER = """[ledger]
kind = "s3"
connection = "store"
bucket = "{bucket}"
"""


def ledger(program, store, kills):
    """Workers and store are killed at random, and nothing is lost and none mailed twice without a doubt; or the store is refused."""
    if not store.keeps_a_ledger:
        desk = Desk(program, store, more=LEDGER.format(bucket=store.bucket("books")))
        ended = desk.run("check")
        line = next((line for line in ended.stdout.splitlines() if "ledger" in line and "accepts a write whose" in line), None)
        need(ended.returncode == 1 and line, f"check takes it: exit {ended.returncode}: {ended.stdout[-600:]}")
        return f"refused by check: {' '.join(line.split()[2:])}"
    crash = HERE.parent / "crash/crash.py"
    command = [sys.executable, crash, "--program", program, "--ledger", "s3", "--store", store.part, "--kills", str(kills)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode != 0:
        raise Wrong((ended.stdout + ended.stderr)[-2000:])
    row = {line.split()[0]: line for line in ended.stdout.splitlines() if line.strip()}
    *_, doubts, duplicates, violations = row["all"].split()
    seed = ended.stdout.split()[1].rstrip(":")
    last = re.search(r"(\d+) kills in (\d+) s", ended.stdout)
    stores = re.search(r"was killed (\d+) times", ended.stdout).group(1)
    return f"{last.group(1)} kills of workers and {stores} of the store in {last.group(2)} s (seed {seed}): {violations} violations, {doubts} doubts, {duplicates} recorded duplicates"


ROLE = """sts_endpoint_url = "{url}"
assume_role = "arn:xxx:xxx:xxx:xxxx"
assume_role_duration = "1h"
"""


def role(program, store):
    """A connection takes on a role at the store's own STS, and its links open and end with the session."""
    desk = Desk(program, store, connection=ROLE.format(url=store.url), more='[links]\nexpires_in = "30m"\n')
    bucket = desk.with_bucket("role")
    store.client().put_object(Bucket=bucket, Key="q3 report.pdf", Body=b"the report")
    need("links can live for" in desk.said("check"), "check does not say how long links can live")
    link = desk.link(bucket, "q3 report.pdf", "--expires-in", "30m")
    need("X-Amz-Security-Token=" in link, "the link has no session token")
    need(fetch(link).body == b"the report", f"the link does not open: {fetch(link).body[:300]}")
    tampered = re.sub(r"X-Amz-Security-Token=[^&]{20}", "X-Amz-Security-Token=" + "A" * 20, link)
    need(fetch(tampered).status == 403, "a link with another token opens")
    too_long = desk.run("presign", "--connection", "store", "--no-audit", "--expires-in", "2h", f"s3://{bucket}/q3 report.pdf")
    need(too_long.returncode != 0 and not too_long.stdout, "a link that outlives its session is made")
    result = desk.job("role", bucket, manifest=to(bucket))
    need(all(fetch(line["url"]).status == 200 for line in desk.listed(result)), "a job's links do not open")
    return "links of a session open; one that would outlive it is refused"


def versions(program, store):
    """With `pin_version`, a link gives what was there when it was made."""
    desk, s3 = Desk(program, store, more="[links]\npin_version = true\n"), store.client()
    bucket = desk.with_bucket("versions")
    try:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    except ClientError as error:
        need(not store.has_versions, f"it has no versions: {error}")
        return f"the store has no versions ({error.response['Error']['Code']})"
    need(store.has_versions, "it has versions")
    s3.put_object(Bucket=bucket, Key="a b.txt", Body=b"old")
    (line,) = desk.listed(desk.job("pinned", bucket, manifest=to(bucket)))
    s3.put_object(Bucket=bucket, Key="a b.txt", Body=b"new")
    need(fetch(line["url"]).body == b"old", "the link gives another version")
    return "a pinned link gives the old bytes"


APPLIES = """[revoke]
apply = ["ledger", "tag"]
{more}
"""


def revoked(program, store):
    """With the standing Deny where the store reads it, a tag of `handout revoke` closes a link, also of a version, and `restore` opens it."""
    signer = store.signer()
    desk, pinning = (Desk(program, signer, more=APPLIES.format(more=more)) for more in ("", "[links]\npin_version = true\n"))
    bucket = desk.with_bucket("revoked")
    pinning.allowing(bucket)
    s3 = store.client()
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("q3 report.pdf", "q4 report.pdf"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    statement = json.loads(desk.said("revoke", "standing-deny", f"s3://{bucket}"))
    q3, q4 = job_links(desk, "acme-1", bucket)

    # Where the Deny has no effect, the command says so.
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Principal": "*"}]}))
    said = [f"in the policy of the bucket: {stays_open(desk, q3)}"]
    s3.delete_bucket_policy(Bucket=bucket)
    # A job's list is revoked with its links, in the bucket where it was published.
    for place in (bucket, f"{bucket}-out"):
        store.deny(signer, place, json.loads(desk.said("revoke", "standing-deny", f"s3://{place}", "--connection", "store", "--policy")))
    root = Desk(program, store, more=APPLIES.format(more=""))
    root.allowing(bucket)
    said += [f"links of the root user: {stays_open(root, job_links(root, 'root', bucket)[0])}"]

    # In the policy of the user that signs it has.
    for words in (("job", "acme-1"), ("object", f"s3://{bucket}/q3 report.pdf"), ("link", q3)):
        closes_and_opens(desk, words, q3)
    need(fetch(q4).status == 200, "the link to another object is closed")

    # A pinned link closes with its version alone.
    old = job_links(pinning, "pinned", bucket)[0]
    s3.put_object(Bucket=bucket, Key="q3 report.pdf", Body=b"new")
    closes_and_opens(pinning, ("job", "pinned"), old, body=b"q3 report.pdf", other=q3)
    return "; ".join([*said, "in the policy of the user that signs: 200, 403 with the tag, 200 without it; of a pinned link the same, and the current version stays"])


def job_links(desk, id, bucket):
    """The links of a job's list, in the order of their keys."""
    lines = desk.listed(desk.job(id, bucket, manifest=to(bucket)))
    return [line["url"] for line in sorted(lines, key=lambda line: line["key"])]


def stays_open(desk, link):
    """The tag does not close the link, and `revoke --apply` says so; the tag is taken off again."""
    need(fetch(link).status == 200, "the link does not open")
    ended = desk.run("revoke", "link", link, "--apply", "--larger", "--probe-for", "1s", "--json")
    proof = json.loads(ended.stdout)["tags"]["probes"][0]["proof"]
    status = fetch(link).status
    need((proof, ended.returncode, status) == ("still-opens", 1, 200), f"{proof}, exit {ended.returncode}, and the link answers {status}")
    desk.said("restore", "link", link, "--apply")
    return f"{proof}, {status}"


def closes_and_opens(desk, words, link, body=None, other=None):
    need(fetch(link).status == 200 and body in (None, fetch(link).body), f"{words[0]}: the link does not open before")
    told = desk.said("revoke", *words, "--apply", "--larger")
    need("was refused after" in told, f"revoke {words[0]}: {told[-400:]}")
    answer = fetch(link)
    need(answer.status == 403 and b"AccessDenied" in answer.body, f"revoke {words[0]}: the link answers {answer.status}")
    need(other is None or fetch(other).status == 200, f"revoke {words[0]}: the current version is closed, too")
    desk.said("restore", *words, "--apply")
    answer = fetch(link)
    need(answer.status == 200 and body in (None, answer.body), f"restore {words[0]}: the link answers {answer.status}")
