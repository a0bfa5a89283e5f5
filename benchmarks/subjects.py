"""What is measured: a server that runs, has a core to itself, and can be watched by a crowd and fed by a publisher."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.compiled import compiled_wheel
from benchmarks.crowd import Client, Marks
from benchmarks.nearby_stack import MARKS, Scene, scene, upgrade_request
from benchmarks.processes import pin, split_cores
from benchmarks.targets import FRIENDS, Target, channel
from tests.support.load_balancers import free_port
from tests.support.valkey import ValkeyServer

START_TIMEOUT_S = 60.0
REPORT = b'{"lat":41.88,"lon":-87.63}'
"""What a client of a reference reports, where that takes reports."""

Message = Callable[[int], tuple[bytes, bytes]]
"""Gives the channel and the payload that tell of a user now."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server with ``users`` viewers to come, each watching forty people.

    ``message`` tells what is published of one of ``users`` people at ``redis``. ``kill_redis`` ends the server there
    and returns when another listens in its place. ``scene`` is there for our own server.
    """

    name: str
    pid: int
    port: int
    users: int
    clients: Sequence[Client]
    marks: Marks
    redis: str
    message: Message
    kill_redis: Callable[[], Awaitable[None]]
    scene: Scene | None = None


class Subject(Protocol):
    """A server that can be started."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    def running(self, users: int) -> AbstractAsyncContextManager[Running]:
        """Start it for ``users`` viewers, and end it."""


@dataclass(frozen=True, slots=True)
class Nearby:
    """Our own gateway within its whole stack.

    ``two_sides``: those who are watched are connected nowhere, otherwise they are the other viewers. ``compiled``: as
    it is deployed, from its wheel.
    """

    name: str = "nearby"
    compiled: bool = True
    two_sides: bool = True
    environ: Mapping[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def running(self, users: int) -> AsyncIterator[Running]:
        """Start a stack, with twice as many people if they have two sides."""
        environ = dict(self.environ)
        if self.compiled:
            environ["PYTHONPATH"] = str(await asyncio.to_thread(compiled_wheel))
        step = 2 if self.two_sides else 1
        async with scene(step * users, FRIENDS, environ, two_sides=self.two_sides) as stage:

            async def kill_shard() -> None:
                pid = stage.stack.kill("shard-1")
                pin(await stage.stack.restarted("shard-1", pid), split_cores()[1])

            yield Running(
                self.name,
                stage.pid,
                stage.port,
                users,
                stage.clients(range(0, step * users, step)),
                MARKS,
                stage.stack.shard_urls["shard-1"],
                lambda user: stage.town.record(step * user + step - 1),
                kill_shard,
                stage,
            )


@dataclass(frozen=True, slots=True)
class Reference:
    """A server of somebody else's making, which relays what is published on a Valkey of its own.

    One in ``every`` of its users is connected.
    """

    target: Target
    every: int = 1

    @property
    def name(self) -> str:
        """What the table calls it."""
        return self.target.name

    @asynccontextmanager
    async def running(self, users: int) -> AsyncIterator[Running]:
        """Start it and its Valkey."""
        target = self.target
        await asyncio.to_thread(target.prepare)
        core, others = split_cores()
        port, redis_port = free_port(), free_port()
        valkey = ValkeyServer("--port", str(redis_port), "--client-output-buffer-limit", "pubsub 0 0 0")
        valkey.start()
        try:
            pin(valkey.pid, others)
            process = await asyncio.create_subprocess_exec(
                *target.argv(port, redis_port, self.every * users), stdout=asyncio.subprocess.PIPE
            )
            try:
                assert process.stdout is not None
                async with asyncio.timeout(START_TIMEOUT_S):
                    while (line := await process.stdout.readline()).strip() != b"ready":
                        if not line:
                            raise RuntimeError(f"{target.name} ended before it was ready")
                pin(process.pid, core)
                clients = [
                    Client(upgrade_request(target.path(user), target.headers), target.hello(user, users), REPORT)
                    for user in range(0, self.every * users, self.every)
                ]
                ping, pong = target.ping or (b"", b"")
                marks = Marks(target.marker, target.subscribed, ping, pong)

                async def kill_valkey() -> None:
                    valkey.kill()
                    valkey.start()
                    pin(valkey.pid, others)

                yield Running(target.name, process.pid, port, users, clients, marks, valkey.url, entry, kill_valkey)
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()
        finally:
            valkey.stop()


def entry(user: int) -> tuple[bytes, bytes]:
    """Return the channel of a person, and an entry as long as one of ours, as of now."""
    fields = {
        "user_id": f"8c1d0a4e-55d2-4c9e-9d0b-{user:012}",
        "lat": 41.8781,
        "lon": -87.6298,
        "updated_at_ms": time.time_ns() // 1_000_000,
        "precision": "exact",
        "distance_m": 590,
    }
    return channel(user).encode(), json.dumps(fields, separators=(",", ":")).encode()
