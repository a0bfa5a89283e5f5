"""Shared buckets where there is a server for them; this process's own while it does not answer.

Without the server every limit still holds for each process by itself, so N processes let at most N times as much
through. Nothing is refused because the server is away, and a password cannot be guessed at will meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from nearby.errors import StoreUnavailable
from rate_limits.local import LocalBuckets
from rate_limits.policy import Decision, Policy
from rate_limits.redis import TIMEOUT_S, RedisBuckets, open_redis_buckets

PAUSE_S = 1.0
"""How long a server that did not answer is not asked again: each question may cost a whole time-out."""

_log = logging.getLogger(__name__)


class Limiter:
    """Built by :func:`open_limiter`. ``now_s`` is a clock of seconds that only goes on."""

    def __init__(self, shared: RedisBuckets | None, now_s: Callable[[], float]) -> None:
        self._shared = shared
        self._local = LocalBuckets()
        self._now_s = now_s
        self._not_before_s = 0.0
        self.unshared_count = 0
        """Requests that were counted by this process alone though there is a server."""

    async def take(self, policy: Policy, subject: str) -> Decision | None:
        """Take one request of ``subject``; ``None`` if ``policy`` sets no limit. Never fails."""
        if not policy.quota:
            return None
        if self._shared is not None and self._now_s() >= self._not_before_s:
            try:
                return await self._shared.take(policy, subject)
            except StoreUnavailable as error:
                self._not_before_s = self._now_s() + PAUSE_S
                _log.warning("%s; this process limits by itself", error)
        self.unshared_count += self._shared is not None
        return self._local.take(policy, subject, self._now_s())


@asynccontextmanager
async def open_limiter(url: str, now_s: Callable[[], float], timeout_s: float = TIMEOUT_S) -> AsyncIterator[Limiter]:
    """Yield a limiter that shares its buckets in the server at ``url``; empty: with nobody.

    A server that does not answer within ``timeout_s`` seconds is away.
    """
    async with AsyncExitStack() as opened:
        shared = await opened.enter_async_context(open_redis_buckets(url, timeout_s)) if url else None
        yield Limiter(shared, now_s)
