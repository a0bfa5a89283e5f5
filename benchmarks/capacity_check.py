"""Is the model right? ``python -m benchmarks.capacity_check``: a stack under load beside what was predicted of it.

Starts ``nearby up``, lets people who all see each other report, and compares CPU time, memory and bytes with what
``nearby capacity`` says of such a load. Ends with 1 where one is further off than ``--within``.

The model's constants are of gateways whose fan-out is compiled; ``--wheel`` names the folder of an unpacked wheel that
is. Without it the gateways run as they stand here, and other constants are used.

``--published N`` is for measuring constants: in place of reports, N locations a second are published of people who are
connected nowhere, each of whom has ``--friends`` viewers. With few and with many friends, that tells what a location
costs a gateway for itself, and what for each viewer. Nothing is compared then.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.processes import cpu_s, resident_bytes
from cli.capacity import costs
from cli.capacity.constants import COMPILED, INTERPRETED
from cli.capacity.frames import TCP_IP_BYTES
from cli.capacity.load import Load, Traffic
from nearby.channels import location_channel
from nearby.model import UserId
from nearby.record import LocationRecord, pack
from pubsub_router.resp import publish
from tests.support.eventually import eventually
from tests.support.phones import Phones, phones
from tests.support.seeding import seed
from tests.support.stack import Stack, running_stack

NO_LIMITS = {"NEARBY_CONNECT_RATE": "0", "NEARBY_MESSAGE_RATE": "0", "NEARBY_MAX_SPEED_MPS": "0"}
CONNECTED_WITHIN_S = 120.0
NEVER_S = 3_600.0
FOREVER_S = 30 * 86_400.0
FRAME_BYTES = 4
"""The head of a WebSocket frame of an update."""
TICK_S = 0.002


@dataclass(frozen=True, slots=True)
class Scene:
    """What is measured: ``published`` a second, and people who report never, or people who report."""

    users: int
    friends: int
    interval_s: float
    seconds: float
    gateways: int = 1
    published: float = 0.0
    wheel: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a stack took: cores; bytes of gateways' memory per connection; what phones sent and received."""

    gateways: float
    shards: float
    cache: float
    connection_bytes: float
    reports_per_s: float
    frames_per_s: float
    payload_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Look:
    """Counters at one instant."""

    at_s: float
    cpu_s: Mapping[str, float]
    reports: int
    frames: int
    payload_bytes: int

    @classmethod
    def at(cls, stack: Stack, crowds: Sequence[Phones]) -> Look:
        """Look now."""
        pids = stack.pids
        used = {
            "gateways": sum(cpu_s(gateway.pid) for gateway in stack.gateways),
            "shards": sum(cpu_s(pids[name]) for name in stack.shard_urls),
            "cache": cpu_s(pids["cache"]),
        }
        return cls(
            time.monotonic(),
            used,
            reports=sum(crowd.reports for crowd in crowds),
            frames=sum(crowd.frames for crowd in crowds),
            payload_bytes=sum(crowd.payload_bytes for crowd in crowds),
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """One line of the comparison."""

    what: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted / self.measured


async def measure(scene: Scene) -> Measured:
    """Run a stack and let everybody report, or be told."""
    environ = {**NO_LIMITS, **({"PYTHONPATH": scene.wheel} if scene.wheel else {})}
    ports = ",".join(["0"] * scene.gateways)
    arguments = ("--api-port", "0", "--gateway-ports", ports, "--shards", "1", "--ephemeral")
    async with AsyncExitStack() as parts:
        directory = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        stack = await parts.enter_async_context(running_stack(directory, environ, arguments))
        people = seed(stack.data_dir, scene.users, scene.friends, two_sides=scene.published > 0)
        tokens = list(people.values())[:: 2 if scene.published else 1]
        gateways = stack.gateways
        empty_bytes = sum(resident_bytes(gateway.pid) for gateway in gateways)
        interval_s = NEVER_S if scene.published else scene.interval_s
        crowds = [
            await parts.enter_async_context(phones(gateway.ws_url, tokens[index :: len(gateways)], interval_s))
            for index, gateway in enumerate(gateways)
        ]
        await eventually(lambda: sum(crowd.connected for crowd in crowds) == len(tokens), CONNECTED_WITHIN_S)
        if scene.published:
            told = publishing(stack.shard_urls["shard-1"], list(people)[1::2], scene.published)
            await parts.enter_async_context(told)
        await asyncio.sleep(2 * scene.interval_s + 2)  # so that everybody has been heard of, and settles
        before = Look.at(stack, crowds)
        await asyncio.sleep(scene.seconds)
        after = Look.at(stack, crowds)
        full_bytes = sum(resident_bytes(gateway.pid) for gateway in gateways)
    took_s = after.at_s - before.at_s
    cores = {name: (used_s - before.cpu_s[name]) / took_s for name, used_s in after.cpu_s.items()}
    return Measured(
        **cores,
        connection_bytes=(full_bytes - empty_bytes) / len(tokens),
        reports_per_s=(after.reports - before.reports) / took_s,
        frames_per_s=(after.frames - before.frames) / took_s,
        payload_bytes_per_s=(after.payload_bytes - before.payload_bytes) / took_s,
    )


@asynccontextmanager
async def publishing(address: str, users: Sequence[UserId], per_s: float) -> AsyncIterator[None]:
    """Publish meanwhile where ``users`` are, one after the other, ``per_s`` a second in all."""
    reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix://"))

    async def publish_all() -> None:
        began_s, done = time.monotonic(), 0
        while True:
            now_ms = time.time_ns() // 1_000_000
            due = int((time.monotonic() - began_s) * per_s) - done
            payload = pack(LocationRecord(now_ms * 1000, now_ms, 41.88, -87.63, 12.5, 1.4, 270.0))
            some = (users[number % len(users)] for number in range(done, done + due))
            writer.write(b"".join([publish(location_channel(user), payload) for user in some]))
            done += due
            await writer.drain()
            await asyncio.sleep(TICK_S)

    async def discard() -> None:
        while await reader.read(1 << 16):
            pass

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(publish_all()), tasks.create_task(discard())]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
    writer.close()
    await writer.wait_closed()


