"""A TCP proxy before one server whose connections fail as told: what a network, a NAT gateway or a sick server does.

    open         bytes move both ways
    silent       connections are accepted and kept, and nothing moves on any; those of that time stay dead when the line is open again
    refusing     nothing listens, and what was open is reset
    resetting    what was open is reset, and so is each new connection
    trickling    requests pass, and each answer's body comes at one byte a second
    unavailable  each HTTP request is answered with 503
    narrow       a connection dies silently with the first bytes of a client that do not fit into one packet, as on a path that drops large ones
    halved       every second new connection is silent, as behind a balancer one of whose two servers is dead; what was open is reset

Besides: `kill_kept()` lets the connections that are open now die silently, `swallow_put(forwarded)` takes one PUT whose answer never
comes, and `is_silent_about(name)` lets a connection die at each request whose first line has that name. A connection that died silently is held open here until the end: closed, it would be another, milder fault.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading

MODES = ("open", "silent", "refusing", "resetting", "trickling", "unavailable", "narrow", "halved")

#: What fits into one packet of Ethernet after the headers of IP and TCP.
PACKET = 1448

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 36\r\nconnection: close\r\n\r\n<Error><Code>SlowDown</Code></Error>"


PORTS = list(range(12000, 32000))
random.shuffle(PORTS)


def free_port():
    """A free port below the range from which the kernel takes those of outgoing connections, so that it stays free for a restart; each is
    given once, since it is bound later."""
    while True:
        port = PORTS.pop()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


class Loop:
    """One thread with an event loop for all lines."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)


class Connection:
    """The two ends of a connection, and what is wrong with it."""

    def __init__(self, reader, writer):
        self.ends = [(reader, writer)]
        self.is_dead = self.is_mute = self.trickles = False

    def dies(self):
        """Silently for the client. The server is left, so that a poll which it still answers takes no message along."""
        self.is_dead = True
        for _, server in self.ends[1:]:
            server.close()

    def close(self, reset=False):
        for _, writer in self.ends:
            if reset:
                # Without lingering a socket is closed by a reset.
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()


class Line:
    loop = None

    def __init__(self, target, mode="open"):
        Line.loop = Line.loop or Loop()
        self.target, self.mode = target, mode
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = set()
        self.graves = []  # what died is referenced, or the garbage collector would close it
        self.put_to_swallow = None
        self.swallowed = 0
        self.silent_name = None
        self.opened = 0
        self.server = None
        self.becomes(mode)

    def becomes(self, mode):
        assert mode in MODES, mode
        self.loop.do(self._becomes(mode))

    def falls(self, mode):
        """`becomes`, for a thread that may not wait: the change comes at once after what that thread does."""
        asyncio.run_coroutine_threadsafe(self._becomes(mode), self.loop.loop)

    def breaks(self):
        """`reset_kept`, for a thread that may not wait."""
        asyncio.run_coroutine_threadsafe(self._reset_kept(), self.loop.loop)

    def kill_kept(self):
        """How many connections died."""
        return self.loop.do(self._kill_kept())

    def reset_kept(self):
        """Resets the connections that are open now; new ones go through."""
        self.loop.do(self._reset_kept())

    def swallow_put(self, forwarded):
        self.put_to_swallow = forwarded

    def is_silent_about(self, name):
        self.silent_name = name and name.encode()

    def stop(self):
        self.loop.do(self._stop())

    async def _becomes(self, mode):
        self.mode = mode
        if mode == "silent":
            await self._kill_kept()
        if mode in ("refusing", "resetting", "halved"):
            await self._reset_kept()
        if mode == "refusing" and self.server:
            self.server.close()
            self.server = None
        elif mode != "refusing" and self.server is None:
            self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True, backlog=1024)

    async def _kill_kept(self):
        killed = len(self.connections)
        for connection in self.connections:
            connection.dies()
        return killed

    async def _reset_kept(self):
        for connection in [*self.connections, *self.graves]:
            connection.close(reset=True)

    async def _stop(self):
        if self.server:
            self.server.close()
        await self._reset_kept()

    async def _serve(self, reader, writer):
        connection = Connection(reader, writer)
        self.connections.add(connection)
        self.opened += 1
        try:
            match self.mode:
                case "silent":
                    connection.is_dead = True
                case "halved" if self.opened % 2:
                    connection.is_dead = True
                case "resetting":
                    connection.close(reset=True)
                case _:
                    connection.ends.append(await asyncio.open_connection("127.0.0.1", self.target))
                    (_, client), (answers, server) = connection.ends
                    ways = [self._requests(connection, reader, server, client), self._answers(connection, answers, client)]
                    ways = [asyncio.ensure_future(way) for way in ways]
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                    if not connection.is_dead:
                        await asyncio.sleep(0)
                        for way in ways:
                            way.cancel()
        except OSError:
            pass
        finally:
            self.connections.discard(connection)
            if connection.is_dead:
                self.graves.append(connection)
            else:
                connection.close(reset=len(connection.ends) == 1)

    async def _requests(self, connection, reader, server, client):
        with contextlib.suppress(OSError):
            while (piece := await reader.read(1 << 16)) and not connection.is_dead:
                # A request begins a piece: clients write its head at once, after the answer to the one before.
                if self.mode == "unavailable" and b"HTTP/1.1\r\n" in piece:
                    client.write(UNAVAILABLE)
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._drain(reader), 1)
                    return
                if self.put_to_swallow is not None and piece.startswith(b"PUT "):
                    forwarded, self.put_to_swallow = self.put_to_swallow, None
                    self.swallowed += 1
                    connection.is_mute = True
                    if not forwarded:
                        connection.dies()
                        return
                if self.mode == "narrow" and len(piece) > PACKET:
                    connection.dies()
                    return
                if self.silent_name is not None and self.silent_name in piece.partition(b"\r\n")[0]:
                    connection.dies()
                    return
                connection.trickles |= self.mode == "trickling"
                server.write(piece)
                await server.drain()

    @staticmethod
    async def _drain(reader):
        while await reader.read(1 << 16):
            pass

    async def _answers(self, connection, answers, client):
        with contextlib.suppress(OSError):
            while piece := await answers.read(1 << 16):
                if connection.is_dead:
                    return
                if connection.is_mute:
                    continue
                if connection.trickles:
                    head, end, body = piece.partition(b"\r\n\r\n")
                    client.write(head + end)
                    for byte in body:
                        client.write(bytes([byte]))
                        await client.drain()
                        await asyncio.sleep(1)
                        if connection.is_dead:
                            return
                else:
                    client.write(piece)
                    await client.drain()
