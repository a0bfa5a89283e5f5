"""The API's reads next to the database driver's bare rate: ``python -m benchmarks.social_api``.

One real PostgreSQL with 10,000 users of 40 friends each, one API process with the rate limits that it has by default,
counted in a real Valkey. The API (and the bare driver, in its turn) has the first core of this machine; the servers and
the clients share the others. The rounds follow each other:

- ``bare page``: asyncpg alone, one user's friends with their names in one prepared query, eight connections
- ``REST page``: ``GET /v1/friends`` for one of 2,000 users after another, over 16 kept connections, each user with a
  token of their own, which is new to the API in the first round
- ``bare batch``: asyncpg alone, the friends of 100 users in one prepared query, two connections
- ``internal batch``: the endpoint that gateways ask, 100 friend lists a request, two connections
- ``reconnect``: the lists of all users, as one gateway asks for them when everybody comes back: 500 a request, four
  requests at once

Clients share cores with PostgreSQL, so what they cost is counted against the API's rate, never for it. They speak HTTP
over plain sockets: a page costs its client an eighth of what it costs the API. ``CPU`` is what one operation costs the
API's process, or the bare driver's; beside other load it tells more than the rate does. Of ``reconnect`` the time is
that of all users together. ``load`` is the machine's
average over the last minute, this benchmark included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import uvloop

from benchmarks.processes import cpu_s
from nearby.settings import parse_keys
from social_graph.upgrade import upgrade
from tests.api.api_process import RunningApi, environment, running_api
from tests.api.stack import SERVICE_TOKEN
from tests.support.postgresql import PostgresServer
from tests.support.valkey import ValkeyServer

USERS, READERS, FRIENDS = 10_000, 2_000, 40
LISTS_PER_REQUEST, LISTS_PER_RECONNECT, REQUESTS_AT_ONCE = 100, 500, 4
FILL = """
INSERT INTO users (id, handle, display_name, password_hash, sharing_paused, switch_sequence, tokens_valid_from_ms,
                   created_ms)
SELECT id, 'u_' || number, 'User number ' || number, '-', false, 0, 0, 0
FROM unnest($1::varchar[]) WITH ORDINALITY AS t (id, number)
"""
PAGE = """
SELECT u.id, u.handle, u.display_name, f.since_ms, f.sharing FROM users u JOIN friendships f ON f.friend_id = u.id
WHERE f.user_id = $1 ORDER BY f.friend_id LIMIT 51
"""
BATCH = """
SELECT f.user_id, f.friend_id, u.sharing_paused, u.sharing_paused_until_ms, u.switch_sequence
FROM friendships f JOIN users u ON u.id = f.friend_id WHERE f.user_id = ANY($1::varchar[])
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Operations per second, how long the 50th and the 99th of a hundred took, and the CPU time that one cost."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


async def for_a_while(pid: int, workers: int, seconds: float, once: Callable[[int], Awaitable[None]]) -> Measured:
    """Let ``workers`` call ``once``, each again and again with a growing number, for ``seconds``; ``pid`` works."""
    took_s: list[float] = []
    end_s = time.perf_counter() + seconds

    async def work(number: int) -> None:
        while (began_s := time.perf_counter()) < end_s:
            await once(number)
            took_s.append(time.perf_counter() - began_s)
            number += workers

    began_s, cpu_before_s = time.perf_counter(), cpu_s(pid)
    async with asyncio.TaskGroup() as tasks:
        for number in range(workers):
            tasks.create_task(work(number))
    elapsed_s = time.perf_counter() - began_s
    took_s.sort()
    p50, p99 = (took_s[int(len(took_s) * part)] * 1000 for part in (0.5, 0.99))
    return Measured(len(took_s) / elapsed_s, p50, p99, (cpu_s(pid) - cpu_before_s) / len(took_s) * 1e6)


