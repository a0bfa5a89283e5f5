"""One process of the fleet; started by ``python -m loadtest.dense``, which it speaks to (``wire.py``)."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import msgspec
import uvloop

from http_port.collector import spared_collector
from loadtest.dense.fleet import Fleet
from loadtest.dense.wire import Orders, Progress
from loadtest.person import read_people, share_of
from loadtest.scenarios import Schedule
from nearby_client import NearbyApi

PROGRESS_S = 1.0


async def main() -> None:
    """Do as ordered."""
    orders_from = await _input()
    orders = msgspec.json.decode(await orders_from.readline(), type=Orders)
    options = orders.namespace()
    everybody = read_people(Path(orders.people), 0, 1)[: options.users]
    people = everybody[share_of(len(everybody), orders.part, orders.parts)]
    schedule = Schedule(options.scenario, len(people), options.run_time)
    async with NearbyApi(orders.api_url) as api:
        fleet = Fleet(people, options, schedule, options.spawn_rate / orders.parts, api)
        if options.scenario == "celebrity":
            await fleet.make_a_celebrity()
        _tell(fleet)
        if await orders_from.readline():
            with spared_collector():
                await _run(fleet, orders_from)


async def _run(fleet: Fleet, orders_from: asyncio.StreamReader) -> None:
    """Run the fleet until its schedule or the input ends, telling each second how it goes."""
    running = asyncio.create_task(fleet.run())
    ordered_to_stop = asyncio.create_task(orders_from.read())
    while not running.done():
        await asyncio.wait([running, ordered_to_stop], timeout=PROGRESS_S, return_when=asyncio.FIRST_COMPLETED)
        if ordered_to_stop.done():
            running.cancel()
            await asyncio.wait([running])
        _tell(fleet)
    ordered_to_stop.cancel()
    if not running.cancelled():
        running.result()


async def _input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _tell(fleet: Fleet) -> None:
    progress = Progress(
        time.monotonic(), fleet.sockets, fleet.frames, time.process_time(), _memory_kb(), fleet.rows.rows()
    )
    sys.stdout.buffer.write(msgspec.json.encode(progress) + b"\n")
    sys.stdout.buffer.flush()


def _memory_kb() -> int:
    """Return what this process holds; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return next((int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS:")), 0)


if __name__ == "__main__":
    # Ctrl-C reaches the whole group of processes; the one that gave the orders says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(main())
