"""The history streams as a history writer uses them: one consumer group per stream, one consumer per writer in each.

What a consumer is given stays its own until it is acknowledged. It is read again after an error, after a restart
under the same id, and by others once this consumer has not been heard of for a while. Being heard of means to ask for
entries, or to :meth:`~RedisHistoryConsumer.beat`: how long a live writer keeps an entry says nothing, since it may
linger or wait for its store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from location_history.entries import RawEntry, StreamEntry, decode, instant_ms, stored_key, stream_key
from location_history.fences import fence_key, parse_fences
from location_history.redis_calls import answering, client
from nearby.errors import StoreUnavailable
from nearby.model import UserId
from nearby.ports import HistoryFence

T = TypeVar("T")

GROUP = "writers"
BLOCK_MS = 1_000
"""How long a read waits for new entries; below the socket time-out, or a quiet stream would look frozen."""
CLAIM_AFTER_S = 15.0
"""A consumer not heard of for this long is taken for dead. If it lives after all, an entry is stored twice, which
changes nothing."""
FORGET_AFTER_S = 86_400
"""A dead consumer without entries is forgotten after this long."""
ACKNOWLEDGE_COUNT = 2_000
"""Ids per script: a Lua function takes some 8,000 arguments."""
_FAR_ID = b"18446744073709551615-0"
"""Beyond whatever is ours. Not the very last id, which servers take for ``>``: new entries."""

# One step, because a writer that dies between the parts would make stored points look lost.
_ACKNOWLEDGE_SCRIPT = """
local count = redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
redis.call('INCRBY', KEYS[2], count)
return count
"""

# A consumer that leaves with entries in hand would take them along, so those stay for whoever claims them.
_LEAVE_SCRIPT = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local name, pending
  for i = 1, #consumer, 2 do
    if consumer[i] == 'name' then name = consumer[i + 1] end
    if consumer[i] == 'pending' then pending = consumer[i + 1] end
  end
  if name == ARGV[2] and pending == 0 then
    return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
  end
end
return -1
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in a stream: how many entries, the age of the oldest, and how many were lost to its bounds."""

    entries_count: int
    oldest_s: float
    lost_count: int


@asynccontextmanager
async def open_consumers(
    urls: str, streams_count: int, consumer_id: str, claim_after_s: float = CLAIM_AFTER_S
) -> AsyncIterator[list[RedisHistoryConsumer]]:
    """Yield the consumer ``consumer_id`` of each stream at ``urls``, in the streams' order.

    Ids of live writers are unique. Entries of a consumer that has not been heard of for ``claim_after_s`` seconds are
    taken from it. See :func:`location_history.stream.open_stream` for ``urls``.
    """
    async with AsyncExitStack() as closing:
        servers = []
        for url in urls.split():
            # A stream takes one connection to wait for entries, one to acknowledge them and one to look around.
            server = client(url, 3 * streams_count + 1)
            closing.push_async_callback(server.aclose)
            servers.append(server)
        yield [
            RedisHistoryConsumer(servers[number % len(servers)], number, consumer_id, claim_after_s)
            for number in range(streams_count)
        ]


@asynccontextmanager
async def open_consumer(
    url: str, consumer_id: str, claim_after_s: float = CLAIM_AFTER_S
) -> AsyncIterator[RedisHistoryConsumer]:
    """Yield the consumer ``consumer_id`` of the only stream at ``url``."""
    async with open_consumers(url, 1, consumer_id, claim_after_s) as [consumer]:
        yield consumer


