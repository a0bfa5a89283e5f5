"""Batches on their way into the history stream, acknowledged only once they are on its disk (protocol §2).

Waiting for a disk takes up to a second, which batches that come in meanwhile share: all of them go in the next call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from nearby.errors import StoreUnavailable
from nearby.model import HistoryPoint
from nearby.ports import HistoryStream

MAX_POINTS_PER_CALL = 5_000
MAX_WAITING = 1_000
"""Batches; further ones are refused and will be sent again."""

_Waiting = tuple[Sequence[HistoryPoint], asyncio.Future[bool]]


class BatchQueue:
    """Takes batches by :meth:`store` and works them off in :meth:`run`."""

    def __init__(self, stream: HistoryStream) -> None:
        self.failures_count = 0
        self.refused_count = 0
        self._stream = stream
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()

    async def store(self, points: Sequence[HistoryPoint]) -> bool:
        """Put ``points`` into the history stream; return whether they are durably there."""
        if not points:
            return True
        if len(self._waiting) >= MAX_WAITING:
            self.refused_count += 1
            return False
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((points, stored))
        self._wake.set()
        return await stored

    async def run(self) -> None:
        """Work off batches until cancelled."""
        while True:
            await self._wake.wait()
            batches = self._next()
            stored = await self._append([point for points, _ in batches for point in points])
            for _, future in batches:
                if not future.done():  # whoever waited may have been cancelled
                    future.set_result(stored)

    def _next(self) -> list[_Waiting]:
        batches = [self._waiting.popleft()]
        room = MAX_POINTS_PER_CALL - len(batches[0][0])
        while self._waiting and len(self._waiting[0][0]) <= room:
            batches.append(self._waiting.popleft())
            room -= len(batches[-1][0])
        if not self._waiting:
            self._wake.clear()
        return batches

    async def _append(self, points: Sequence[HistoryPoint]) -> bool:
        try:
            await self._stream.append_many(points, durable=True)
        except StoreUnavailable:
            self.failures_count += 1
            return False
        return True
