"""(f) From a phone's report to its friends' screens, through everything: cache, stream, publish, fan-out.

Everybody is connected and reports in turn; forty friends see each report. The time is from the instant at which the
server took the report, which the entry carries.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.crowd import crowd
from benchmarks.processes import cpu_s, split_cores
from benchmarks.results import Quantity, Results
from benchmarks.run import Options, in_rounds
from benchmarks.subjects import Running, Subject
from benchmarks.targets import FRIENDS

NAME = "end to end"
SETTLE_S = 2.0
DELIVERIES_PER_S = (10_000, 40_000)

REPORTS = Quantity("reports", "1/s", 0)
PER_S = Quantity("deliveries", "1/s", 0)
P50_MS = Quantity("p50", "ms", 0)
P99_MS = Quantity("p99", "ms", 0)
MAX_MS = Quantity("worst", "ms", 0)
CPU = Quantity("CPU of the gateway", "cores", 2)


async def run(subjects: list[Subject], results: Results, options: Options) -> None:
    """Measure each of ``subjects`` at the smallest size."""
    await in_rounds(
        NAME, [min(options.sizes)], subjects, options.rounds, lambda running, _: _measure(running, results, options)
    )


async def _measure(running: Running, results: Results, options: Options) -> None:
    async with crowd(running.port, running.clients, running.marks, split_cores()[1]) as everybody:
        await everybody.connect()
        for deliveries_per_s in DELIVERIES_PER_S:
            await everybody.ask(f"pace {deliveries_per_s / FRIENDS}")
            await asyncio.sleep(min(SETTLE_S, options.seconds))
            await everybody.ask("reset")
            began_s, began_cpu_s = time.perf_counter(), cpu_s(running.pid)
            await asyncio.sleep(options.seconds)
            counts = await everybody.counts()
            took_s, took_cpu_s = time.perf_counter() - began_s, cpu_s(running.pid) - began_cpu_s
            await everybody.ask("pace 0")
            setting = f"{running.users:,} sockets × {FRIENDS}, {deliveries_per_s:,} deliveries/s offered"
            for quantity, value in (
                (REPORTS, counts.deliveries / FRIENDS / took_s),
                (PER_S, counts.deliveries / took_s),
                (P50_MS, counts.p50_ms),
                (P99_MS, counts.p99_ms),
                (MAX_MS, counts.max_ms),
                (CPU, took_cpu_s / took_s),
            ):
                results.add(NAME, setting, running.name, quantity, value)
