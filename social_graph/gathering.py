"""Questions that come while one is on its way to the database travel together in the next.

A query of its own costs a request more time in this process than in the database. With nobody else asking, a question
leaves at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

from nearby.errors import StoreUnavailable

K = TypeVar("K")
V = TypeVar("V")

MAX_BATCH = 200
MAX_WAITING = 10_000


class Gathering(Generic[K, V]):
    """Asks ``fetch`` about many keys at a time. :meth:`run` must be running."""

    def __init__(self, fetch: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._fetch = fetch
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._wake = asyncio.Event()

    async def get(self, key: K) -> V | None:
        """Return what ``fetch`` knows of ``key``, asked after this call was made; ``None`` if nothing.

        Raises:
            StoreUnavailable: the database failed, or too many questions wait for it.
        """
        future = self._waiting.get(key)
        if future is None:
            if len(self._waiting) >= MAX_WAITING:
                raise StoreUnavailable("social_graph", "too many questions wait for it")
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            self._wake.set()
        return await asyncio.shield(future)

    async def run(self) -> None:
        """Carry the questions to the database, until cancelled."""
        while True:
            await self._wake.wait()
            batch = {key: self._waiting.pop(key) for key in list(self._waiting)[:MAX_BATCH]}
            if not self._waiting:
                self._wake.clear()
            try:
                found = await self._fetch(list(batch))
            except StoreUnavailable as error:
                for future in batch.values():
                    future.set_exception(StoreUnavailable(error.store, error.detail))
                    future.exception()  # whoever asked may have gone; then nobody else looks at it
            else:
                for key, future in batch.items():
                    future.set_result(found.get(key))
