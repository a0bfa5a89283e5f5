"""The connection of one participant alone: a TCP relay that tests may cut, block and mend."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Cable:
    """Relays to one ``HOST:PORT`` for whoever connects to :attr:`address`."""

    def __init__(self, target: str, tasks: asyncio.TaskGroup) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._tasks = tasks
        self._whole = True
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._relays: set[asyncio.Task[None]] = set()
        self.address = ""

    def cut(self) -> None:
        """Drop every connection, and each new one at once."""
        self._whole = False
        for relay in self._relays:
            relay.cancel()

    def block(self) -> None:
        """Let nothing through any more; connections stay open."""
        self._flowing.clear()

    def mend(self) -> None:
        """Relay again."""
        self._whole = True
        self._flowing.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection."""
        if not self._whole:
            writer.close()
            return
        relay = self._tasks.create_task(self._relay(reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer: asyncio.StreamWriter | None = None
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            async with asyncio.TaskGroup() as both:
                there = both.create_task(self._copy(reader, far_writer))
                back = both.create_task(self._copy(far_reader, writer))
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                there.cancel()
                back.cancel()
        except OSError:
            pass
        finally:
            for each in (writer, far_writer):
                if each is not None:
                    each.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def cable_to(target: str) -> AsyncIterator[Cable]:
    """Yield a whole cable to ``HOST:PORT``; it is cut in the end."""
    async with asyncio.TaskGroup() as tasks:
        cable = Cable(target, tasks)
        server = await asyncio.start_server(cable.accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        cable.address = f"127.0.0.1:{port}"
        try:
            yield cable
        finally:
            server.close()
            cable.cut()
