#!/usr/bin/env python3
"""A portal as a web application in Python has it: FastAPI, a look-up in SQLite, boto3's presigner, a redirect.

    fastapi_peer.py DATABASE LINKS

Started by `cargo bench --bench portal`. Prints `ready <port>`, and ends when its standard input is closed. It spares itself what the portal does
besides: it judges no end and no revocation, and records nothing.

    /d/<token>   a redirect to a link that is signed now, or 404          /j/<token>   a page of 1,000 links, each signed now
"""

import html
import os
import socket
import sqlite3
import sys
import threading

import boto3
import uvicorn
from botocore.config import Config
from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse

database, links = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect(database, check_same_thread=False)
db.execute("PRAGMA journal_mode = WAL")
db.execute("CREATE TABLE links (token TEXT PRIMARY KEY, key TEXT NOT NULL) WITHOUT ROWID")
with db:
    rows = ((f"t{at:020}", f"exports/2026/{at:08}.pdf") for at in range(links))
    db.executemany("INSERT INTO links VALUES (?, ?)", rows)

s3 = boto3.client(
    "s3",
    region_name="eu-west-1",
    endpoint_url="https://s3.eu-west-1.amazonaws.com",
    aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
    aws_secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
)
app = FastAPI()
NO_STORE = {"Cache-Control": "no-store"}


def sign(key):
    return s3.generate_presigned_url("get_object", Params={"Bucket": "acme-reports", "Key": key}, ExpiresIn=900)


@app.get("/d/{token}")
async def link(token: str):
    row = db.execute("SELECT key FROM links WHERE token = ?", (token,)).fetchone()
    if row is None:
        raise HTTPException(404)
    return RedirectResponse(sign(row[0]), 302, NO_STORE)


@app.get("/j/{token}")
async def page(token: str):
    rows = db.execute("SELECT key FROM links WHERE token >= ? ORDER BY token LIMIT 1000", (token,))
    items = [f'<li><a href="{html.escape(sign(key))}">{key}</a></li>' for (key,) in rows]
    return HTMLResponse('<!doctype html><html lang="en"><ul>' + "\n".join(items) + "</ul></html>", headers=NO_STORE)


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(app, log_level="error", access_log=False, loop="uvloop", http="httptools")
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    print(f"ready {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
