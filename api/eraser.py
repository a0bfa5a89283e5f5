"""Works off erasures: the fence first, then the store, and the store again once nothing is left behind the fence.

Each step may be done again, so it matters little where a process dies or a store goes away. An erasure ends only after
a deletion that began when nothing behind its fence was waiting in the stream any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from enum import StrEnum

from nearby.errors import StoreUnavailable
from nearby.model import MAX_SEQ
from nearby.ports import Clock, HistoryFence, HistoryStore, HistoryStream, LocationCache, Sleep
from social_graph.erasures import Erasure, Kind
from social_graph.graph import SocialGraph

INTERVAL_S = 1.0
CLAIM_COUNT = 10
ATTEMPT_S = 20.0
"""Less than the lease of an erasure."""
INLINE_S = 2.0
"""How long an answer waits for the first attempt."""
MAX_DELAY_S = 30.0
LATE_WRITES_S = 8 * 86_400
"""How long after an account's deletion a process that stood still may come back with a report in hand."""

_log = logging.getLogger(__name__)


class Attempt(StrEnum):
    """What became of one attempt. ``WAITING``: something behind the fence is still in the stream."""

    DONE = "done"
    WAITING = "waiting"
    FAILED = "failed"


class Eraser:
    """Works off the erasures in ``graph``; owns none of the stores."""

    def __init__(
        self,
        graph: SocialGraph,
        cache: LocationCache,
        stream: HistoryStream,
        history: HistoryStore,
        clock: Clock,
    ) -> None:
        self._graph = graph
        self._cache = cache
        self._stream = stream
        self._history = history
        self._clock = clock
        self.attempts: Counter[Attempt] = Counter()

    async def run(self, sleep: Sleep) -> None:
        """Work off what is due, until cancelled. Several processes may do so."""
        while True:
            if not await self.work():
                await sleep(INTERVAL_S)

    async def work(self) -> int:
        """Make one attempt at each of some erasures that are due and return how many there were."""
        try:
            taken = await self._graph.erasures.claim(CLAIM_COUNT)
        except StoreUnavailable as error:
            _log.warning("erasures wait: %s", error)
            return 0
        async with asyncio.TaskGroup() as tasks:
            for erasure in taken:
                tasks.create_task(self.attempt(erasure))
        return len(taken)

    async def attempt(self, erasure: Erasure, within_s: float = ATTEMPT_S) -> bool:
        """Work on ``erasure``, which the caller has taken, for ``within_s`` seconds at most; whether it is done.

        If it is not, it is left to be taken again after a while.
        """
        try:
            async with asyncio.timeout(within_s):
                if await self._erase(erasure):
                    await self._graph.erasures.finish(erasure)
                    self.attempts[Attempt.DONE] += 1
                    return True
                self.attempts[Attempt.WAITING] += 1
        except (StoreUnavailable, TimeoutError) as error:
            self.attempts[Attempt.FAILED] += 1
            _log.warning("erasure %s waits: %s", erasure.erasure_id, error or "time-out")
        # If this fails, too, it is taken again at the end of the lease.
        with contextlib.suppress(StoreUnavailable):
            await self._graph.erasures.postpone(erasure, _delay_s(erasure.attempts))
        return False

    async def _erase(self, erasure: Erasure) -> bool:
        """Delete what can be deleted now; whether that is final."""
        fence = erasure.fence or await self._put_up_fence(erasure)
        passed = await self._stream.passed(fence)
        await self._history.delete(fence.user_id, fence.from_ms, fence.to_ms, fence.until_ms)
        return passed

    async def _put_up_fence(self, erasure: Erasure) -> HistoryFence:
        lasting_s, to_ms = 0, erasure.to_ms
        if erasure.kind is Kind.ACCOUNT:
            lasting_s = LATE_WRITES_S
            await self._cache.erase(erasure.user_id, LATE_WRITES_S)
        elif erasure.retention_s is not None:
            to_ms = self._clock() - erasure.retention_s * 1000 if erasure.retention_s else MAX_SEQ
        fence = await self._stream.fence(erasure.user_id, erasure.from_ms, to_ms, lasting_s)
        await self._graph.erasures.fenced(erasure, fence)
        return fence


def _delay_s(attempts: int) -> float:
    # Half of it at random, so that several do not come back as one.
    return float(min(MAX_DELAY_S, 0.5 * 2 ** min(attempts, 10)) * random.uniform(0.5, 1))  # noqa: S311
