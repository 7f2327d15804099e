"""An SMTP relay that writes down what it accepted before it says so, and kills or misbehaves as told.

Each accepted mail is a line of `sink.jsonl`, on the disk (fsync) before its 250 is sent. A line also holds how long each audit file
was when the first byte of the mail's text came: whatever a link in the text needs to be recorded, it must be in there.
"""

import asyncio
import base64
import json
import os
import pathlib
import time

from listener import Listener

USER = "handout"


class Habit:
    """What the relay does at one step instead of what it should."""

    def __init__(self, step, action, reply=None, seconds=0.0, times=1):
        self.step, self.action, self.reply, self.seconds, self.times = step, action, reply, seconds, times

    def __str__(self):
        return f"{self.step} {self.action}" + (f" {self.reply[:3]}" if self.reply else "")


#: Every step of the dialogue, answered with 4yz, 5yz, a stall and a closed connection; and what only the last reply can do wrong.
STEPS = ("CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "DOT")


def habits():
    for step in STEPS:
        yield Habit(step, "reply", "421 4.3.2 not now" if step == "CONNECT" else "451 4.3.0 not now")
        yield Habit(step, "reply", "550 5.1.1 never")
        yield Habit(step, "stall", seconds=0.4)
        yield Habit(step, "close")
    yield Habit("DOT", "accept-and-close")
    yield Habit("DOT", "accept-and-stall", seconds=0.4)
    yield Habit("DOT", "accept-and-mumble", "354 go on")
    yield Habit("MAIL", "garbage", "what?")


class Trap:
    """Where in a dialogue the worker is killed: `body` (half of the text is read), `dot` (all is read, nothing accepted), `kept` (accepted,
    and the 250 not sent), `reply` (the 250 is sent), `greeted` (nothing but a connection)."""

    def __init__(self, where, kill, passage=1):
        self.where, self.kill, self.left = where, kill, passage


class Sink:
    """A sink for one world; its workers have a port each, so that a trap catches the right one."""

    def __init__(self, world, audit_dirs, password, ports=1):
        self.world = pathlib.Path(world)
        self.audit_dirs = [self.world / directory for directory in audit_dirs]
        self.password = password
        self.log = open(self.world / "sink.jsonl", "a")
        self.accepted = [0] * ports
        self.sessions = 0
        self.traps = {}
        self.habits = []
        self.delay = lambda: 0.0
        self.on_data = {}
        self.listener = Listener(lambda number, reader, writer: Session(self, number, reader, writer).serve(), ports)
        self.ports = self.listener.ports

    def stop(self):
        self.listener.stop()
        self.log.close()

    def spring(self, port, where):
        """Kills the worker if a trap waits for this; says whether it did."""
        trap = self.traps.get(port)
        if trap is None or trap.where != where:
            return False
        trap.left -= 1
        if trap.left != 0:
            return False
        del self.traps[port]
        trap.kill()
        return True

    def habit_at(self, step):
        for habit in self.habits:
            if habit.step == step and habit.times > 0:
                habit.times -= 1
                return habit
        return None

    def audit_sizes(self):
        sizes = {}
        for directory in self.audit_dirs:
            if directory.is_dir():
                for entry in os.scandir(directory):
                    if entry.name.endswith(".jsonl"):
                        sizes[os.path.relpath(entry.path, self.world)] = entry.stat().st_size
        return sizes

    def accept(self, port, to, octets, audit_sizes):
        line = {"at": time.time(), "to": to, "data": base64.b64encode(octets).decode(), "audit_sizes": audit_sizes}
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()
        os.fsync(self.log.fileno())
        self.accepted[port] += 1


class Closed(Exception):
    """The dialogue is over."""


class Session:
    def __init__(self, sink, port, reader, writer):
        self.sink, self.port, self.reader, self.writer = sink, port, reader, writer
        self.to, self.authenticated = None, False

    async def serve(self):
        self.sink.sessions += 1
        try:
            await self.dialogue()
        except (Closed, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.writer.close()

    async def say(self, *lines):
        self.writer.write(b"".join(line.encode() + b"\r\n" for line in lines))
        await self.writer.drain()

    async def usual(self, step, *lines):
        """Answers as it should, or as a habit says; whether the step may have its effect."""
        habit = self.sink.habit_at(step)
        if habit is None:
            await self.say(*lines)
            return True
        await asyncio.sleep(habit.seconds)
        match habit.action:
            case "close":
                raise Closed
            case "stall":
                await self.say(*lines)
                return True
        await self.say(habit.reply)
        if step == "CONNECT":
            raise Closed
        return False

    async def dialogue(self):
        await self.usual("CONNECT", "220 sink.test")
        self.sink.spring(self.port, "greeted")
        while line := await self.reader.readline():
            text = line.decode("utf-8", "replace").strip()
            verb, _, rest = text.partition(" ")
            match verb.upper():
                case "EHLO" | "HELO":
                    await self.usual("EHLO", "250-sink.test", "250-8BITMIME", "250-SMTPUTF8", "250 AUTH PLAIN LOGIN")
                case "AUTH":
                    await self.auth(rest)
                case "MAIL":
                    if not self.authenticated:
                        await self.say("530 5.7.0 log in first")
                    else:
                        await self.usual("MAIL", "250 ok")
                case "RCPT":
                    address = rest.partition("<")[2].partition(">")[0]
                    if await self.usual("RCPT", "250 ok"):
                        self.to = address
                case "DATA":
                    if self.to is None:
                        await self.say("503 5.5.1 to whom?")
                    elif await self.usual("DATA", "354 go on"):
                        await self.data()
                case "NOOP" | "RSET":
                    await self.say("250 ok")
                case "QUIT":
                    await self.say("221 bye")
                    raise Closed
                case _:
                    await self.say("502 5.5.2 what?")

    async def auth(self, rest):
        _, _, given = rest.partition(" ")
        right = base64.b64encode(f"\0{USER}\0{self.sink.password}".encode()).decode()
        if given != right:
            await self.say("535 5.7.8 no")
        elif await self.usual("AUTH", "235 ok"):
            self.authenticated = True

    async def data(self):
        sink, to = self.sink, self.to
        self.to = None
        first = await self.reader.readexactly(1)
        sizes = sink.audit_sizes()
        sink.on_data.get(self.port, lambda: None)()
        if self.sink.traps.get(self.port) and self.sink.traps[self.port].where == "body":
            first += await self.reader.readexactly(2000)
            sink.spring(self.port, "body")
        # The text may be whole in the network already: then the relay has it, whether its sender lives or not.
        octets = (first + await self.reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
        if sink.spring(self.port, "dot"):
            raise Closed
        if (delay := sink.delay()) > 0:
            await asyncio.sleep(delay)
        habit = sink.habit_at("DOT")
        if habit is not None and not habit.action.startswith("accept"):
            await asyncio.sleep(habit.seconds)
            match habit.action:
                case "close":
                    raise Closed
                case "reply":
                    await self.say(habit.reply)
                    return
        sink.accept(self.port, to, octets, sizes)
        if sink.spring(self.port, "kept"):
            raise Closed
        if habit is not None and habit.action != "stall":
            await asyncio.sleep(habit.seconds)
            if habit.action == "accept-and-close":
                raise Closed
            if habit.action == "accept-and-mumble":
                await self.say(habit.reply)
                return
        await self.say("250 2.0.0 kept")
        sink.spring(self.port, "reply")
