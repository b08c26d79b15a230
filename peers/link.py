"""A TCP proxy that delays every byte by half a round trip in each direction, and counts flights.

A *flight* is a change of direction from the server's side to the client's: bytes from the client after
bytes from the server. Flights a message are the round trips that a message costs.
"""

from __future__ import annotations

import asyncio
import threading
import time
from types import TracebackType

from peers.ports import free_port


class Link:
    """`with Link(port, rtt=0.05) as link:` connects `link.port` to `port` over a slow link."""

    def __init__(self, target: int, rtt: float) -> None:
        self.port = free_port()
        self.flights = 0
        self._target = target
        self._delay = rtt / 2

    def __enter__(self) -> Link:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", self.port), self._loop
        ).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def stop() -> None:
            self._server.close()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._delay * 2)  # the TCP handshake
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        last = ["server"]
        try:
            await asyncio.gather(
                self._pump(reader, up_writer, "client", last), self._pump(up_reader, writer, "server", last)
            )
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            up_writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, side: str, last: list[str]
    ) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def write() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    writer.close()
                    return
                writer.write(data)
                await writer.drain()

        task = asyncio.ensure_future(write())
        try:
            while data := await reader.read(1 << 16):
                if side == "client" and last[0] == "server":
                    self.flights += 1
                last[0] = side
                queue.put_nowait((time.monotonic() + self._delay, data))
            queue.put_nowait((time.monotonic() + self._delay, b""))
            await task
        finally:
            task.cancel()
