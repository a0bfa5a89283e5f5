"""(e) How long it takes to subscribe again when a pub/sub server was killed and another listens in its place."""

from __future__ import annotations

import asyncio
import time

import redis.asyncio

from benchmarks.crowd import crowd
from benchmarks.processes import cpu_s, quiet, split_cores
from benchmarks.results import Quantity, Results
from benchmarks.run import Options, in_rounds, say
from benchmarks.subjects import Running, Subject
from benchmarks.targets import FRIENDS

NAME = "healing"
GIVE_UP_S = 30.0
_POLL_S = 0.01

HEALED_S = Quantity(f"subscribed again ({GIVE_UP_S:.0f}: never)", "s", 2)
CPU_S = Quantity("CPU", "s", 2)
CHANNELS = Quantity("channels", "", 0)


async def run(subjects: list[Subject], results: Results, options: Options) -> None:
    """Measure each of ``subjects`` with as many connections as the greatest size."""
    await in_rounds(NAME, [max(options.sizes)], subjects, options.rounds, lambda running, _: _measure(running, results))


async def _measure(running: Running, results: Results) -> None:
    async with crowd(running.port, running.clients, running.marks, split_cores()[1]) as watching:
        await watching.connect()
        await quiet(running.pid)
        wanted = await channel_count(running.redis)
        began_cpu_s = cpu_s(running.pid)
        await running.kill_redis()
        began_s = time.perf_counter()
        try:
            async with asyncio.timeout(GIVE_UP_S):
                while await channel_count(running.redis) < wanted:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            say(f"{running.name} has not subscribed again")
        took_s = time.perf_counter() - began_s
    setting = f"{running.users:,} sockets × {FRIENDS}"
    results.add(NAME, setting, running.name, CHANNELS, wanted)
    results.add(NAME, setting, running.name, HEALED_S, min(GIVE_UP_S, took_s))
    results.add(NAME, setting, running.name, CPU_S, cpu_s(running.pid) - began_cpu_s)


async def channel_count(address: str) -> int:
    """Return how many channels are subscribed at the server, 0 while it does not answer."""
    client = redis.asyncio.Redis.from_url(address)
    try:
        about = await client.info("stats")
        return int(about["pubsub_channels"])
    except redis.RedisError:
        return 0
    finally:
        await client.aclose()
