"""A target as a process, with a Valkey server of its own on TCP."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.targets import Target, channel
from tests.support.load_balancers import free_port
from tests.support.valkey import ValkeyServer

START_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Running:
    """A target that listens. ``stderr`` is what it has said there so far."""

    target: Target
    users: int
    port: int
    valkey: ValkeyServer
    process: asyncio.subprocess.Process
    log: Path
    connections: list[ClientConnection] = field(default_factory=list)

    @property
    def stderr(self) -> str:
        return self.log.read_text()

    def publish(self, user: int, entry: str) -> int:
        """Publish an entry and return how many subscribers the server has for it."""
        reply = self.valkey.command("PUBLISH", channel(user), entry)
        assert reply.startswith(b":"), reply
        return int(reply[1:])

    async def client(self, user: int, **options: object) -> Client:
        """Connect a user and return once everything that is published reaches it."""
        connection = await connect(
            f"ws://127.0.0.1:{self.port}{self.target.path(user)}",
            additional_headers=self.target.headers,
            compression=None,
            proxy=None,
            max_queue=None,
            **options,  # type: ignore[arg-type]
        )
        self.connections.append(connection)
        client = Client(connection, self.target)
        for payload in self.target.hello(user, self.users):
            await connection.send(payload.decode())
        while self.target.subscribed not in await client.read():
            pass
        return client

    async def stop(self) -> str:
        """End it by SIGTERM and return what it has said on standard error. Idempotent."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(START_TIMEOUT_S):
            await self.process.wait()
            for connection in self.connections:
                connection.transport.abort()
                await connection.wait_closed()
        return self.stderr


class Client:
    """One user's connection. ``entries`` is what was delivered so far, as (user, number)."""

    def __init__(self, connection: ClientConnection, target: Target) -> None:
        self.connection = connection
        self.entries: list[tuple[str, int]] = []
        self._target = target

    async def read(self) -> bytes:
        """Return the next frame, and remember the entry in it."""
        async with asyncio.timeout(START_TIMEOUT_S):
            message = await self.connection.recv()
        assert isinstance(message, str), "a delivery is a text frame"
        payload = message.encode()
        assert payload.count(self._target.marker) == payload.count(b'"user_id"') <= 1
        if b'"user_id"' in payload:
            found = json.loads(message[message.index("{") : message.rindex("}") + 1])
            self.entries.append((found["user_id"], found["updated_at_ms"]))
        return payload

    async def read_until(self, count: int) -> None:
        """Read until so many entries have come."""
        while len(self.entries) < count:
            await self.read()


def entry(user: int, number: int, padding: str = "") -> str:
    """Return an entry of the usual size, whose time is ``number``."""
    fields = {"user_id": f"{user:036}", "lat": 37.57, "lon": 126.98, "distance_m": 590, "updated_at_ms": number}
    return json.dumps({**fields, "precision": "exact" + padding}, separators=(",", ":"))


@asynccontextmanager
async def running(target: Target, users: int, directory: Path) -> AsyncIterator[Running]:
    """Start the target, built before, for so many users; end it and its Valkey server on leaving."""
    redis_port, port, log = free_port(), free_port(), directory / "stderr"
    with closing(ValkeyServer("--port", str(redis_port), "--bind", "127.0.0.1")) as valkey, log.open("wb") as stderr:
        valkey.start()
        process = await asyncio.create_subprocess_exec(
            *target.argv(port, redis_port, users), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr
        )
        running = Running(target, users, port, valkey, process, log)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(START_TIMEOUT_S):
                assert await process.stdout.readline() == b"ready\n", running.stderr
            yield running
        finally:
            await running.stop()
