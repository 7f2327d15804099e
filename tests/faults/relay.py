"""A relay with a record of what it accepted and when, and a step at which it falls silent; the dialogue is that of `tests/crash/sink.py`."""

import re
import time

from sink import Habit, Sink

#: Where a relay can be silent; after the dot the text was read, and is not kept.
SILENCES = {"greeting": "CONNECT", "MAIL": "MAIL", "RCPT": "RCPT", "DATA": "DATA", "dot": "DOT"}

FOREVER = 1e9


class Relay(Sink):
    def __init__(self, directory):
        directory.mkdir()
        self.mailed = {}  # job -> when each of its mails was accepted, by time.monotonic()
        self.hung = 0  # dialogues that a silence has caught
        super().__init__(directory, [], password="secret")

    @property
    def port(self):
        return self.ports[0]

    def silent_at(self, step):
        """From now on each dialogue stops at a step, for good: it does not go on when the relay is well again."""
        self.hung = 0
        self.habits = [Habit(SILENCES[step], "close", seconds=FOREVER, times=FOREVER)]

    def well(self):
        self.habits = []

    def habit_at(self, step):
        habit = super().habit_at(step)
        self.hung += habit is not None
        return habit

    def accept(self, port, to, octets, audit_sizes):
        super().accept(port, to, octets, audit_sizes)
        job = re.search(rb"^Subject: Report \[([^\]]+)\]", octets, re.MULTILINE).group(1).decode()
        self.mailed.setdefault(job, []).append(time.monotonic())
