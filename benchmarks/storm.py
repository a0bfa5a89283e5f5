"""A reconnect storm: all of a crowd lose their connections at once and come back through the limiter of the gateway.

Meanwhile others, who stay connected, receive what they always do: their latencies before and during the storm.
"""

from __future__ import annotations

import asyncio

from benchmarks.crowd import Client, crowd
from benchmarks.processes import cpu_s, quiet, split_cores
from benchmarks.publisher import Publisher, publishing
from benchmarks.results import Quantity, Results
from benchmarks.run import Options, say
from benchmarks.subjects import Nearby, Running

NAME = "storm"
UNTOUCHED = 500
CONNECT_RATE = 500
"""The gateway's default, per second; its bucket holds half of that again."""
DELIVERIES_PER_S = 10_000
FRIENDS = 40

BACK_S = Quantity("all back", "s", 1)
ACCEPTED = Quantity("accepted in the busiest second", "", 0)
BEFORE_MS = Quantity("p99 of the untouched, before", "ms", 0)
DURING_MS = Quantity("during", "ms", 0)


async def run(results: Results, options: Options) -> None:
    """Measure our own server; the crowd is the middle size."""
    users = sorted(options.sizes)[len(options.sizes) // 2]
    for number in range(options.rounds):
        say(f"{NAME}, {users:,} clients, round {number + 1} of {options.rounds}")
        async with Nearby(environ={"NEARBY_CONNECT_RATE": str(CONNECT_RATE)}).running(users + UNTOUCHED) as running:
            await _measure(running, users, results, options)


async def _measure(running: Running, users: int, results: Results, options: Options) -> None:
    _, others = split_cores()
    setting = f"{users:,} of {running.users:,} clients, {CONNECT_RATE} connections/s"
    stormers = [Client(client.request) for client in running.clients[:users]]
    async with (
        crowd(running.port, running.clients[users:], running.marks, others) as untouched,
        crowd(running.port, running.clients[:users], running.marks, others) as first,
    ):
        await untouched.storm()  # as clients do, through the limiter
        await first.storm()
        await first.ask("drop")
        await quiet(running.pid)
        async with crowd(running.port, stormers, running.marks, others) as storming:
            await storming.storm()
            publisher = Publisher(running.redis, UNTOUCHED, lambda user: running.message(users + user))
            with publishing(publisher, DELIVERIES_PER_S / FRIENDS):
                await asyncio.sleep(options.seconds)
                await untouched.ask("reset")
                await asyncio.sleep(2 * options.seconds)
                before = await untouched.counts()
                await untouched.ask("reset")
                began_cpu_s = cpu_s(running.pid)
                storm = await storming.storm()
                during = await untouched.counts()
                say(f"{cpu_s(running.pid) - began_cpu_s:.1f} s of CPU for {storm.seconds:.1f} s")
            publisher.close()
    if before.closes or during.closes:
        raise RuntimeError("untouched clients were closed")
    for quantity, value in (
        (BACK_S, storm.seconds),
        (ACCEPTED, storm.most_per_s),
        (BEFORE_MS, before.p99_ms),
        (DURING_MS, during.p99_ms),
    ):
        results.add(NAME, setting, running.name, quantity, value)