async def fill(url: str) -> list[str]:
    """Put the users and their friendships, a ring in which each knows the 20 on either side, into the database."""
    users = sorted(str(uuid.uuid4()) for _ in range(USERS))
    sides = [step for step in range(-FRIENDS // 2, FRIENDS // 2 + 1) if step]
    rows = [(users[i], users[(i + step) % USERS], 0, "exact") for i in range(USERS) for step in sides]
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(FILL, users)
        columns = ("user_id", "friend_id", "since_ms", "sharing")
        await connection.copy_records_to_table("friendships", records=rows, columns=columns)
        await connection.execute("VACUUM ANALYZE users")
        await connection.execute("VACUUM ANALYZE friendships")
    finally:
        await connection.close()
    return users


class Keepalive:
    """One connection that sends a request and reads the answer, with next to no work of its own."""

    def __init__(self, url: str) -> None:
        parsed = httpx.URL(url)
        self._host, self._port = parsed.host, parsed.port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=4_194_304)

    async def ask(self, request: bytes) -> int:
        """Send a request and return how many bytes the answer's body has; anything but 200 is an error."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        await self._reader.readexactly(length)
        return length

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()


def get(path: str, token: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def post(path: str, token: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def over_http(pid: int, url: str, workers: int, seconds: float, request: Callable[[int], bytes]) -> Measured:
    connections = [Keepalive(url) for _ in range(workers)]
    for connection in connections:
        await connection.open()
    try:

        async def once(number: int) -> None:
            await connections[number % workers].ask(request(number))

        return await for_a_while(pid, workers, seconds, once)
    finally:
        for connection in connections:
            connection.close()


async def once_each(api: RunningApi, requests: list[bytes]) -> Measured:
    """Send every one of ``requests`` once, and measure what each list in their answers took."""
    waiting = iter(requests)

    async def work() -> None:
        connection = Keepalive(api.internal_url)
        await connection.open()
        for request in waiting:
            await connection.ask(request)
        connection.close()

    began_s, cpu_before_s = time.perf_counter(), cpu_s(api.pid)
    await asyncio.gather(*(work() for _ in range(REQUESTS_AT_ONCE)))
    elapsed_s = time.perf_counter() - began_s
    return Measured(USERS / elapsed_s, 0, elapsed_s * 1000, (cpu_s(api.pid) - cpu_before_s) / USERS * 1e6)


async def bare(url: str, query: str, arguments: list[object], workers: int, seconds: float) -> Measured:
    connections = [await asyncpg.connect(url) for _ in range(workers)]
    try:
        statements = [await connection.prepare(query) for connection in connections]

        async def once(number: int) -> None:
            await statements[number % workers].fetch(arguments[number % len(arguments)])

        return await for_a_while(os.getpid(), workers, seconds, once)
    finally:
        for connection in connections:
            await connection.close()


def chunks(users: list[str], size: int) -> list[list[str]]:
    return [users[start : start + size] for start in range(0, len(users), size)]


async def bare_rounds(url: str, users: list[str], seconds: float) -> dict[str, Measured]:
    """Measure the driver; to be called in a process that has the API's core."""
    batches: list[object] = list(chunks(users, LISTS_PER_REQUEST))
    return {
        "bare page": await bare(url, PAGE, list(users), 8, seconds),
        "bare batch": await bare(url, BATCH, batches, 2, seconds),
    }


async def api_rounds(api: RunningApi, users: list[str], seconds: float) -> dict[str, Measured]:
    keys = parse_keys(environment(Path(), "", _NOWHERE)["NEARBY_TOKEN_KEYS"])
    now_ms = time.time_ns() // 1_000_000
    reads = [get("/v1/friends", keys.issue(user, now_ms, 3_600)) for user in users[:READERS]]  # type: ignore[arg-type]

    def lists(size: int) -> list[bytes]:
        path, token = "/internal/v1/friend-lists", SERVICE_TOKEN.value
        return [post(path, token, json.dumps({"user_ids": each}).encode()) for each in chunks(users, size)]

    asked = lists(LISTS_PER_REQUEST)
    page = await over_http(api.pid, api.url, 16, seconds, lambda number: reads[number % len(reads)])
    batch = await over_http(api.pid, api.internal_url, 2, seconds, lambda number: asked[number % len(asked)])
    reconnect = await once_each(api, lists(LISTS_PER_RECONNECT))
    return {"REST page": page, "internal batch": batch, "reconnect": reconnect}


class _Nowhere(ValkeyServer):
    """A server whose address is never used."""

    def __init__(self) -> None:
        """Make nothing."""

    @property
    def url(self) -> str:
        return "redis://nowhere:1"


_NOWHERE = _Nowhere()


async def measure(seconds: float, rounds: int) -> dict[str, list[Measured]]:
    cores = sorted(os.sched_getaffinity(0))
    first, others = {cores[0]}, set(cores[1:]) or {cores[0]}
    found: dict[str, list[Measured]] = {}
    directory = Path(tempfile.mkdtemp(prefix="nearby-benchmark-"))
    os.sched_setaffinity(0, others)
    with closing(PostgresServer("shared_buffers=256MB")) as server, closing(ValkeyServer()) as valkey:
        server.start()
        valkey.start()
        url = server.url(server.create_database())
        await asyncio.to_thread(upgrade, url)
        users = await fill(url)
        os.sched_setaffinity(0, first)  # whom we start inherits it
        async with running_api(directory, url, valkey, {"NEARBY_RATE_LIMIT_URL": valkey.url}) as api:
            for _ in range(rounds):
                os.sched_setaffinity(0, first)
                measured = await bare_rounds(url, users, seconds)
                os.sched_setaffinity(0, others)
                measured |= await api_rounds(api, users, seconds)
                for name, one in measured.items():
                    found.setdefault(name, []).append(one)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = uvloop.run(measure(options.seconds, options.rounds))
    print(f"load {os.getloadavg()[0]:.1f}")
    print(f"{'':16}{'per second':>12}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}   each round (p99 ms)")
    for name, measured in found.items():
        lists = LISTS_PER_REQUEST if name.endswith("batch") else 1
        rates = [one.per_s * lists for one in measured]
        middle = [statistics.median(values) for values in zip(*((m.p50_ms, m.p99_ms) for m in measured), strict=True)]
        cpu_us = statistics.median(one.cpu_us / lists for one in measured)
        shown = " ".join(f"{rate:,.0f} ({one.p99_ms:.0f})" for rate, one in zip(rates, measured, strict=True))
        print(f"{name:16}{statistics.median(rates):12,.0f}{middle[0]:9.1f}{middle[1]:9.1f}{cpu_us:9.0f}   {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
