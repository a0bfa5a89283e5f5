"""The history writer next to a bare loop over Cassandra's driver: ``python -m benchmarks.history_writer``.

One real Cassandra, one real Valkey server. Each round stores the same number of points in four ways, in turn:

- ``bare single``: the driver alone, one prepared insert per row, from values that are bytes already
- ``writer single``: the writer's process, from a filled stream, each point of a partition of its own
- ``bare batches``: the driver alone, ten rows of a partition in one prepared unlogged batch
- ``writer linger``: the writer's process, from a filled stream in which ten points per user and day come one by one,
  a few thousand others apart

The bare loops share their process with nothing. The writer's process reads the stream, gathers, asks for fences, stores
and acknowledges. Rounds before the node is warm are thrown away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.query import BoundStatement

from benchmarks.processes import cpu_s
from location_history.consumer import open_consumers
from location_history.stream import open_stream
from nearby.model import HistoryPoint, Location, UserId
from tests.support.cassandra import JVM, SETTINGS, CassandraNode, migrate
from tests.support.valkey import ValkeyServer

ROWS_PER_BATCH = 10
WINDOW = 256
CHUNK = 2_000
STREAMS = 4
LONGEST_S = 300.0
AS_BY_DEFAULT = {"commitlog_sync": "periodic", "commitlog_sync_period": "10000ms"}
"""Cassandra's own settings. Tests, which count rows after a death, have the node wait for its disk."""
INSERT = (
    "INSERT INTO {keyspace}.history (user_id, day, recorded_at, fix) VALUES (?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?"
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Rows per second, what one row cost the process in CPU time, microseconds, and the machine's load average."""

    rows_per_s: float
    cpu_us: float
    load: float


def bare(url: str, rows: int, rows_per_statement: int) -> None:
    """Store ``rows`` through the driver alone, and print what that took as JSON. Runs in a process of its own."""
    address, _, keyspace = url.removeprefix("cassandra://").partition("/")
    host, _, port = address.partition(":")
    profile = ExecutionProfile(load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy("datacenter1")))
    cluster = Cluster(
        [host],
        port=int(port),
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        compression=False,
    )
    session = cluster.connect()
    insert = INSERT.format(keyspace=keyspace)
    if rows_per_statement > 1:
        insert = f"BEGIN UNLOGGED BATCH {'; '.join([insert] * rows_per_statement)}; APPLY BATCH"
    prepared = session.prepare(insert)
    statements = [_values(number, rows_per_statement) for number in range(rows // rows_per_statement)]
    free = threading.Semaphore(WINDOW)
    failed: list[Exception] = []

    def fail(error: Exception) -> None:
        failed.append(error)
        free.release()

    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for values in statements:
        free.acquire()
        statement = BoundStatement(prepared)
        statement.values = values
        session.execute_async(statement).add_callbacks(lambda _: free.release(), fail)
    for _ in range(WINDOW):
        free.acquire()
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    cluster.shutdown()
    assert not failed, failed[0]
    print(json.dumps({"rows_per_s": rows / took_s, "cpu_us": cpu_s / rows * 1e6}))


def _values(number: int, rows: int) -> list[bytes]:
    now_ms = time.time_ns() // 1_000_000
    key = uuid.uuid4().bytes, struct.pack(">I", now_ms // 86_400_000 + 2**31)
    fix = struct.pack(">ididididid" + "i?", 8, 41.88, 8, -87.63, 8, 5.0, 8, 1.0, 8, 90.0, 1, False)
    ttl = struct.pack(">i", 90 * 86_400)
    values: list[bytes] = []
    for row in range(rows):
        values += *key, struct.pack(">q", now_ms + number + row), fix, struct.pack(">q", now_ms * 1000), ttl
    return values


async def fill(valkey: ValkeyServer, users: Sequence[UserId], points_per_user: int) -> None:
    """Put points into the streams: of each chunk of users every one's first, then every one's second, and so on."""
    now_ms = time.time_ns() // 1_000_000
    async with open_stream(valkey.url, 100_000_000, STREAMS) as stream:
        for start in range(0, len(users), CHUNK):
            for turn in range(points_per_user):
                at = Location(41.88, -87.63, now_ms + turn, 5.0, 1.0, 90.0)
                await stream.append_many([HistoryPoint(user, at) for user in users[start : start + CHUNK]])


@asynccontextmanager
async def writing(url: str, valkey: ValkeyServer, linger_s: float, directory: str) -> AsyncIterator[int]:
    """Run a writer's process; yield its pid."""
    environ = {
        **SETTINGS,
        "NEARBY_DISCOVERY": f"file://{directory}/discovery",
        "NEARBY_HISTORY_STREAM_URL": valkey.url,
        "NEARBY_HISTORY_STREAMS": str(STREAMS),
        "NEARBY_HISTORY_URL": url,
        "NEARBY_HISTORY_LINGER_S": str(linger_s),
        "NEARBY_HISTORY_WRITER_POINTS": "1000000",
        "NEARBY_ADMIN_TOKEN": "a token of operators",
    }
    process = await asyncio.create_subprocess_exec(
        *_profiled(sys.executable, "-m", "location_history"), env=os.environ | environ
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


def _profiled(*command: str) -> tuple[str, ...]:
    # For instance "perf record -g --", "py-spy record -o out.svg --"
    return (*os.environ.get("NEARBY_BENCHMARK_PROFILER", "").split(), *command)


async def writer(
    url: str, valkey: ValkeyServer, directory: str, rows: int, points_per_user: int, linger_s: float
) -> Measured:
    """Have a writer store ``rows`` points from filled streams."""
    valkey.flush()
    users = [UserId(str(uuid.uuid4())) for _ in range(rows // points_per_user)]
    await fill(valkey, users, points_per_user)
    async with AsyncExitStack() as parts:
        looking = await parts.enter_async_context(open_consumers(valkey.url, STREAMS, "benchmark"))
        pid = await parts.enter_async_context(writing(url, valkey, linger_s, directory))

        async def waiting() -> int:
            return sum([(await consumer.backlog()).entries_count for consumer in looking])

        # From the first tenth on, so that starting does not count, to the last point.
        first = await _falls_to(waiting, int(rows * 0.9))
        began_s, began_cpu_s = time.perf_counter(), cpu_s(pid)
        await _falls_to(waiting, 0)
        took_s, took_cpu_s = time.perf_counter() - began_s, cpu_s(pid) - began_cpu_s
    return Measured(first / took_s, took_cpu_s / first * 1e6, os.getloadavg()[0])


async def _falls_to(ask: Callable[[], Awaitable[int]], count: int) -> int:
    """Return what ``ask`` tells as soon as that is no more than ``count``."""
    async with asyncio.timeout(LONGEST_S):
        while (now := await ask()) > count:  # noqa: ASYNC110 - the process that is measured tells nobody
            await asyncio.sleep(0.05)
    return now


def _bare_process(url: str, rows: int, rows_per_statement: int) -> Measured:
    command = _profiled(sys.executable, "-m", "benchmarks.history_writer", "--bare", url)
    done = subprocess.run(
        [*command, "--rows", str(rows), "--rows-per-statement", str(rows_per_statement)],
        check=True,
        capture_output=True,
        text=True,
    )
    return Measured(**json.loads(done.stdout), load=os.getloadavg()[0])


async def compare(rows: int, rounds: int, directory: str, say: Callable[[str], None]) -> dict[str, list[Measured]]:
    """Measure everything ``rounds`` times on a warm node."""
    # The whole compiler, as in production; the tests make do with half of it to start sooner.
    with closing(CassandraNode(jvm=JVM, yaml=AS_BY_DEFAULT)) as node, closing(ValkeyServer()) as valkey:
        node.start()
        valkey.start()
        url = node.fresh_url()
        migrate(url, SETTINGS)
        ways: dict[str, Callable[[], Any]] = {
            "bare single": lambda: asyncio.to_thread(_bare_process, url, rows // 4, 1),
            "writer single": lambda: writer(url, valkey, directory, rows // 4, 1, 0.0),
            "bare batches": lambda: asyncio.to_thread(_bare_process, url, rows, ROWS_PER_BATCH),
            "writer linger": lambda: writer(url, valkey, directory, rows, ROWS_PER_BATCH, 60.0),
        }
        say("warming up")
        warm_s = time.monotonic() + 25
        while time.monotonic() < warm_s:
            await ways["bare single"]()
            await ways["bare batches"]()
        found: dict[str, list[Measured]] = {name: [] for name in ways}
        for number in range(rounds):
            for name, way in ways.items():
                measured = await way()
                found[name].append(measured)
                say(
                    f"round {number + 1}: {name}: {measured.rows_per_s:,.0f} rows/s, "
                    f"{measured.cpu_us:.1f} us CPU a row, load {measured.load:.1f}"
                )
        return found


def report(found: dict[str, list[Measured]]) -> str:
    """Return the table."""
    head = "rows/s: min | median |    max | CPU us/row | rows per CPU second | ratio to bare (median) | load"
    lines = [f"| {'':14} | {head} |", "|---|---|---|---|---|---|---|---|"]
    for name, measured in found.items():
        rates = [each.rows_per_s for each in measured]
        counterpart = "bare single" if "single" in name else "bare batches"
        ratios = [own.rows_per_s / other.rows_per_s for own, other in zip(measured, found[counterpart], strict=True)]
        cpu_us = statistics.median(each.cpu_us for each in measured)
        lines.append(
            f"| {name:14} | {min(rates):11,.0f} | {statistics.median(rates):6,.0f} | {max(rates):6,.0f} "
            f"| {cpu_us:10.1f} | {1e6 / cpu_us:19,.0f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {min(each.load for each in measured):.0f} to {max(each.load for each in measured):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000, help="per measurement; a quarter of it row by row")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", default="/tmp/nearby-benchmark")
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    parser.add_argument("--rows-per-statement", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        bare(arguments.bare, arguments.rows, arguments.rows_per_statement)
        return
    found = asyncio.run(
        compare(arguments.rows, arguments.rounds, arguments.directory, lambda line: print(line, file=sys.stderr))
    )
    print(report(found))


if __name__ == "__main__":
    main()
