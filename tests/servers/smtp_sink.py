#!/usr/bin/env python3
"""An SMTP relay that keeps what it is given, or misbehaves as told; on a free port of 127.0.0.1.

    .test/venv/bin/python tests/servers/smtp_sink.py --maildir DIR [options]

Prints `ready <port>` when it listens, and ends when its standard input is closed.

    --maildir DIR              each accepted mail as DIR/<n>.eml (CRLF kept) and then DIR/<n>.json; both appear whole, by rename. n begins at 1
    --starttls CERT KEY        offers STARTTLS and refuses MAIL without it (530)
    --optional-starttls        … but takes mail without it too
    --implicit-tls CERT KEY    TLS from the first octet
    --auth USER PASSWORD       AUTH PLAIN or LOGIN is required (530); a wrong one is refused (535)
    --token USER TOKEN         AUTH XOAUTH2 or OAUTHBEARER is required (530); a wrong token is answered as Gmail does: 334 with the reason, then 535
    --offer TEXT               with --auth or --token: a line of the reply to EHLO in place of that of AUTH; may be given more than once
    --max-size OCTETS          announces SIZE and refuses more (552)
    --no-smtputf8              does not offer SMTPUTF8
    --script FILE              a JSON list of rules, see below
    --log FILE                 one JSON object a line: {"session", "verb", "argument", "reply"}; without AUTH arguments
    --port N                   0 (the default) takes a free one

The JSON beside a mail:

    {"n", "session", "from", "to": [...], "mail_options": [...], "tls", "tls_version", "authenticated", "helo", "peer", "octets", "rule", "received_at"}

A rule:

    {"verb": "RCPT", "match": "bad@", "reply": "550 5.1.1 no such user", "times": 1}
    {"verb": "DATA", "action": "stall", "seconds": 5}

    verb     CONNECT (instead of the greeting), EHLO (also HELO), AUTH, MAIL, RCPT, DATA (the command, instead of the 354), DOT (the whole mail
             has been read), NOOP, RSET, QUIT
    match    optional: applies only if this text occurs: in any recipient for DATA and DOT, in the argument of the command else
    skip     optional: lets so many matching commands pass first
    times    optional: applies to so many matching commands, then no more; without it for ever
    reply    what is answered instead of the usual; at DOT the mail is then not kept
    action   "abort" drops the connection, no answer; at DOT the mail is not kept
             "stall" waits for `seconds`, then goes on as usual, or with `reply` if there is one
             "abort-after-store" (DOT; DATA means the same) keeps the mail, then drops the connection without the 250
             "reply-after-store" (DOT; DATA means the same) keeps the mail, then answers `reply`

The first rule that applies decides. An argument is matched as it was sent, e.g. "TO:<ann@acme.example>".
"""

import argparse
import asyncio
import base64
import dataclasses
import datetime
import json
import logging
import os
import pathlib
import socket
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword, TLSSetupException

