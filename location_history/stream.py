"""The history streams on Redis or Valkey servers, as those use them who append.

Users are spread over a number of streams, and the streams over the servers. Entries are deleted once they are
acknowledged, so a stream's length is what still waits to be stored. ``history:N:stored`` counts the acknowledged ones
of stream N; an entry that is neither acknowledged nor in the stream was lost to the stream's bounds. ``entries.py``
tells what an entry looks like, ``fences.py`` how deletions hold, and ``consumer.py`` is the other end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from location_history.entries import FIELD, RawEntry, decode, encode, stream_key, stream_of
from location_history.fences import FENCE_KEPT_MS, FENCE_SCRIPT, fence_key, is_behind
from location_history.redis_calls import answering, client
from nearby.errors import StoreUnavailable
from nearby.model import HistoryPoint, UserId
from nearby.ports import HistoryFence

_log = logging.getLogger(__name__)

SCAN_COUNT = 1_000
"""Entries per look at what lies behind a fence."""
_DISK_TIMEOUT_MS = 1_800
"""An append-only file is written out every second; below the socket time-out."""


@asynccontextmanager
async def open_stream(urls: str, max_entries: int, streams_count: int = 1) -> AsyncIterator[RedisHistoryStream]:
    """Yield the producer's side of ``streams_count`` streams at ``urls``, which all processes must spell alike.

    Each URL is as in :mod:`nearby.redis_address`, not a Cluster's; several are separated by spaces. Beyond about
    ``max_entries`` in all (a server trims in blocks of 100) the oldest entries of the fullest streams are dropped.
    """
    async with AsyncExitStack() as closing:
        servers = []
        for url in urls.split():
            server = client(url)
            closing.push_async_callback(server.aclose)
            servers.append(server)
        yield RedisHistoryStream(servers, max_entries, streams_count)


class RedisHistoryStream:
    """The port ``HistoryStream``. A call takes :data:`redis_topology.answering.CALL_TIMEOUT_S` at most.

    ``appended_count`` counts the points that servers took.
    """

    def __init__(self, servers: Sequence[Redis], max_entries: int, streams_count: int) -> None:
        self._servers = servers
        self._max_entries = -(-max_entries // streams_count)
        self._streams_count = streams_count
        self._without_disk: set[Redis] = set()
        self.appended_count = 0

    async def append_many(self, points: Sequence[HistoryPoint], *, durable: bool = False) -> None:
        """Append ``points``, those of one user in their order; ``durable`` waits for the servers' disks.

        A server that is set up without a disk is not waited for.

        Raises:
            StoreUnavailable: some, all or none were appended. Appending again is safe.
            RecordError: a field of a point does not fit its place; nothing was appended.
        """
        if not points:
            return
        by_server: dict[Redis, list[tuple[str, bytes]]] = {}
        for point in points:
            number = stream_of(point.user_id, self._streams_count)
            entries = by_server.setdefault(self._server(number), [])
            entries.append((stream_key(number), encode(point)))
        if len(by_server) == 1:
            [(server, entries)] = by_server.items()
            await self._append(server, entries, durable)
            return
        results = await asyncio.gather(
            *(self._append(server, entries, durable) for server, entries in by_server.items()), return_exceptions=True
        )
        for result in results:
            if result is not None:
                raise result

    async def fence(self, user_id: UserId, from_ms: int, to_ms: int, lasting_s: float = 0) -> HistoryFence:
        """Put up a fence now; what is appended during the next ``lasting_s`` seconds lies behind it, too.

        Raises:
            StoreUnavailable: whether it stands is not known. Putting up another is safe.
        """
        number = stream_of(user_id, self._streams_count)
        keys = fence_key(user_id), stream_key(number)
        arguments = [str(value) for value in (from_ms, to_ms, round(lasting_s * 1000), FENCE_KEPT_MS)]
        async with answering():
            at_ms, until_ms = await self._server(number).eval(FENCE_SCRIPT, 2, *keys, *arguments)
        return HistoryFence(user_id, from_ms, to_ms, at_ms, until_ms)

    async def passed(self, fence: HistoryFence) -> bool:
        """Whether nothing appended before ``fence.at_ms`` that lies behind ``fence`` waits in the stream any more.

        Entries that this process cannot read count as not there: the newer process that can drops them.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        number = stream_of(fence.user_id, self._streams_count)
        after = b"-"
        last = f"({fence.at_ms}-0"
        while True:
            async with answering():
                reply = await self._server(number).xrange(stream_key(number), min=after, max=last, count=SCAN_COUNT)
            found = cast(list[RawEntry], reply)
            entries = (decode(entry_id, fields) for entry_id, fields in found if fields is not None)
            if any(entry is not None and is_behind(entry.point, fence) for entry in entries):
                return False
            if len(found) < SCAN_COUNT:
                return True
            after = b"(" + found[-1][0]

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        for server in self._servers:
            await server.aclose()

    def _server(self, number: int) -> Redis:
        return self._servers[number % len(self._servers)]

    async def _append(self, server: Redis, entries: Sequence[tuple[str, bytes]], durable: bool) -> None:
        async with answering(), server.pipeline(transaction=False) as pipeline:
            for key, value in entries:
                pipeline.execute_command("XADD", key, "MAXLEN", "~", self._max_entries, "*", FIELD, value)
            if durable and server not in self._without_disk:
                pipeline.execute_command("WAITAOF", 1, 0, _DISK_TIMEOUT_MS)
            replies = await pipeline.execute(raise_on_error=False)
        self._check(server, replies[: len(entries)], replies[len(entries) :])

    def _check(self, server: Redis, appended: Sequence[object], on_disk: Sequence[object]) -> None:
        for reply in appended:
            if isinstance(reply, Exception):
                raise StoreUnavailable("history_stream", f"{type(reply).__name__}: {reply}") from reply
        self.appended_count += len(appended)
        for reply in on_disk:
            if isinstance(reply, ResponseError):
                # No append-only file, or a server older than the command: whoever runs it chose so.
                self._without_disk.add(server)
                _log.warning("acknowledged batches may not survive the history stream's server: %s", reply)
            elif isinstance(reply, Exception) or not cast(list[int], reply)[0]:
                raise StoreUnavailable("history_stream", "not on disk in time")
