"""What keeps a gateway's event loop free: sweeping a little at a time, measuring, sparing the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ws_gateway.gateway import Gateway

SWEEP_S = 1.0
_OLDEST = 2
"""The generation whose collection looks at every object that is not frozen."""


@contextmanager
def spared_collector() -> Iterator[None]:
    """Let the garbage collector look at each object only until it has survived a full collection.

    Otherwise each full collection walks all that ten thousand connections hold, and nothing else runs for a tenth of
    a second. What lives long is freed by its reference count: a connection that has closed leaves no cycle.
    """
    gc.collect()
    gc.freeze()
    gc.callbacks.append(_freeze_survivors)
    try:
        yield
    finally:
        gc.callbacks.remove(_freeze_survivors)
        gc.unfreeze()


def _freeze_survivors(phase: str, info: Mapping[str, int]) -> None:
    if phase == "stop" and info["generation"] == _OLDEST:
        gc.freeze()


class LoopLag:
    """How late the event loop wakes up, measured by sleeping. ``lag_s`` is the worst of the last second."""

    INTERVAL_S = 0.1

    def __init__(self) -> None:
        self.lag_s = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            worst_s = 0.0
            for _ in range(10):
                due_s = loop.time() + self.INTERVAL_S
                await asyncio.sleep(self.INTERVAL_S)
                worst_s = max(worst_s, loop.time() - due_s)
            self.lag_s = worst_s


async def sweep(gateway: Gateway) -> None:
    """Sweep once a second, until cancelled."""
    while True:
        await asyncio.sleep(SWEEP_S)
        await gateway.sweep()
