"""The history stream on one Redis or Valkey server, and its consumers.

An entry holds one point: ``u`` the user's id, ``r`` the packed location record, ``f`` 1 if flagged, and ``t`` the
seconds for which the user wants it kept, where that is not the default. Entries are deleted once they are acknowledged,
so the stream's length is what still waits to be stored. ``history:stored`` counts the acknowledged ones; an entry that
is neither acknowledged nor in the stream was lost to the stream's bound. ``fences.py`` tells the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig
from redis.typing import EncodableT

from location_history.fences import FENCE_KEPT_MS, FENCE_SCRIPT, fence_key, is_behind, parse_fences
from nearby.errors import RecordError, StoreUnavailable
from nearby.model import HistoryPoint, UserId
from nearby.ports import HistoryFence
from nearby.record import LocationRecord, pack, unpack

_log = logging.getLogger(__name__)

STREAM = "history"
STORED = "history:stored"
GROUP = "writers"

SOCKET_TIMEOUT_S = 2.0
CALL_TIMEOUT_S = 3.0
"""The bound of a whole call, connecting included."""
_DISK_TIMEOUT_MS = 1_800
"""An append-only file is written out every second; below the socket time-out."""
MAX_CONNECTIONS = 16
BLOCK_MS = 1_000
"""How long a read waits for new entries; below the socket time-out, or a quiet stream would look frozen."""
SCAN_COUNT = 1_000
"""Entries per look at what lies behind a fence."""
CLAIM_AFTER_S = 15.0
"""A consumer that has sat on an entry for this long is taken for dead. If it lives after all, an entry is
stored twice, which changes nothing."""

# One step, because a writer that dies between the parts would make stored points look lost.
_ACKNOWLEDGE_SCRIPT = """
local count = redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
redis.call('INCRBY', KEYS[2], count)
return count
"""

_Entry = tuple[bytes, Mapping[bytes, bytes]]
"""An entry as the driver returns it: its id and its fields, none if it was trimmed meanwhile."""


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One point that waits to be stored, under its id in the stream."""

    entry_id: bytes
    point: HistoryPoint


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the stream: how many entries, the age of the oldest, and how many were lost to its bound."""

    entries_count: int
    oldest_s: float
    lost_count: int


@asynccontextmanager
async def open_stream(url: str, max_entries: int) -> AsyncIterator[RedisHistoryStream]:
    """Yield the producer's side of the stream at ``url`` (``redis://``, ``rediss://`` or ``unix://``).

    Beyond about ``max_entries`` (the server trims in blocks of 100) the oldest entries are dropped.
    """
    async with aclosing(RedisHistoryStream(_client(url), max_entries)) as stream:
        yield stream


@asynccontextmanager
async def open_consumer(
    url: str, consumer_id: str, claim_after_s: float = CLAIM_AFTER_S
) -> AsyncIterator[RedisHistoryConsumer]:
    """Yield the consumer ``consumer_id`` of the stream at ``url``; ids of live consumers are unique.

    Entries that another consumer has held for ``claim_after_s`` seconds are taken from it.
    """
    async with aclosing(RedisHistoryConsumer(_client(url), consumer_id, claim_after_s)) as consumer:
        yield consumer


class RedisHistoryStream:
    """The port ``HistoryStream``. A call takes :data:`CALL_TIMEOUT_S` at most."""

    def __init__(self, client: Redis, max_entries: int) -> None:
        self._client = client
        self._max_entries = max_entries
        self._has_disk = True

    async def append_many(self, points: Sequence[HistoryPoint], *, durable: bool = False) -> None:
        """Append ``points`` in their order; ``durable`` waits for the server's disk, if it has one.

        Raises:
            StoreUnavailable: some, all or none were appended. Appending again is safe.
            RecordError: a field of a point does not fit its place; nothing was appended.
        """
        if not points:
            return
        entries = [_fields(point) for point in points]
        async with _answering(), self._client.pipeline(transaction=False) as pipeline:
            for fields in entries:
                pipeline.xadd(STREAM, fields, maxlen=self._max_entries, approximate=True)
            if durable and self._has_disk:
                pipeline.execute_command("WAITAOF", 1, 0, _DISK_TIMEOUT_MS)
            replies = await pipeline.execute(raise_on_error=False)
        self._check(replies[: len(entries)], replies[len(entries) :])

    async def fence(self, user_id: UserId, from_ms: int, to_ms: int, lasting_s: float = 0) -> HistoryFence:
        """Put up a fence now; what is appended during the next ``lasting_s`` seconds lies behind it, too.

        Raises:
            StoreUnavailable: whether it stands is not known. Putting up another is safe.
        """
        arguments = [str(number) for number in (from_ms, to_ms, round(lasting_s * 1000), FENCE_KEPT_MS)]
        async with _answering():
            at_ms, until_ms = await self._client.eval(FENCE_SCRIPT, 2, fence_key(user_id), STREAM, *arguments)
        return HistoryFence(user_id, from_ms, to_ms, at_ms, until_ms)

    async def passed(self, fence: HistoryFence) -> bool:
        """Whether nothing appended before ``fence.at_ms`` that lies behind ``fence`` waits in the stream any more.

        Entries that this process cannot read count as not there: the newer process that can drops them.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        after = b"-"
        last = f"({fence.at_ms}-0"
        while True:
            async with _answering():
                reply = await self._client.xrange(STREAM, min=after, max=last, count=SCAN_COUNT)
            found = cast(list[_Entry], reply)
            if any(is_behind(entry.point, fence) for entry in _readable(found)):
                return False
            if len(found) < SCAN_COUNT:
                return True
            after = b"(" + found[-1][0]

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        await self._client.aclose()

    def _check(self, appended: Sequence[object], on_disk: Sequence[object]) -> None:
        for reply in appended:
            if isinstance(reply, Exception):
                raise StoreUnavailable("history_stream", f"{type(reply).__name__}: {reply}") from reply
        for reply in on_disk:
            if isinstance(reply, ResponseError):
                # No append-only file, or a server older than the command: whoever runs it chose so.
                self._has_disk = False
                _log.warning("acknowledged batches may not survive the history stream's server: %s", reply)
            elif not cast(list[int], reply)[0]:
                raise StoreUnavailable("history_stream", "not on disk in time")


