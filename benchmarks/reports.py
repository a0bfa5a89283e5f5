"""(c) What a location report costs that nobody watches: cache, history stream and publish, then the acknowledgement.

Every client reports again as soon as its last report is acknowledged.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.crowd import Marks, crowd
from benchmarks.processes import cpu_s, split_cores
from benchmarks.results import Quantity, Results
from benchmarks.run import Options, in_rounds
from benchmarks.subjects import Running, Subject

NAME = "reports"
SETTLE_S = 1.0
ACK = b'"type":"ack"'

CPU_US = Quantity("CPU per report", "µs", 1)
PER_CPU_S = Quantity("reports per CPU second", "1/s", 0)
PER_S = Quantity("reports", "1/s", 0)


async def run(subjects: list[Subject], results: Results, options: Options) -> None:
    """Measure each of ``subjects``, whose clients are nobody's friends, at the smallest size."""
    await in_rounds(
        NAME, [min(options.sizes)], subjects, options.rounds, lambda running, _: _measure(running, results, options)
    )


async def _measure(running: Running, results: Results, options: Options) -> None:
    marks = Marks(ACK, running.marks.ready, running.marks.ping, running.marks.pong)
    async with crowd(running.port, running.clients, marks, split_cores()[1]) as reporting:
        await reporting.connect()
        await reporting.ask("flood")
        await asyncio.sleep(min(SETTLE_S, options.seconds))
        await reporting.ask("reset")
        began_s, began_cpu_s = time.perf_counter(), cpu_s(running.pid)
        await asyncio.sleep(options.seconds)
        counts = await reporting.counts()
        took_s, took_cpu_s = time.perf_counter() - began_s, cpu_s(running.pid) - began_cpu_s
    setting = f"{running.users:,} sockets"
    results.add(NAME, setting, running.name, CPU_US, took_cpu_s / max(1, counts.deliveries) * 1e6)
    results.add(NAME, setting, running.name, PER_CPU_S, counts.deliveries / max(took_cpu_s, 0.01))
    results.add(NAME, setting, running.name, PER_S, counts.deliveries / took_s)
