"""The keeper's own look at the servers: one probed connection to each shard and each spare, as members have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from nearby.ports import RingState
from pubsub_router.shard import Shard

DOWN_AFTER_S = 3.0
"""A server that has not answered for this long is unreachable; a restart within it goes unnoticed."""
ANSWER_TIMEOUT_S = 2.0


class Probes:
    """Keeps the connections up. An async context manager; call :meth:`follow` with each ring."""

    def __init__(self, *, member: str, probe_interval_s: float, down_after_s: float = DOWN_AFTER_S) -> None:
        self._member = member
        self._probe_interval_s = probe_interval_s
        self._down_after_s = down_after_s
        self._shards: dict[str, Shard] = {}  # by address
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._running.values():
            task.cancel()
        await self._tasks.__aexit__(kind, error, traceback)

    def follow(self, ring: RingState) -> None:
        """Probe the servers of ``ring``, its spares among them, and no others."""
        names = addresses_of(ring)
        for address in self._shards.keys() - names.keys():
            self._running.pop(address).cancel()
            del self._shards[address]
        for address, name in names.items():
            if address not in self._shards:
                self._start(address, name)

    def unreachable(self, nodes: Mapping[str, str]) -> frozenset[str]:
        """Return the slots of ``nodes`` that have not answered for the last few seconds."""
        long_ago_s = asyncio.get_running_loop().time() - self._down_after_s
        return frozenset(slot for slot, address in nodes.items() if self._is_down_since(address, long_ago_s))

    def answering(self, addresses: Iterable[str]) -> frozenset[str]:
        """Return those of ``addresses`` that answer now."""
        return frozenset(
            address for address in addresses if address in self._shards and self._shards[address].connected
        )

    def _is_down_since(self, address: str, long_ago_s: float) -> bool:
        shard = self._shards.get(address)
        return shard is not None and shard.down_since_s is not None and shard.down_since_s <= long_ago_s

    def _start(self, address: str, name: str) -> None:
        shard = Shard(name, address, _Deaf(), member=self._member, probe_interval_s=self._probe_interval_s)
        self._shards[address] = shard
        self._running[address] = self._tasks.create_task(shard.run(), name=f"probe {name}")


class _Deaf:
    """The listener of a connection that is subscribed to nothing but its own probe."""

    def on_message(self, channel: bytes, payload: bytes) -> None:
        """Take nothing."""

    def on_burst_end(self) -> None:
        """Flush nothing."""

    def on_gap(self, channels: Sequence[bytes]) -> None:
        """Miss nothing."""


def addresses_of(ring: RingState) -> dict[str, str]:
    """Return every address of ``ring`` with its slot, or ``spare`` for a spare."""
    spares = dict.fromkeys(ring.spares, "spare")
    rings = (ring.previous or {}, ring.pending or {}, ring.nodes)
    return spares | {address: slot for nodes in rings for slot, address in nodes.items()}


async def why_unusable(address: str) -> str:
    """Ask the server at ``address`` for PONG; return why it cannot be used, empty if it can."""
    parts = urlsplit(address)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            if parts.scheme == "unix":
                reader, writer = await asyncio.open_unix_connection(parts.path)
            else:
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(b"PING\r\n")
                answer = (await reader.readline()).decode(errors="replace").strip()
            finally:
                writer.close()
    except TimeoutError:
        return f"{address} does not answer PING within {ANSWER_TIMEOUT_S:g} s"
    except (OSError, ValueError) as error:
        return f"{address} does not answer: {error}"
    return "" if answer == "+PONG" else f"{address} answers PING by {answer[:80]!r}, not as a Redis server"