class RedisHistoryConsumer:
    """One member of the consumer group of stream ``number``. One task may read while another acknowledges.

    ``unreadable_count`` counts entries that are no points of ours: they stay in the stream, since a newer process of a
    rolling upgrade may know them.
    """

    def __init__(self, server: Redis, number: int, consumer_id: str, claim_after_s: float) -> None:
        self.number = number
        self.consumer_id = consumer_id
        self.claim_after_s = claim_after_s
        self.unreadable_count = 0
        self._server = server
        self._key = stream_key(number)
        self._next_claim_s = 0.0
        # Where to go on among the entries that are ours already; None once there are none left.
        self._own_cursor: bytes | None = None
        self._is_rewound = True
        self._in_hand: set[bytes] = set()

    async def read(self, limit: int) -> list[StreamEntry]:
        """Return up to ``limit`` entries: our own unfinished ones, then those of the dead, then new ones.

        What this consumer has returned already comes again only after :meth:`give_back`. Waits :data:`BLOCK_MS` for
        new entries; an empty list means only that it is time to look again.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        try:
            async with answering():
                found = await self._with_group(lambda: self._some(limit))
        except StoreUnavailable:
            # An answer that was lost on its way may have made entries ours.
            self._is_rewound = True
            raise
        return found or []

    async def acknowledge(self, entries: Sequence[StreamEntry]) -> None:
        """Remove ``entries`` from the stream: they are stored.

        Raises:
            StoreUnavailable: whether they were removed is not known. Acknowledge them again, or give them back.
        """
        for start in range(0, len(entries), ACKNOWLEDGE_COUNT):
            ids = [entry.entry_id for entry in entries[start : start + ACKNOWLEDGE_COUNT]]
            async with answering():
                await self._server.eval(_ACKNOWLEDGE_SCRIPT, 2, self._key, stored_key(self.number), GROUP, *ids)
            self._in_hand.difference_update(ids)

    def give_back(self, entries: Sequence[StreamEntry]) -> None:
        """Take notice that ``entries`` were given up: they are ours still, and to be read again."""
        self._in_hand.difference_update(entry.entry_id for entry in entries)
        self._is_rewound = True

    async def beat(self) -> None:
        """Let the others know that this consumer lives.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        async with answering():
            await self._with_group(lambda: self._read_group(_FAR_ID, 1, block_ms=None))

    async def live(self) -> list[str]:
        """Return the ids of the consumers that were heard of lately, this one among them, in order.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        async with answering():
            consumers = await self._with_group(self._consumers)
        return sorted(
            {self.consumer_id, *(each["name"].decode() for each in consumers or [] if not self._is_dead(each))}
        )

    async def leave(self) -> None:
        """Stop being a consumer, unless entries are ours still: those are claimed by others in time.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        async with answering():
            if await self._server.exists(self._key):
                await self._with_group(lambda: self._server.eval(_LEAVE_SCRIPT, 1, self._key, GROUP, self.consumer_id))

    async def fences(self, user_ids: Collection[UserId]) -> dict[UserId, list[HistoryFence]]:
        """Return the fences that stand for ``user_ids``; users without one are left out.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        users = list(user_ids)
        if not users:
            return {}
        async with answering():
            values = await self._server.mget([fence_key(user_id) for user_id in users])
        texts = cast(list[bytes | None], values)
        return {user_id: parse_fences(user_id, text) for user_id, text in zip(users, texts, strict=True) if text}

    async def trim(self, max_age_s: float) -> None:
        """Drop entries that have waited for more than about ``max_age_s`` seconds: they count as lost.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        async with answering():
            now_s, _ = await self._server.time()
            await self._server.xtrim(self._key, minid=f"{round((now_s - max_age_s) * 1000)}-0", approximate=True)

    async def backlog(self) -> Backlog:
        """Return what waits in the stream now, by the server's clock.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        async with answering():
            if not await self._server.exists(self._key):
                return Backlog(0, 0.0, 0)
            async with self._server.pipeline(transaction=True) as pipeline:
                pipeline.xinfo_stream(self._key)
                pipeline.get(stored_key(self.number))
                pipeline.time()
                info, stored, (now_s, now_us) = await pipeline.execute()
        length, first = info["length"], info["first-entry"]
        oldest_s = now_s + now_us / 1e6 - instant_ms(first[0]) / 1000 if first else 0.0
        return Backlog(length, max(0.0, oldest_s), info["entries-added"] - int(stored or 0) - length)

    async def aclose(self) -> None:
        """Close the connections, which the consumers of one writer share. Idempotent."""
        await self._server.aclose()

    async def _with_group(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return what ``ask`` returns; ``None`` if there was no group yet, which there is then."""
        try:
            return await ask()
        except ResponseError as error:
            if not str(error).startswith(("NOGROUP", "no such key")):
                raise
        try:
            await self._server.xgroup_create(self._key, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        return None

    async def _some(self, limit: int) -> list[StreamEntry]:
        return await self._own(limit) or await self._claimed(limit) or await self._new(limit)

    async def _own(self, limit: int) -> list[StreamEntry]:
        while self._is_rewound or self._own_cursor is not None:
            if self._is_rewound:
                self._own_cursor = b"0"
                self._is_rewound = False
            found = await self._read_group(self._own_cursor or b"0", limit, block_ms=None)
            self._own_cursor = found[-1][0] if found else None
            entries = await self._entries([each for each in found if each[0] not in self._in_hand])
            if entries:
                return entries
        return []

    async def _claimed(self, limit: int) -> list[StreamEntry]:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._next_claim_s:
            return []
        for consumer in await self._consumers():
            if consumer["pending"] and self._is_dead(consumer):
                found = await self._claim(consumer["name"], limit)
                if found:
                    return found
            elif consumer["idle"] > FORGET_AFTER_S * 1000:
                await self._server.eval(_LEAVE_SCRIPT, 1, self._key, GROUP, consumer["name"])
        self._next_claim_s = now_s + self.claim_after_s / 3
        return []

    async def _claim(self, consumer_id: bytes, limit: int) -> list[StreamEntry]:
        idle_ms = round(self.claim_after_s * 1000)
        pending = await self._server.xpending_range(
            self._key, GROUP, min="-", max="+", count=limit, consumername=consumer_id
        )
        ids: list[Any] = [each["message_id"] for each in pending]
        if not ids:
            return []
        # Of several who claim an entry at once the first gets it: that ends its idle time.
        found = await self._server.xclaim(self._key, GROUP, self.consumer_id, idle_ms, ids)
        return await self._entries(cast(list[RawEntry], found))

    async def _new(self, limit: int) -> list[StreamEntry]:
        return await self._entries(await self._read_group(b">", limit, block_ms=BLOCK_MS))

    async def _read_group(self, after: bytes, limit: int, block_ms: int | None) -> list[RawEntry]:
        reply = await self._server.xreadgroup(GROUP, self.consumer_id, {self._key: after}, count=limit, block=block_ms)
        # RESP3: a map of the streams that have entries.
        return cast(dict[bytes, list[RawEntry]], reply or {}).get(self._key.encode(), [])

    async def _entries(self, found: Sequence[RawEntry]) -> list[StreamEntry]:
        trimmed = [entry_id for entry_id, fields in found if not fields]
        if trimmed:
            # Lost to the stream's bounds while they were ours; nothing is left to store.
            await self._server.xack(self._key, GROUP, *trimmed)
        decoded = [decode(entry_id, fields) for entry_id, fields in found if fields]
        entries = [entry for entry in decoded if entry is not None]
        self.unreadable_count += len(decoded) - len(entries)
        self._in_hand.update(entry.entry_id for entry in entries)
        return entries

    async def _consumers(self) -> list[Mapping[str, Any]]:
        return cast(list[Mapping[str, Any]], await self._server.xinfo_consumers(self._key, GROUP))

    def _is_dead(self, consumer: Mapping[str, Any]) -> bool:
        is_other: bool = consumer["name"] != self.consumer_id.encode()
        return is_other and consumer["idle"] > self.claim_after_s * 1000
