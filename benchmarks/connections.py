"""(b) Memory of an idle connection with forty subscriptions, and (d) what it costs to connect.

Everybody connects twice. The first time they report where they are, and memory is read when all is quiet. The second
time they come back all at once, as after a lost server, and do not report: for our own server that is upgrade, token,
friend list, forty subscriptions and a snapshot of forty friends, each of which is checked.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
from pathlib import Path

from benchmarks.crowd import Client, crowd, messages
from benchmarks.processes import cpu_s, quiet, resident_bytes, split_cores
from benchmarks.results import Quantity, Results
from benchmarks.run import Options, in_rounds
from benchmarks.subjects import Running, Subject
from benchmarks.targets import FRIENDS, watched
from benchmarks.town import Town
from nearby.codecs import JSON
from nearby.geo import distance_m
from nearby.messages import Snapshot
from nearby.model import UserId

NAME = "connections"
WARM_UP = 100
AT_ONCE = 1_000
"""Of a reference: some do not take ten thousand at once."""
PLACE_ERROR_M = 1.0
SHORTEST_S = 1e-6
"""CPU time comes in hundredths of a second, which a few connects do not take."""

MEMORY_KB = Quantity("memory per connection", "KB", 1)
CPU_MS = Quantity("CPU per connect", "ms", 3)
BACK_S = Quantity("all back", "s", 1)
PER_CPU_S = Quantity("connects per CPU second", "1/s", 0)


async def run(subjects: list[Subject], results: Results, options: Options) -> None:
    """Measure each of ``subjects`` with as many connections as the greatest size."""
    await in_rounds(NAME, [max(options.sizes)], subjects, options.rounds, lambda running, _: _measure(running, results))


async def _measure(running: Running, results: Results) -> None:
    _, others = split_cores()
    setting = f"{running.users:,} sockets × {FRIENDS} subscriptions"

    def note(quantity: Quantity, value: float) -> None:
        results.add(NAME, setting, running.name, quantity, value)

    # What is imported and allocated once is there before the first measurement.
    async with crowd(running.port, running.clients[:WARM_UP], running.marks, others) as few:
        await few.connect()
    await quiet(running.pid)
    before = resident_bytes(running.pid)
    async with crowd(running.port, running.clients, running.marks, others) as everybody:
        await everybody.connect()
        await quiet(running.pid)
        note(MEMORY_KB, (resident_bytes(running.pid) - before) / running.users / 1024)
    await quiet(running.pid)
    silent = [Client(client.request, client.hello if running.scene is None else ()) for client in running.clients]
    async with crowd(running.port, silent, running.marks, others) as everybody:
        with tempfile.NamedTemporaryFile(prefix="snapshots-") as file:
            if running.scene is not None:
                await everybody.ask(f"record {file.name}")
            began_cpu_s = cpu_s(running.pid)
            connected = await everybody.connect(0 if running.scene is not None else AT_ONCE)
            each_s = (cpu_s(running.pid) - began_cpu_s) / running.users
            await everybody.ask("record")
            if running.scene is not None:
                await asyncio.to_thread(check_maps, Path(file.name), running.scene.town)
        note(CPU_MS, each_s * 1000)
        note(PER_CPU_S, 1 / max(each_s, SHORTEST_S))
        note(BACK_S, connected.seconds)
    gc.collect()


def check_maps(recorded: Path, town: Town) -> None:
    """Check that every user's first snapshot shows each of their friends where they are.

    Raises:
        AssertionError: one does not.
    """
    numbers = {user: number for number, user in enumerate(town.users)}
    seen: set[int] = set()
    for client, data in messages(recorded):
        message = JSON.decode_server(data)
        if not isinstance(message, Snapshot) or client in seen:
            continue
        seen.add(client)
        expected = set(watched(client, len(town.users)))
        shown = {numbers[UserId(friend.user_id)]: friend for friend in message.friends}
        assert shown.keys() == expected, f"user {client} sees {len(shown.keys() & expected)} of {len(expected)} friends"
        for number, friend in shown.items():
            wanted_m = distance_m(*town.homes[client], *town.homes[number])
            assert abs(friend.distance_m - wanted_m) <= PLACE_ERROR_M, (friend, wanted_m)
    assert len(seen) == len(town.users), f"{len(seen)} of {len(town.users)} users had a snapshot"