class RedisHistoryConsumer:
    """One member of the consumer group. For one task at a time.

    What is read stays this consumer's until acknowledged, and is read again after an error, after a restart
    under the same id, or by another consumer. ``unreadable_count`` counts entries that are no points of ours:
    they stay in the stream, since a newer process of a rolling upgrade may know them.
    """

    def __init__(self, client: Redis, consumer_id: str, claim_after_s: float) -> None:
        self.unreadable_count = 0
        self._client = client
        self._consumer_id = consumer_id
        self._claim_after_ms = round(claim_after_s * 1000)
        self._claim_cursor: bytes = b"0-0"
        self._next_claim_s = 0.0
        # Where to go on among the entries that are ours already; None once there are none left.
        self._own_cursor: bytes | None = b"0"

    async def read(self, limit: int) -> list[StreamEntry]:
        """Return up to ``limit`` entries: our own unfinished ones, then those of the dead, then new ones.

        Waits :data:`BLOCK_MS` for new ones; an empty list means only that it is time to look again.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        try:
            async with _answering():
                return await self._next(limit)
        except StoreUnavailable:
            # An answer that was lost on its way may have made entries ours.
            self._own_cursor = b"0"
            raise

    async def acknowledge(self, entries: Sequence[StreamEntry]) -> None:
        """Remove ``entries`` from the stream: they are stored.

        Raises:
            StoreUnavailable: whether they were removed is not known; they may be read again.
        """
        if not entries:
            return
        ids = [entry.entry_id for entry in entries]
        try:
            async with _answering():
                await self._client.eval(_ACKNOWLEDGE_SCRIPT, 2, STREAM, STORED, GROUP, *ids)
        except StoreUnavailable:
            self._own_cursor = b"0"
            raise

    async def fences(self, user_ids: Collection[UserId]) -> dict[UserId, list[HistoryFence]]:
        """Return the fences that stand for ``user_ids``; users without one are left out.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        users = list(user_ids)
        if not users:
            return {}
        try:
            async with _answering():
                values = await self._client.mget([fence_key(user_id) for user_id in users])
        except StoreUnavailable:
            # Whoever asks gives up the entries in hand, which are then to be read again.
            self._own_cursor = b"0"
            raise
        texts = cast(list[bytes | None], values)
        standing = {user_id: parse_fences(user_id, text) for user_id, text in zip(users, texts, strict=True)}
        return {user_id: fences for user_id, fences in standing.items() if fences}

    async def backlog(self) -> Backlog:
        """Return what waits in the stream now, by the server's clock.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        async with _answering():
            if not await self._client.exists(STREAM):
                return Backlog(0, 0.0, 0)
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.xinfo_stream(STREAM)
                pipeline.get(STORED)
                pipeline.time()
                info, stored, (now_s, now_us) = await pipeline.execute()
        length, first = info["length"], info["first-entry"]
        oldest_s = now_s + now_us / 1e6 - _instant_ms(first[0]) / 1000 if first else 0.0
        return Backlog(length, max(0.0, oldest_s), info["entries-added"] - int(stored or 0) - length)

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        await self._client.aclose()

    async def _next(self, limit: int) -> list[StreamEntry]:
        try:
            return await self._own(limit) or await self._claimed(limit) or await self._new(limit)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            await self._create_group()
            return []

    async def _own(self, limit: int) -> list[StreamEntry]:
        if self._own_cursor is None:
            return []
        found = await self._read_group(self._own_cursor, limit, block_ms=None)
        self._own_cursor = found[-1][0] if found else None
        return await self._entries(found)

    async def _claimed(self, limit: int) -> list[StreamEntry]:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._next_claim_s:
            return []
        self._claim_cursor, found, _ = await self._client.xautoclaim(
            STREAM, GROUP, self._consumer_id, self._claim_after_ms, self._claim_cursor, count=limit
        )
        if self._claim_cursor == b"0-0":
            self._next_claim_s = now_s + self._claim_after_ms / 1000 / 3
        return await self._entries(found)

    async def _new(self, limit: int) -> list[StreamEntry]:
        return await self._entries(await self._read_group(b">", limit, block_ms=BLOCK_MS))

    async def _read_group(self, after: bytes, limit: int, block_ms: int | None) -> list[_Entry]:
        reply = await self._client.xreadgroup(GROUP, self._consumer_id, {STREAM: after}, count=limit, block=block_ms)
        # RESP3: a map of the streams that have entries; redis-py wraps each one's entries in one more list.
        entries = cast(dict[bytes, list[list[_Entry]]], reply).get(STREAM.encode(), [[]])
        return entries[0]

    async def _entries(self, found: Sequence[_Entry]) -> list[StreamEntry]:
        trimmed = [entry_id for entry_id, fields in found if not fields]
        if trimmed:
            # Lost to the stream's bound while they were ours; nothing is left to store.
            await self._client.xack(STREAM, GROUP, *trimmed)
        entries = _readable(found)
        self.unreadable_count += len(found) - len(trimmed) - len(entries)
        return entries

    async def _create_group(self) -> None:
        try:
            await self._client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise


def _fields(point: HistoryPoint) -> dict[EncodableT, EncodableT]:
    fields: dict[EncodableT, EncodableT] = {
        "u": point.user_id,
        "r": pack(LocationRecord.of(point.location)),
        "f": b"1" if point.flagged else b"0",
    }
    if point.retention_s is not None:
        fields["t"] = str(point.retention_s)
    return fields


def _readable(found: Sequence[_Entry]) -> list[StreamEntry]:
    """Return the entries that are points of ours."""
    entries: list[StreamEntry] = []
    for entry_id, fields in found:
        if fields:
            with contextlib.suppress(RecordError, KeyError, ValueError):
                entries.append(StreamEntry(entry_id, _point(entry_id, fields)))
    return entries


def _point(entry_id: bytes, fields: Mapping[bytes, bytes]) -> HistoryPoint:
    return HistoryPoint(
        UserId(fields[b"u"].decode()),
        unpack(fields[b"r"]).location,
        fields[b"f"] == b"1",
        int(fields[b"t"]) if b"t" in fields else None,
        _instant_ms(entry_id),
    )


def _instant_ms(entry_id: bytes) -> int:
    return int(entry_id.split(b"-")[0])


def _client(url: str) -> Redis:
    return Redis.from_pool(
        BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=SOCKET_TIMEOUT_S,
            protocol=3,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            # An outage is told at once: callers have their own way to live with it.
            retry=Retry(NoBackoff(), 0),
            driver_info=None,  # naming the client to the server looks its version up on disk
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
    )


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Bound a call and turn what the driver raises into ``StoreUnavailable``."""
    task = asyncio.current_task()
    assert task is not None
    cancelled_before = task.cancelling()
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            yield
    except (RedisError, OSError) as error:
        _raise_lost_cancellation(task, cancelled_before)
        raise StoreUnavailable("history_stream", f"{type(error).__name__}: {error}") from error
    _raise_lost_cancellation(task, cancelled_before)


def _raise_lost_cancellation(task: asyncio.Task[object], cancelled_before: int) -> None:
    # The driver uses asyncio.wait_for, which before Python 3.12 loses a cancellation that meets its result
    # (bpo-42130); whoever cancelled us would wait for ever.
    if task.cancelling() > cancelled_before:
        raise asyncio.CancelledError
