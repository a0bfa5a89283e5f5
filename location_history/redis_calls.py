"""Connections to the servers of the history streams, and calls that end in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from nearby.errors import StoreUnavailable

SOCKET_TIMEOUT_S = 2.0
CALL_TIMEOUT_S = 3.0
"""The bound of a whole call, connecting included."""
MAX_CONNECTIONS = 16


def client(url: str, max_connections: int = MAX_CONNECTIONS) -> Redis:
    """Return a client of the server at ``url``, which returns entries as they come. Nothing is opened yet."""
    opened = Redis.from_pool(
        BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
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
    for command in ("XRANGE", "XREADGROUP", "XCLAIM"):
        # The driver would make a mapping of each entry's fields.
        opened.set_response_callback(command, cast(Any, _as_it_came))
    return opened


def _as_it_came(reply: Any, **_: Any) -> Any:
    return reply


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
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
