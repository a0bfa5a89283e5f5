"""Buckets in a Redis or Valkey server, shared by all processes; each key ends by itself once its bucket is full.

Calls that come while one is on its way travel together in the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from nearby.errors import StoreUnavailable
from rate_limits.policy import Decision, Policy, decided

TIMEOUT_S = 0.25
"""How long an answer is worth waiting for; a request to the API waits that long with it."""
MAX_BATCH = 200
MAX_WAITING = 5_000
KEY_PREFIX = "rate:"

# KEYS: buckets; ARGV: interval and window of each, µs. Returns for each what the bucket then lacks to be full, µs; or,
# where the request is refused, the negative of how long to wait. The same arithmetic as `rate_limits.policy.take`.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answers = {}
for index, key in ipairs(KEYS) do
  local interval, window = tonumber(ARGV[2 * index - 1]), tonumber(ARGV[2 * index])
  local full = math.max(tonumber(redis.call('GET', key) or 0), now) + interval
  local lacking = full - now
  if lacking > window then
    answers[index] = window - lacking
  else
    redis.call('SET', key, string.format('%.0f', full), 'PX', math.ceil(lacking / 1000))
    answers[index] = lacking
  end
end
return answers
"""


class RedisBuckets:
    """Built by :func:`open_redis_buckets`."""

    def __init__(self, redis: Redis, timeout_s: float) -> None:
        self._script = redis.register_script(_TAKE)
        self._waiting: deque[tuple[Policy, str, asyncio.Future[Decision]]] = deque()
        self._wake = asyncio.Event()
        self._timeout_s = timeout_s

    async def take(self, policy: Policy, subject: str) -> Decision:
        """Take one request of ``subject``.

        Raises:
            StoreUnavailable: the server did not answer; the request may or may not have been taken.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable("rate_limits", "too many requests wait for it")
        future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._waiting.append((policy, subject, future))
        self._wake.set()
        return await future

    async def run(self) -> None:
        """Carry the waiting calls to the server, until cancelled."""
        while True:
            await self._wake.wait()
            batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            if not self._waiting:
                self._wake.clear()
            await self._carry(batch)

    async def _carry(self, batch: list[tuple[Policy, str, asyncio.Future[Decision]]]) -> None:
        keys = [f"{KEY_PREFIX}{policy.name}:{subject}" for policy, subject, _ in batch]
        arguments = [number for policy, _, _ in batch for number in _micros(policy)]
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self._script(keys, arguments)
        except (RedisError, OSError, TimeoutError) as error:
            for _, _, future in batch:
                if not future.done():
                    future.set_exception(StoreUnavailable("rate_limits", str(error) or type(error).__name__))
                    future.exception()  # the caller may have gone; then nobody else looks at it
        else:
            for (policy, _, future), lacking_us in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(_decision(policy, int(lacking_us)))


def _micros(policy: Policy) -> tuple[int, int]:
    window_us = policy.window_s * 1_000_000
    return window_us // policy.quota, window_us


def _decision(policy: Policy, lacking_us: int) -> Decision:
    if lacking_us < 0:
        return Decision(False, 0, policy.window_s, -lacking_us / 1e6)
    return decided(policy, lacking_us / 1e6)


@asynccontextmanager
async def open_redis_buckets(url: str, timeout_s: float = TIMEOUT_S) -> AsyncIterator[RedisBuckets]:
    """Yield buckets in the server at ``url``, connected to when first asked; an answer may take ``timeout_s``."""
    # One attempt: whoever asks has something better to do than to wait.
    pool = ConnectionPool.from_url(
        url,
        max_connections=1,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,  # naming the client to the server looks its version up on disk
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    redis = Redis.from_pool(pool)
    try:
        buckets = RedisBuckets(redis, timeout_s)
        async with asyncio.TaskGroup() as tasks:
            carrying = tasks.create_task(buckets.run(), name="rate limits")
            try:
                yield buckets
            finally:
                carrying.cancel()
    finally:
        await redis.aclose()
