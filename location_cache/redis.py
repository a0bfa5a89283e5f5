"""The location cache on Redis or Valkey servers: a packed record per user, with a TTL.

On one server, and on the primary that Sentinels name, the key is ``loc:USER``. In a Cluster it is ``loc:{TAG}USER``
(see ``placement.py``).
"""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from location_cache.placement import Placement, clustered, together
from nearby.errors import RecordError
from nearby.model import UserId
from nearby.ports import CachedLocation, WriteResult
from nearby.record import FORMAT, SIZE_BYTES, LocationRecord, pack, unpack
from nearby.redis_address import parse
from redis_topology.answering import answering
from redis_topology.connect import open_servers
from redis_topology.scripts import Chunk, Script, run
from redis_topology.servers import Command, Servers

ERASED = b"erased"
"""In place of a record: the user is erased, and while this stands nothing is written. Of another size than a record."""
STORE = "location_cache"
WRITE_CHUNK = 128
"""Entries per run of the script: about 0.3 ms, in which the server serves nobody else."""
READ_CHUNK = 256
"""Keys per run of the other script, for the same reason."""

# KEYS: cache keys. ARGV[1]: TTL in milliseconds; ARGV[2..]: the packed record of each key, under the newest version
# that its writer has heard of.
# Returns (version in force, 1 if accepted else 0) per key, in order. A stored value of another size or
# format is overwritten. Lua numbers are exact to 2^53: microseconds until the year 2255.
_WRITE_SCRIPT = f"""
local time = redis.call('TIME')
local clock_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local results = {{}}
for i, key in ipairs(KEYS) do
  local record = ARGV[i + 1]
  local stored = redis.call('GET', key)
  local version, stored_at = 0, nil
  if stored and #stored == {SIZE_BYTES} and string.byte(stored) == {FORMAT} then
    version, stored_at = struct.unpack('<i8i8', stored, 3)
  end
  local heard_of, recorded_at = struct.unpack('<i8i8', record, 3)
  local accepted = stored ~= '{ERASED.decode()}' and (not stored_at or recorded_at > stored_at)
  if accepted then
    version = math.max(version + 1, clock_us, heard_of + 1)
    redis.call('SET', key, string.sub(record, 1, 2) .. struct.pack('<i8', version) .. string.sub(record, 11),
      'PX', ARGV[1])
  end
  results[#results + 1] = version
  results[#results + 1] = accepted and 1 or 0
end
return results
"""

# KEYS: cache keys. Returns (value or nil, PTTL) per key, in order, both of one instant.
_READ_SCRIPT = """
local results = {}
for i, key in ipairs(KEYS) do
  results[2 * i - 1] = redis.call('GET', key)
  results[2 * i] = redis.call('PTTL', key)
end
return results
"""


_NO_RESULT = WriteResult(0, accepted=False)


@asynccontextmanager
async def open_cache(url: str, ttl_s: float) -> AsyncIterator[RedisLocationCache]:
    """Yield the location cache at ``url`` (see :mod:`nearby.redis_address`).

    Entries live for ``ttl_s`` seconds after the last accepted write. Opening connects to nothing yet.

    Raises:
        ValueError: ``url`` is no such address.
    """
    async with aclosing(RedisLocationCache(open_servers(parse(url)), ttl_s)) as cache:
        yield cache


class RedisLocationCache:
    """The port ``LocationCache``. ``unreadable_count`` counts stored values that were not location records.

    A call takes :data:`redis_topology.answering.CALL_TIMEOUT_S` at most.
    """

    def __init__(self, servers: Servers, ttl_s: float) -> None:
        self.unreadable_count = 0
        self._servers = servers
        self._place: Placement = clustered if servers.clustered else together
        self._ttl_ms = round(ttl_s * 1000)
        self._write_script = Script.of(_WRITE_SCRIPT)
        self._read_script = Script.of(_READ_SCRIPT)

    async def write_many(self, entries: Sequence[tuple[UserId, LocationRecord]]) -> list[WriteResult]:
        """Store each record unless one as recent is known; return the results in the same order.

        Raises:
            StoreUnavailable: some, all or none were written. Writing again is safe.
            RecordError: a field of a record does not fit its place; nothing was written.
        """
        groups = self._place([user_id for user_id, _ in entries], WRITE_CHUNK)
        chunks = [
            Chunk(group.keys, [self._ttl_ms, *(pack(entries[position][1]) for position in group.positions)])
            for group in groups
        ]
        async with answering(STORE):
            replies = await run(self._servers, self._write_script, chunks)
        results: list[WriteResult] = [_NO_RESULT] * len(entries)
        for group, reply in zip(groups, replies, strict=True):
            for position, version, accepted in zip(group.positions, reply[::2], reply[1::2], strict=True):
                results[position] = WriteResult(version, bool(accepted))
        return results

    async def read_many(self, user_ids: Sequence[UserId]) -> list[CachedLocation | None]:
        """Return what is known of ``user_ids`` in the same order; ``None`` where there is nothing we can read.

        What remains to each entry is by the server's clock.

        Raises:
            StoreUnavailable: a server did not answer.
        """
        groups = self._place(user_ids, READ_CHUNK)
        async with answering(STORE):
            replies = await run(self._servers, self._read_script, [Chunk(group.keys) for group in groups])
        found: list[CachedLocation | None] = [None] * len(user_ids)
        for group, reply in zip(groups, replies, strict=True):
            for position, value, remaining_ms in zip(group.positions, reply[::2], reply[1::2], strict=True):
                found[position] = self._cached(value, remaining_ms)
        return found

    async def now_ms(self) -> int:
        """Return the cache's clock, Unix milliseconds; in a Cluster the median of the primaries'.

        Raises:
            StoreUnavailable: no server answered.
        """
        async with answering(STORE):
            return int(statistics.median_low(await self._servers.times_us())) // 1000

    async def erase(self, user_id: UserId, fence_s: float) -> None:
        """Forget ``user_id``, and refuse what is written of them during the next ``fence_s`` seconds.

        Raises:
            StoreUnavailable: whether that happened is not known. Erasing again is safe.
        """
        [group] = self._place([user_id], 1)
        command = Command(group.keys[0], (b"SET", group.keys[0], ERASED, b"PX", round(fence_s * 1000)))
        async with answering(STORE):
            [answer] = await self._servers.execute([command])
            if isinstance(answer, Exception):
                raise answer

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        await self._servers.aclose()

    def _cached(self, value: bytes | None, remaining_ms: int) -> CachedLocation | None:
        if value is None or value == ERASED:
            return None
        try:
            # Less than zero: somebody else stored it without a TTL, and it counts as just renewed.
            return CachedLocation(unpack(value), remaining_ms if remaining_ms >= 0 else self._ttl_ms)
        except RecordError:
            self.unreadable_count += 1
            return None
