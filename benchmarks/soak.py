"""Half load for half an hour: whether memory, errors or latencies drift. ``python -m benchmarks soak --minutes 30``."""

from __future__ import annotations

import statistics

from benchmarks.crowd import crowd
from benchmarks.fan_out import FLOOD_PER_S, Window, window
from benchmarks.processes import resident_bytes, split_cores
from benchmarks.publisher import Publisher
from benchmarks.results import Quantity, Results
from benchmarks.run import Options, say
from benchmarks.subjects import Nearby
from benchmarks.targets import FRIENDS

NAME = "soak"
MEMORY_MB = Quantity("memory", "MB", 1)
SLOPE_KB = Quantity("memory slope", "KB/min", 1)
SLOPE_ERROR_KB = Quantity("its standard error", "KB/min", 1)
PER_S = Quantity("deliveries", "1/s", 0)
CPU_PART = Quantity("CPU of the gateway", "cores", 2)
P99_MS = Quantity("p99", "ms", 0)
CLOSED = Quantity("connections lost", "", 0)


async def run(results: Results, options: Options, minutes: int) -> None:
    """Offer half of what the gateway takes when flooded, a minute at a time."""
    users = min(options.sizes)
    _, others = split_cores()
    async with Nearby().running(users) as running:
        setting = f"{minutes} minutes, {users:,} sockets × {FRIENDS}"
        async with crowd(running.port, running.clients, running.marks, others) as watching:
            await watching.connect()
            publisher = Publisher(running.redis, running.users, running.message)
            flooded = await window(watching, running, publisher, FLOOD_PER_S, options.seconds)
            half_per_s = flooded.counts.deliveries / flooded.seconds / 2
            memory_kb: list[float] = []
            minute_s = 59.0 if options.seconds >= 1 else options.seconds
            for minute in range(minutes):
                each: Window = await window(watching, running, publisher, half_per_s, minute_s)
                memory_kb.append(resident_bytes(running.pid) / 1024)
                say(
                    f"minute {minute + 1}: {memory_kb[-1] / 1024:.1f} MB, p99 {each.counts.p99_ms:.0f} ms, "
                    f"{each.counts.deliveries / each.seconds:,.0f} deliveries/s, {each.cpu_s / each.seconds:.2f} cores"
                )
                for quantity, value in (
                    (PER_S, each.counts.deliveries / each.seconds),
                    (CPU_PART, each.cpu_s / each.seconds),
                    (P99_MS, each.counts.p99_ms),
                    (CLOSED, each.counts.closes),
                    (MEMORY_MB, memory_kb[-1] / 1024),
                ):
                    results.add(NAME, setting, running.name, quantity, value)
            publisher.close()
        if minutes > 2:
            slope, error = slope_of(memory_kb[1:])  # in the first minute all is touched for the first time
            results.add(NAME, setting, running.name, SLOPE_KB, slope)
            results.add(NAME, setting, running.name, SLOPE_ERROR_KB, error)


def slope_of(values: list[float]) -> tuple[float, float]:
    """Return the slope of ``values`` per step by least squares, and its standard error."""
    steps = range(len(values))
    slope, intercept = statistics.linear_regression(steps, values)
    rest = sum((value - intercept - slope * step) ** 2 for step, value in zip(steps, values, strict=True))
    spread = sum((step - statistics.fmean(steps)) ** 2 for step in steps)
    return slope, (rest / max(1, len(values) - 2) / spread) ** 0.5
