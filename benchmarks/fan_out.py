"""(a) What a gateway core delivers: one update per frame at a steady rate, merged when flooded, and near its limit.

``steady``: 100,000 deliveries/s are offered, one message at a time; what counts is the CPU time of each. ``flooded``:
more is offered than the server takes, with at most :data:`benchmarks.publisher.MAX_BACKLOG_BYTES` waiting for it in
its Valkey; what counts is how many deliveries a second of its CPU time makes. ``at 70 %`` of that: how long they take.

Of our own server all that a flood delivers is checked, too: see :mod:`benchmarks.checked`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from benchmarks.checked import check_flood
from benchmarks.crowd import Counts, Crowd, crowd
from benchmarks.processes import cpu_s, split_cores
from benchmarks.publisher import Publisher, publishing
from benchmarks.results import Quantity, Results
from benchmarks.run import Options, in_rounds, say
from benchmarks.subjects import Running, Subject
from benchmarks.targets import FRIENDS

NAME = "fan-out"
STEADY_PER_S = 100_000
FLOOD_PER_S = 3_000_000
SATURATED_PART = 0.7
SETTLE_S = 1.0

CPU_US = Quantity("CPU per delivery", "µs", 2)
PER_CPU_S = Quantity("deliveries per CPU second", "1/s", 0)
PER_S = Quantity("deliveries", "1/s", 0)
MERGED = Quantity("deliveries per frame", "", 1)
P50_MS = Quantity("p50", "ms", 0)
P99_MS = Quantity("p99", "ms", 0)


@dataclass(frozen=True, slots=True)
class Window:
    """What one window of time brought."""

    seconds: float
    cpu_s: float
    counts: Counts

    @property
    def per_cpu_s(self) -> float:
        """Deliveries per second of the server's CPU time."""
        return self.counts.deliveries / self.cpu_s if self.cpu_s else 0.0


async def run(subjects: list[Subject], results: Results, options: Options) -> None:
    """Measure each of ``subjects`` at each size, all in one run."""
    await in_rounds(
        NAME,
        options.sizes,
        subjects,
        options.rounds,
        lambda running, number: _measure(running, results, options, number),
    )


async def _measure(running: Running, results: Results, options: Options, number: int) -> None:
    _, others = split_cores()
    size = f"{running.users:,} sockets × {FRIENDS}"
    async with crowd(running.port, running.clients, running.marks, others) as watching:
        await watching.connect()
        publisher = Publisher(running.redis, running.users, running.message)

        def note(setting: str, quantity: Quantity, value: float) -> None:
            results.add(NAME, f"{setting}, {size}", running.name, quantity, value)

        steady = await window(watching, running, publisher, STEADY_PER_S, options.seconds)
        note("steady", CPU_US, steady.cpu_s / max(1, steady.counts.deliveries) * 1e6)
        note("steady", PER_S, steady.counts.deliveries / steady.seconds)
        note("steady", MERGED, steady.counts.deliveries / max(1, steady.counts.frames))
        note("steady", P50_MS, steady.counts.p50_ms)
        note("steady", P99_MS, steady.counts.p99_ms)
        flooded = await window(watching, running, publisher, FLOOD_PER_S, options.seconds)
        note("flooded", PER_CPU_S, flooded.per_cpu_s)
        note("flooded", PER_S, flooded.counts.deliveries / flooded.seconds)
        note("flooded", MERGED, flooded.counts.deliveries / max(1, flooded.counts.frames))
        taken_per_s = flooded.counts.deliveries / flooded.seconds
        near = await window(watching, running, publisher, SATURATED_PART * taken_per_s, options.seconds)
        note("at 70 %", PER_S, near.counts.deliveries / near.seconds)
        note("at 70 %", MERGED, near.counts.deliveries / max(1, near.counts.frames))
        note("at 70 %", P50_MS, near.counts.p50_ms)
        note("at 70 %", P99_MS, near.counts.p99_ms)
        publisher.close()
    if running.scene is not None and number == 0:
        say(f"checked {await check_flood(running, options.seconds):,} deliveries of {running.name}")


async def window(
    watching: Crowd, running: Running, publisher: Publisher, deliveries_per_s: float, seconds: float
) -> Window:
    """Offer ``deliveries_per_s``, let it settle, and measure for ``seconds``."""
    with publishing(publisher, deliveries_per_s / FRIENDS):
        await asyncio.sleep(min(SETTLE_S, seconds))
        await watching.ask("reset")
        began_s, began_cpu_s = time.perf_counter(), cpu_s(running.pid)
        await asyncio.sleep(seconds)
        counts = await watching.counts()
        done = Window(time.perf_counter() - began_s, cpu_s(running.pid) - began_cpu_s, counts)
    await publisher.drained()
    await watching.settled()
    if done.counts.closes:
        raise RuntimeError(f"{running.name} closed {done.counts.closes} connections")
    return done
