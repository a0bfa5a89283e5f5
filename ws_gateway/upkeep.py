"""What keeps a gateway's event loop free: sweeping a little at a time, and measuring."""

from __future__ import annotations

import asyncio

from ws_gateway.gateway import Gateway

SWEEP_S = 1.0


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
