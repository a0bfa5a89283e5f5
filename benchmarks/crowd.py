"""Thousands of WebSocket clients that cost next to nothing: the child process of ``crowd.c``."""

from __future__ import annotations

import asyncio
import json
import struct
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import pin
from benchmarks.references.build import c_program

ANSWER_TIMEOUT_S = 120.0
STORM_TIMEOUT_S = 700.0
_SETTLED_S = 0.3


@dataclass(frozen=True, slots=True)
class Client:
    """One client: its upgrade request, the messages it sends when that is answered, what it reports when told to."""

    request: bytes
    hello: Sequence[bytes] = ()
    report: bytes = b""


@dataclass(frozen=True, slots=True)
class Marks:
    """What the crowd looks for in what it receives.

    ``delivery`` occurs once per delivery, ``ready`` in the message that makes a client ready (``b""``: the upgrade
    does); ``ping`` is a message that ``pong`` answers, where the server has such.
    """

    delivery: bytes
    ready: bytes = b""
    ping: bytes = b""
    pong: bytes = b""


@dataclass(frozen=True, slots=True)
class Counts:
    """What came in since the last reset; latencies from the time that a delivery carries, whole milliseconds."""

    frames: int
    bytes: int
    deliveries: int
    closes: int
    ready: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Connected:
    """How connecting went: ``mean_s`` from a client's first packet until it was ready."""

    ready: int
    failed: int
    seconds: float
    mean_s: float


@dataclass(frozen=True, slots=True)
class Storm:
    """How everybody came back: ``most_per_s`` is how many were accepted in the busiest second."""

    ready: int
    seconds: float
    most_per_s: int


class Crowd:
    """The running process; its commands are described in ``crowd.c``."""

    def __init__(self, process: asyncio.subprocess.Process, size: int) -> None:
        self.size = size
        self._process = process

    async def ask(self, command: str, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """Send ``command`` and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command.encode() + b"\n")
        async with asyncio.timeout(timeout_s):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the crowd ended at the command {command!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def connect(self, at_once: int = 64) -> Connected:
        """Connect everybody, ``at_once`` at a time, 0 for all together.

        Raises:
            RuntimeError: not all were ready in the end.
        """
        connected = Connected(**await self.ask(f"connect {at_once}"))
        if connected.ready < self.size:
            raise RuntimeError(f"{connected.ready} of {self.size} clients are ready, {connected.failed} were refused")
        return connected

    async def storm(self) -> Storm:
        """Reset every connection at once, and let all come back as clients do.

        Raises:
            RuntimeError: not all were back in the end.
        """
        storm = Storm(**await self.ask("storm", STORM_TIMEOUT_S))
        if storm.ready < self.size:
            raise RuntimeError(f"{storm.ready} of {self.size} clients are back")
        return storm

    async def settled(self) -> None:
        """Return when nothing has come in for a while: what was on its way is here."""
        before = -1
        while (now := (await self.counts()).frames) != before:
            before = now
            await asyncio.sleep(_SETTLED_S)

    async def counts(self) -> Counts:
        """Return what came in since the last reset."""
        return Counts(**await self.ask("stats"))


@asynccontextmanager
async def crowd(port: int, clients: Sequence[Client], marks: Marks, cores: set[int]) -> AsyncIterator[Crowd]:
    """Start a crowd for the server at ``port`` of this machine, on ``cores``; nobody is connected yet."""
    program = await asyncio.to_thread(c_program, Path(__file__).with_name("crowd.c"))
    with tempfile.NamedTemporaryFile(prefix="crowd-") as file:
        file.write(b"".join(_texts(clients)))
        file.flush()
        words = (marks.delivery, marks.ready, marks.ping, marks.pong)
        process = await asyncio.create_subprocess_exec(
            *(program, "127.0.0.1", str(port), file.name, *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            pin(process.pid, cores)
            one = Crowd(process, len(clients))
            await one.ask("reset")  # so that the file has been read
            yield one
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def _texts(clients: Iterable[Client]) -> Iterator[bytes]:
    for client in clients:
        for text in (client.request, b"".join(map(_sized, client.hello)), client.report):
            yield _sized(text)


def _sized(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


def messages(recorded: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each message that a crowd wrote to the file ``recorded``, with the number of its client."""
    data = recorded.read_bytes()
    at = 0
    while at < len(data):
        client, size = struct.unpack_from("<II", data, at)
        yield client, data[at + 8 : at + 8 + size]
        at += 8 + size
