"""The bound of every call to a server, and its one error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from nearby.errors import StoreUnavailable

CALL_TIMEOUT_S = 3.0
"""The bound of a whole call, connecting included; a frozen server is told from a slow one by nothing else."""


@asynccontextmanager
async def answering(store: str) -> AsyncIterator[None]:
    """Bound a call by :data:`CALL_TIMEOUT_S` and turn what the driver raises into ``StoreUnavailable`` of ``store``."""
    task = asyncio.current_task()
    assert task is not None
    cancelled_before = task.cancelling()
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            yield
    except (RedisError, OSError) as error:
        _raise_lost_cancellation(task, cancelled_before)
        raise StoreUnavailable(store, f"{type(error).__name__}: {error}") from error
    _raise_lost_cancellation(task, cancelled_before)


def _raise_lost_cancellation(task: asyncio.Task[object], cancelled_before: int) -> None:
    # The driver uses asyncio.wait_for, which before Python 3.12 loses a cancellation that meets its result
    # (bpo-42130); whoever cancelled us would wait for ever.
    if task.cancelling() > cancelled_before:
        raise asyncio.CancelledError