ACTIONS = {"abort", "stall", "abort-after-store", "reply-after-store"}
VERBS = {"CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "DOT", "NOOP", "RSET", "QUIT"}


@dataclasses.dataclass
class Rule:
    verb: str
    match: str = ""
    skip: int = 0
    times: int | None = None
    reply: str | None = None
    action: str | None = None
    seconds: float = 0

    def __post_init__(self):
        self.verb = {"HELO": "EHLO"}.get(self.verb.upper(), self.verb.upper())
        if self.verb not in VERBS:
            raise ValueError(f"verb {self.verb!r} is none of {sorted(VERBS)}")
        if self.action is not None and self.action not in ACTIONS:
            raise ValueError(f"action {self.action!r} is none of {sorted(ACTIONS)}")
        if self.action is None and self.reply is None:
            raise ValueError(f"the rule for {self.verb} has neither a reply nor an action")
        if self.action and self.action.endswith("-after-store") and self.verb not in ("DATA", "DOT"):
            raise ValueError(f"{self.action} belongs to DATA or DOT, not to {self.verb}")
        if self.action == "reply-after-store" and self.reply is None:
            raise ValueError("reply-after-store needs a reply")

    @property
    def at_dot(self):
        """Whether the rule acts when the mail has been read."""
        return self.verb == "DOT" or (self.action or "").endswith("-after-store")


class Script:
    def __init__(self, rules):
        self.rules = [Rule(**rule) for rule in rules]

    def rule_for(self, verb, words):
        """The first rule that applies to this command, and counts it."""
        for rule in self.rules:
            mine = rule.at_dot if verb == "DOT" else rule.verb == verb and not rule.at_dot
            if mine and any(rule.match in word for word in words):
                if rule.skip > 0:
                    rule.skip -= 1
                elif rule.times is None or rule.times > 0:
                    if rule.times is not None:
                        rule.times -= 1
                    return rule
        return None


class Maildir:
    """Numbered mails; a file appears whole or not at all, the JSON last."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.count = 0

    def keep(self, content, facts):
        self.count += 1
        facts = {"n": self.count, **facts, "octets": len(content)}
        self._appear(f"{self.count}.eml", content)
        self._appear(f"{self.count}.json", json.dumps(facts, ensure_ascii=False, indent=1).encode() + b"\n")
        return self.count

    def _appear(self, name, content):
        hidden = self.directory / f".{name}.new"
        hidden.write_bytes(content)
        os.replace(hidden, self.directory / name)


class Relay:
    """What is one for the whole server: the script, the maildir, the log, the number of the session."""

    def __init__(self, options):
        self.options = options
        self.script = Script(json.loads(pathlib.Path(options.script).read_text()) if options.script else [])
        self.maildir = Maildir(options.maildir)
        self.log = open(options.log, "a", buffering=1) if options.log else None
        self.sessions = 0

    def note(self, session, verb, argument, reply):
        if self.log:
            line = {"session": session, "verb": verb, "argument": argument, "reply": reply}
            self.log.write(json.dumps(line, ensure_ascii=False) + "\n")

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        """aiosmtpd offers AUTH even if nobody could pass it."""
        session.host_name = hostname
        others = [line for line in responses if not line.startswith("250-AUTH")]
        if len(others) == len(responses) or not (self.options.auth or self.options.token):
            return others
        if self.options.offer:
            return others[:1] + [f"250-{line}" for line in self.options.offer] + others[1:]
        return responses

    async def handle_DATA(self, server, session, envelope):
        """Called by aiosmtpd when the final dot has been read."""
        server.verb, server.argument = "DOT", ""
        rule = self.script.rule_for("DOT", envelope.rcpt_tos)
        if rule and rule.action == "stall":
            await asyncio.sleep(rule.seconds)
        if rule and rule.action == "abort":
            return server.drop()
        if rule and rule.reply and rule.action != "reply-after-store":
            return rule.reply
        tls = server.transport.get_extra_info("ssl_object")
        number = self.maildir.keep(
            envelope.original_content,
            {
                "session": server.number,
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "mail_options": envelope.mail_options,
                "tls": tls is not None,
                "tls_version": tls.version() if tls else None,
                "authenticated": bool(session.authenticated),
                "helo": session.host_name,
                "peer": list(session.peer[:2]),
                "rule": dataclasses.asdict(rule) if rule else None,
                "received_at": datetime.datetime.now(datetime.timezone.utc).isoformat(),
            },
        )
        if rule and rule.action == "abort-after-store":
            return server.drop()
        if rule and rule.action == "reply-after-store":
            return rule.reply
        return f"250 2.0.0 kept as {number}"

    def authenticate(self, server, session, envelope, mechanism, data):
        user, password = self.options.auth
        if isinstance(data, LoginPassword) and (data.login, data.password) == (user.encode(), password.encode()):
            return AuthResult(success=True)
        # Without handled=False aiosmtpd believes that we have answered, and the client waits for ever.
        return AuthResult(success=False, handled=False)


class TokenRelay(Relay):
    """A relay that takes tokens: aiosmtpd finds the mechanism by the name of its method."""

    async def auth_XOAUTH2(self, server, args):
        """https://developers.google.com/workspace/gmail/imap/xoauth2-protocol"""
        response = base64.b64decode(args[1]) if len(args) == 2 else await server.challenge_auth("")
        user, token = self.options.token
        return await self.judge(server, response == f"user={user}\1auth=Bearer {token}\1\1".encode())

    async def auth_OAUTHBEARER(self, server, args):
        """RFC 7628, sections 3.1 and 3.2.3; the name is written as RFC 5801 says."""
        response = base64.b64decode(args[1]) if len(args) == 2 else await server.challenge_auth("")
        user, token = self.options.token
        name = user.replace("=", "=3D").replace(",", "=2C")
        return await self.judge(server, response == f"n,a={name},\1auth=Bearer {token}\1\1".encode())

    async def judge(self, server, is_right):
        if is_right:
            return AuthResult(success=True)
        acknowledgement = await server.challenge_auth('{"status":"401","schemes":"bearer"}')
        self.note(server.number, "AUTH", "the response to the reason", repr(acknowledgement))
        return AuthResult(success=False, handled=False)


class Session(SMTP):
    """One connection: asks the script before each command."""

    def __init__(self, relay, *args, **kwargs):
        super().__init__(relay, *args, **kwargs)
        self.relay = relay
        relay.sessions += 1
        self.number = relay.sessions
        self.greeted = False
        self.verb, self.argument = "CONNECT", ""

    def drop(self):
        self.relay.note(self.number, self.verb, self.argument, "(dropped)")
        self.transport.abort()
        raise ConnectionResetError("dropped by the script")

    async def push(self, status):
        """Each answer goes through here."""
        text = status if isinstance(status, str) else status.decode("ascii", "replace")
        if not self.greeted:
            self.greeted = True
            rule = self.relay.script.rule_for("CONNECT", [""])
            answer = await self._obey(rule)
            if answer is not None:
                self.relay.note(self.number, "CONNECT", "", answer)
                await super().push(answer)
                self.transport.close()
                raise ConnectionResetError("turned away by the script")
        shown = "" if self.verb == "AUTH" else self.argument
        self.relay.note(self.number, self.verb, shown, text)
        await super().push(status)

    async def _obey(self, rule):
        """Stalls or drops as the rule says; returns the reply to give instead of the usual one, or nothing."""
        if rule is None:
            return None
        if rule.action == "stall":
            await asyncio.sleep(rule.seconds)
        elif rule.action == "abort":
            self.drop()
        return rule.reply

    async def _refused(self, verb, argument):
        """Gives the answer of the script, if it has one for this command."""
        self.verb, self.argument = verb, argument or ""
        words = (self.envelope.rcpt_tos or [""]) if verb == "DATA" and self.envelope else [self.argument]
        answer = await self._obey(self.relay.script.rule_for(verb, words))
        if answer is not None:
            await self.push(answer)
        return answer is not None


def scripted(name):
    """Wraps one `smtp_VERB` of aiosmtpd, so that the script is asked first."""
    original = getattr(SMTP, f"smtp_{name}")

    async def command(self, arg):
        if await self._refused({"HELO": "EHLO"}.get(name, name), arg):
            return
        await original(self, arg)

    # aiosmtpd reads attributes of the method (which syntax, only before AUTH, …).
    command.__dict__.update(original.__dict__)
    command.__doc__ = original.__doc__
    return command


for verb in ("EHLO", "HELO", "AUTH", "MAIL", "RCPT", "DATA", "NOOP", "RSET", "QUIT"):
    setattr(Session, f"smtp_{verb}", scripted(verb))


def starttls(self, arg):
    self.verb, self.argument = "STARTTLS", ""
    return SMTP.smtp_STARTTLS(self, arg)


starttls.__dict__.update(SMTP.smtp_STARTTLS.__dict__)
Session.smtp_STARTTLS = starttls


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maildir", required=True, metavar="DIR")
    tls = parser.add_mutually_exclusive_group()
    tls.add_argument("--starttls", nargs=2, metavar=("CERT", "KEY"))
    tls.add_argument("--implicit-tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--optional-starttls", action="store_true")
    parser.add_argument("--auth", nargs=2, metavar=("USER", "PASSWORD"))
    parser.add_argument("--token", nargs=2, metavar=("USER", "TOKEN"))
    parser.add_argument("--offer", action="append", metavar="TEXT")
    parser.add_argument("--max-size", type=int, default=33554432, metavar="OCTETS")
    parser.add_argument("--no-smtputf8", action="store_true")
    parser.add_argument("--script", metavar="FILE")
    parser.add_argument("--log", metavar="FILE")
    parser.add_argument("--port", type=int, default=0)
    return parser.parse_args()


def tls_context(files):
    if files is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    return context


def complain(loop, context):
    """Dropped connections and refused handshakes are the point here, not news; anything else is a bug of this file."""
    if not isinstance(context.get("exception"), (ConnectionError, ssl.SSLError, TLSSetupException)):
        loop.default_exception_handler(context)


async def serve(options):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(complain)
    relay = TokenRelay(options) if options.token else Relay(options)
    if options.token:
        # RFC 4954, section 4: a response may have 12,288 octets.
        Session.line_length_limit = 12288
    starttls_context = tls_context(options.starttls)

    def session():
        return Session(
            relay,
            hostname="sink.test",
            ident="Handout test sink",
            data_size_limit=options.max_size,
            enable_SMTPUTF8=not options.no_smtputf8,
            decode_data=False,
            tls_context=starttls_context,
            require_starttls=starttls_context is not None and not options.optional_starttls,
            authenticator=relay.authenticate if options.auth else None,
            auth_required=bool(options.auth or options.token),
            auth_exclude_mechanism=["PLAIN", "LOGIN"] if options.token else None,
            auth_require_tls=starttls_context is not None,
            loop=loop,
        )

    listener = socket.create_server(("127.0.0.1", options.port))
    server = await loop.create_server(session, sock=listener, ssl=tls_context(options.implicit_tls))
    print(f"ready {listener.getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


def main():
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")  # AUTH without TLS is what some tests are about
    options = arguments()
    try:
        asyncio.run(serve(options))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
