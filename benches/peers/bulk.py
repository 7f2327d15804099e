#!/usr/bin/env python3
"""The work of a bulk job as a script does it with boto3 and Jinja2: list, presign, a JSON line an object, pages of 1,000.

    bulk.py ENDPOINT OBJECTS

Started by `cargo bench --bench bulk`. Prints the microseconds of CPU that an object takes, in all and by stage. It spares itself what
the bench's own side does besides: it syncs once instead of in groups, hashes nothing, compresses pages and publishes them to a file.
"""

import gzip
import json
import os
import sys
import tempfile
import time
from itertools import islice

import boto3
import jinja2
from botocore.config import Config

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title></head><body><h1>{{ title }}</h1>
{% for item in items %}<article id="i{{ loop.index }}"><a href="{{ item.url }}" rel="noopener noreferrer"><img src="{{ item.url }}"
 loading="lazy" alt="{{ item.key }}"></a><h2>{{ item.key }}</h2><p>{{ item.size }} bytes, {{ item.modified }}</p></article>
{% endfor %}</body></html>
"""


def main():
    endpoint, objects = sys.argv[1], int(sys.argv[2])
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    template = jinja2.Environment(autoescape=True).from_string(PAGE)
    stages = {}

    def stage(name, work):
        before = time.process_time()
        result = work()
        stages[name] = round((time.process_time() - before) * 1e6 / objects, 1)
        return result

    def listed():
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket="acme-reports", Prefix="exports/2026/")
        return [entry for page in pages for entry in page.get("Contents", [])]

    def signed():
        sign = s3.generate_presigned_url
        return [
            {
                "key": entry["Key"],
                "size": entry["Size"],
                "modified": entry["LastModified"].isoformat(),
                "url": sign("get_object", Params={"Bucket": "acme-reports", "Key": entry["Key"]}, ExpiresIn=86400),
            }
            for entry in entries
        ]

    def recorded():
        with tempfile.TemporaryFile("w") as log:
            for item in items:
                log.write(json.dumps({"ev": "issue", "job": "acme-archive-2026", **item}) + "\n")
            log.flush()
            os.fsync(log.fileno())

    def rendered():
        rest = iter(items)
        while some := list(islice(rest, 1000)):
            page = template.render(title="The archive of 2026", items=some)
            with tempfile.TemporaryFile() as file:
                file.write(gzip.compress(page.encode(), 1))

    entries = stage("list", listed)
    assert len(entries) == objects, len(entries)
    items = stage("sign", signed)
    stage("record", recorded)
    stage("render and compress", rendered)
    print(json.dumps({"all": round(sum(stages.values()), 1), "stages": stages}))


if __name__ == "__main__":
    main()