def load_of(scene: Scene, reports_per_s: float) -> Load:
    """Return the load of ``scene`` as the model has it: nobody comes or goes."""
    return Load(
        users=scene.users,
        connected=1.0,
        friends=scene.friends,
        interval_s=scene.users / reports_per_s,
        session_s=FOREVER_S,
        rest_per_session=0.0,
        linger_s=0.0,
    )


def compared(scene: Scene, found: Measured) -> list[Compared]:
    """Return what was predicted of ``scene`` beside what was ``found``.

    How often phones came to report, and how many updates shared a frame, is taken as found: on a machine that has
    other things to do, phones are late and updates wait for each other.
    """
    load = load_of(scene, found.reports_per_s)
    traffic = Traffic.of(load)
    constants = COMPILED if scene.wheel else INTERPRETED
    updates = found.frames_per_s - traffic.reports  # the others are acknowledgements
    gateways = costs.gateways(load, traffic, constants, scene.gateways, updates)
    grown_bytes = gateways.memory_bytes - scene.gateways * constants.gateway.base_bytes.value
    wire_bytes = found.payload_bytes_per_s + found.frames_per_s * (TCP_IP_BYTES + FRAME_BYTES)
    return [
        Compared("gateways, cores", gateways.cores, found.gateways),
        Compared("gateways, bytes of memory per connection", grown_bytes / scene.users, found.connection_bytes),
        Compared("to clients, bytes/s", gateways.egress_bytes_per_s, wire_bytes),
    ]


def shown(rows: Sequence[Compared]) -> Table:
    """Return the table."""
    table = Table("", "predicted", "measured", "predicted / measured")
    for row in rows:
        table.add_row(row.what, f"{row.predicted:,.3g}", f"{row.measured:,.3g}", f"{row.ratio:.2f}")
    return table


def main() -> int:
    """Measure, predict and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--friends", type=int, default=40)
    parser.add_argument(
        "--interval", dest="interval_s", type=float, default=1.0, help="seconds between two reports of one"
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="how long to measure")
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--published", type=float, default=0.0, help="per second, in place of reports")
    parser.add_argument("--wheel", help="folder of an unpacked wheel")
    parser.add_argument("--within", type=float, default=0.25, help="how far off a prediction may be")
    options = parser.parse_args()
    within = options.within
    del options.within
    scene = Scene(**vars(options))
    found = asyncio.run(measure(scene))
    console = Console()
    if scene.published:
        per_location_us = found.gateways / scene.published * 1e6
        console.print(f"{per_location_us:.1f} us of gateway CPU per location, {scene.friends} viewers each")
        console.print(f"{found.frames_per_s / scene.published:.2f} frames per location")
        return 0
    rows = compared(scene, found)
    console.print(shown(rows))
    # Servers that sleep most of the time pay for waking up, which a busy one does not; they are not sized by it.
    console.print(f"not judged: shards {found.shards:.3f} cores, cache and stream {found.cache:.3f} cores")
    return 0 if all(abs(row.ratio - 1.0) <= within for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
