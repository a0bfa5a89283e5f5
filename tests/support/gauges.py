"""What a gateway tells about itself, and what the system tells about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.support.stack import Gateway

PREFIX = "nearby_gateway_"


async def metrics(gateway: Gateway) -> dict[str, float]:
    """Return every sample of a gateway by its name and labels, without the common prefix."""
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"{gateway.admin_url}/metrics", timeout=10)).text
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(PREFIX))
    return {name.removeprefix(PREFIX): float(value) for name, value in samples}


def resident_bytes(gateway: Gateway) -> int:
    for line in Path(f"/proc/{gateway.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such process")


def descriptor_count(gateway: Gateway) -> int:
    return sum(1 for _ in Path(f"/proc/{gateway.pid}/fd").iterdir())


class Watch:
    """The worst loop lag seen while it watched, and how often it looked."""

    def __init__(self) -> None:
        self.lag_s = 0.0
        self.looks = 0


@asynccontextmanager
async def watching_lag(gateway: Gateway) -> AsyncIterator[Watch]:
    """Look at the gateway's loop lag twice a second; the gauge is the worst of a second."""
    watch = Watch()

    async def look() -> None:
        while True:
            watch.lag_s = max(watch.lag_s, (await metrics(gateway))["event_loop_lag_seconds"])
            watch.looks += 1
            await asyncio.sleep(0.5)

    await asyncio.sleep(1.1)  # the gauge still shows the second before
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(look())
        try:
            yield watch
            await asyncio.sleep(1.1)
        finally:
            looking.cancel()
