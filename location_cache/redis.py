"""The location cache on one Redis or Valkey server: a packed record per user under ``loc:USER``, with a TTL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from nearby.errors import RecordError, StoreUnavailable
from nearby.model import UserId
from nearby.ports import CachedLocation, WriteResult
from nearby.record import FORMAT, SIZE_BYTES, LocationRecord, pack, unpack

SOCKET_TIMEOUT_S = 2.0
CALL_TIMEOUT_S = 3.0
"""The bound of a whole call, connecting included; a frozen server is told from a slow one by nothing else."""
MAX_CONNECTIONS = 16
"""Calls beyond this many wait for a connection, for :data:`SOCKET_TIMEOUT_S` at most."""
ERASED = b"erased"
"""In place of a record: the user is erased, and while this stands nothing is written. Of another size than a record."""
WRITE_CHUNK = 128
"""Entries per run of the script: about 0.3 ms, in which the server serves nobody else."""
READ_CHUNK = 256
"""Keys per run of the other script, for the same reason."""

# KEYS: cache keys. ARGV[1]: TTL in milliseconds; ARGV[2..]: the packed record of each key.
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
  local recorded_at = struct.unpack('<i8', record, 11)
  local accepted = stored ~= '{ERASED.decode()}' and (not stored_at or recorded_at > stored_at)
  if accepted then
    version = math.max(version + 1, clock_us)
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


_Chunk = tuple[list[bytes], list[bytes | int]]
"""The keys and arguments of one run of a script."""


@dataclass(slots=True)
class _Script:
    source: str
    sha: str = ""


@asynccontextmanager
async def open_cache(url: str, ttl_s: float) -> AsyncIterator[RedisLocationCache]:
    """Yield the location cache at ``url`` (``redis://``, ``rediss://`` or ``unix://``).

    Entries live for ``ttl_s`` seconds after the last accepted write. Opening connects to nothing yet.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=SOCKET_TIMEOUT_S,
        protocol=3,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        # An outage is told at once: the gateway has its own way to live with it.
        retry=Retry(NoBackoff(), 0),
        driver_info=None,  # naming the client to the server looks its version up on disk
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    async with aclosing(RedisLocationCache(Redis.from_pool(pool), ttl_s)) as cache:
        yield cache


class RedisLocationCache:
    """The port ``LocationCache``. ``unreadable_count`` counts stored values that were not location records.

    A call takes :data:`CALL_TIMEOUT_S` at most.
    """

    def __init__(self, client: Redis, ttl_s: float) -> None:
        self.unreadable_count = 0
        self._client = client
        self._ttl_ms = round(ttl_s * 1000)
        self._write_script = _Script(_WRITE_SCRIPT)
        self._read_script = _Script(_READ_SCRIPT)

    async def write_many(self, entries: Sequence[tuple[UserId, LocationRecord]]) -> list[WriteResult]:
        """Store each record unless one as recent is known; return the results in the same order.

        Raises:
            StoreUnavailable: some, all or none were written. Writing again is safe.
            RecordError: a field of a record does not fit its place; nothing was written.
        """
        chunks: list[_Chunk] = [
            (
                [_key(user_id) for user_id, _ in entries[start : start + WRITE_CHUNK]],
                [self._ttl_ms, *(pack(record) for _, record in entries[start : start + WRITE_CHUNK])],
            )
            for start in range(0, len(entries), WRITE_CHUNK)
        ]
        async with _answering():
            replies = await self._run(self._write_script, chunks)
        return [
            WriteResult(version, bool(accepted))
            for reply in replies
            for version, accepted in zip(reply[::2], reply[1::2], strict=True)
        ]

    async def read_many(self, user_ids: Sequence[UserId]) -> list[CachedLocation | None]:
        """Return what is known of ``user_ids`` in the same order; ``None`` where there is nothing we can read.

        What remains to each entry is by the server's clock.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        chunks: list[_Chunk] = [
            ([_key(user_id) for user_id in user_ids[start : start + READ_CHUNK]], [])
            for start in range(0, len(user_ids), READ_CHUNK)
        ]
        async with _answering():
            replies = await self._run(self._read_script, chunks)
        return [
            self._cached(value, remaining_ms)
            for reply in replies
            for value, remaining_ms in zip(reply[::2], reply[1::2], strict=True)
        ]

    async def erase(self, user_id: UserId, fence_s: float) -> None:
        """Forget ``user_id``, and refuse what is written of them during the next ``fence_s`` seconds.

        Raises:
            StoreUnavailable: whether that happened is not known. Erasing again is safe.
        """
        async with _answering():
            await self._client.set(_key(user_id), ERASED, px=round(fence_s * 1000))

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        await self._client.aclose()

    async def _run(self, script: _Script, chunks: Sequence[_Chunk]) -> list[list[Any]]:
        """Run ``script`` on each chunk of keys and arguments; return the answers in order.

        It is loaded where the server does not know it, as after a restart.
        """
        replies: dict[int, list[Any]] = {}
        while len(replies) < len(chunks):
            if not script.sha:
                script.sha = await self._client.script_load(script.source)
            missing = [index for index in range(len(chunks)) if index not in replies]
            async with self._client.pipeline(transaction=False) as pipeline:
                for index in missing:
                    keys, arguments = chunks[index]
                    pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
                answers = await pipeline.execute(raise_on_error=False)
            for index, answer in zip(missing, answers, strict=True):
                if isinstance(answer, NoScriptError):
                    script.sha = ""
                elif isinstance(answer, Exception):
                    raise answer
                else:
                    replies[index] = answer
        return [replies[index] for index in range(len(chunks))]

    def _cached(self, value: bytes | None, remaining_ms: int) -> CachedLocation | None:
        if value is None or value == ERASED:
            return None
        try:
            # Less than zero: somebody else stored it without a TTL, and it counts as just renewed.
            return CachedLocation(unpack(value), remaining_ms if remaining_ms >= 0 else self._ttl_ms)
        except RecordError:
            self.unreadable_count += 1
            return None


def _key(user_id: UserId) -> bytes:
    return b"loc:" + user_id.encode()


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
        raise StoreUnavailable("location_cache", f"{type(error).__name__}: {error}") from error
    _raise_lost_cancellation(task, cancelled_before)


def _raise_lost_cancellation(task: asyncio.Task[object], cancelled_before: int) -> None:
    # The driver uses asyncio.wait_for, which before Python 3.12 loses a cancellation that meets its result
    # (bpo-42130); whoever cancelled us would wait for ever.
    if task.cancelling() > cancelled_before:
        raise asyncio.CancelledError
