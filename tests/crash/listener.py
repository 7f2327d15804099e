"""A thread with an event loop that serves some ports of 127.0.0.1."""

import asyncio
import threading


class Listener:
    """Calls `serve(number, reader, writer)` for each connection to the port of that number."""

    def __init__(self, serve, ports):
        self.loop = asyncio.new_event_loop()
        self.ports = []
        self.tasks = set()  # the loop itself holds them weakly
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(serve, ports, ready), daemon=True)
        self.thread.start()
        ready.wait()

    def _run(self, serve, ports, ready):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._listen(serve, ports))
        ready.set()
        self.loop.run_forever()
        # Whoever is still in the middle of something is cut off, and waited for.
        while tasks := [task for task in self.tasks if task.cancel()]:
            self.loop.run_until_complete(asyncio.wait(tasks))

    async def _listen(self, serve, ports):
        for number in range(ports):
            server = await asyncio.start_server(self._kept(serve, number), "127.0.0.1", 0, limit=1 << 20)
            self.ports.append(server.sockets[0].getsockname()[1])

    def _kept(self, serve, number):
        async def connected(reader, writer):
            task = asyncio.current_task()
            self.tasks.add(task)
            try:
                await serve(number, reader, writer)
            except asyncio.CancelledError:
                pass  # the end of the listener; asyncio would print it for each connection
            finally:
                self.tasks.discard(task)

        return connected

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
