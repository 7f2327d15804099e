#!/usr/bin/env python3
"""An OpenID provider that does what it is told, on a free port of 127.0.0.1.

    .test/venv/bin/python tests/servers/issuer.py [--port N]

Prints `ready <port>` when it listens, and ends when its standard input is closed. Left alone it is a good provider: it checks the redirect URI,
the client's secret, PKCE and that a code is used once. `GET /control?<JSON>` changes that until the next one, and answers with what it counted:

    claims    claims of the ID token that are replaced; null takes one away      userinfo  the answer of /me
    header    parameters of the token's header that are replaced                 metadata  members of the metadata that are replaced
    sign      RS256 (as usual), PS256, ES256, EdDSA, none, HS256-public, broken  iss       the parameter of the callback; null takes it away
    rotate    a number: with another one, all keys are new                       answers   {path: [status, body, header…]}, or a body's length; {path: "hang"}
    without   members of the token endpoint's answer that are left out

It shares no code with the program: tokens are signed by joserfc.
"""

import argparse
import base64
import hashlib
import hmac
import json
import secrets
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, unquote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

CLIENT, SECRET = "handout", "a secret: with+signs & ümlauts%"
HANG = 120


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class State:
    """What the issuer was told and what it has counted."""

    def __init__(self):
        self.lock = threading.Lock()
        self.told = {}
        self.codes = {}
        self.counts = {}
        self.rotation = None
        self.make_keys(0)

    def make_keys(self, rotation):
        if self.rotation == rotation:
            return
        self.rotation = rotation
        kid = lambda name: {"kid": f"{name}-{rotation}", "use": "sig"}
        self.keys = {
            "RS256": RSAKey.generate_key(2048, kid("rsa")),
            "ES256": ECKey.generate_key("P-256", kid("ec")),
            "EdDSA": OKPKey.generate_key("Ed25519", kid("ed")),
        }
        self.keys["PS256"] = self.keys["RS256"]

    def jwks(self):
        keys = [self.keys[name] for name in ("RS256", "ES256", "EdDSA")]
        return {"keys": [key.as_dict(private=False) for key in keys]}


STATE = State()


def changed(usual, changes):
    merged = {**usual, **(changes or {})}
    return {name: value for name, value in merged.items() if value is not None}


def id_token(issuer, nonce):
    now = int(time.time())
    usual = {"iss": issuer, "aud": CLIENT, "sub": "248289761001", "nonce": nonce, "iat": now, "exp": now + 300}
    usual |= {"email": "Ann@acme.example", "email_verified": True}
    claims = changed(usual, STATE.told.get("claims"))
    how = STATE.told.get("sign", "RS256")
    name = how if how in STATE.keys else "RS256"
    key = STATE.keys[name]
    header = changed({"alg": name, "kid": key.kid, "typ": "JWT"}, STATE.told.get("header"))
    if how in STATE.keys:
        if STATE.told.get("header"):
            # A header that the library would refuse is put over the signature of another.
            return own(header, claims, secrets.token_bytes(256))
        return jwt.encode(header, claims, key, algorithms=[name])
    if how == "none":
        return own({**header, "alg": "none"}, claims, b"")
    if how == "HS256-public":
        header = {**header, "alg": "HS256"}
        signing = own(header, claims, b"").rstrip(".")
        return signing + "." + b64(hmac.digest(key.as_pem(private=False), signing.encode(), "sha256"))
    head, payload, signature = jwt.encode(header, claims, key, algorithms=[name]).split(".")
    claims["email"] = "boss@acme.example"
    return f"{head}.{b64(json.dumps(claims).encode())}.{signature}"


def own(header, claims, signature):
    return ".".join([b64(json.dumps(header).encode()), b64(json.dumps(claims).encode()), b64(signature)])


class Issuer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    @property
    def issuer(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, status, body, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def told(self, path):
        """Whether the answer of a path was told."""
        told = STATE.told.get("answers", {}).get(path)
        if told == "hang":
            time.sleep(HANG)
            self.close_connection = True
            return True
        if told:
            status, body, *headers = told
            if isinstance(body, int):
                body = "x" * body
            self.answer(status, body.encode() if isinstance(body, str) else body, headers)
        return bool(told)

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/control":
            with STATE.lock:
                if url.query:
                    STATE.told = json.loads(unquote(url.query))
                    STATE.make_keys(STATE.told.get("rotate", STATE.rotation))
                return self.answer(200, STATE.counts)
        with STATE.lock:
            STATE.counts[url.path] = STATE.counts.get(url.path, 0) + 1
        if self.told(url.path):
            return
        if url.path == "/.well-known/openid-configuration":
            usual = {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize?tenant=1",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/me",
                "jwks_uri": f"{self.issuer}/keys",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
            }
            return self.answer(200, changed(usual, STATE.told.get("metadata")))
        if url.path == "/keys":
            return self.answer(200, STATE.jwks())
        if url.path == "/me":
            if self.headers.get("Authorization") != "Bearer access/1":
                return self.answer(401, {})
            return self.answer(200, STATE.told.get("userinfo", {"sub": "248289761001"}))
        if url.path == "/authorize":
            return self.authorize({name: values[0] for name, values in parse_qs(url.query).items()})
        self.answer(404, {})

    def authorize(self, asked):
        good = (
            asked.get("response_type") == "code"
            and asked.get("response_mode") == "query"
            and asked.get("client_id") == CLIENT
            and asked.get("code_challenge_method") == "S256"
            and "openid" in asked.get("scope", "").split()
            and asked.get("tenant") == "1"
        )
        if not good:
            return self.answer(400, {"error": "invalid_request"})
        code = b64(secrets.token_bytes(16)) + "+/="
        STATE.codes[code] = asked
        back = changed({"code": code, "state": asked["state"], "iss": self.issuer}, None)
        if "iss" in STATE.told:
            back = changed(back, {"iss": STATE.told["iss"]})
        self.answer(302, {}, [("Location", f"{asked['redirect_uri']}?{urlencode(back)}")])

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        form = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
        with STATE.lock:
            STATE.counts[self.path] = STATE.counts.get(self.path, 0) + 1
        if self.told(self.path):
            return
        if self.path != "/token":
            return self.answer(404, {})
        login = self.headers.get("Authorization", "")
        if login:
            name, _, secret = base64.b64decode(login.removeprefix("Basic ")).decode().partition(":")
            if (unquote_plus(name), unquote_plus(secret)) != (CLIENT, SECRET) or "client_id" in form:
                return self.answer(401, {"error": "invalid_client"}, [("WWW-Authenticate", "Basic")])
        elif form.get("client_id") != CLIENT:
            return self.answer(401, {"error": "invalid_client"})
        asked = STATE.codes.pop(form.get("code", ""), None)
        challenge = b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        good = (
            form.get("grant_type") == "authorization_code"
            and asked
            and asked["code_challenge"] == challenge
            and asked["redirect_uri"] == form.get("redirect_uri")
        )
        if not good:
            return self.answer(400, {"error": "invalid_grant"})
        answer = {"access_token": "access/1", "token_type": "Bearer", "id_token": id_token(self.issuer, asked["nonce"])}
        self.answer(200, changed(answer, {name: None for name in STATE.told.get("without", [])}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Issuer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"ready {server.server_address[1]}", flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
