"""What Valkey pays for each thing that this system asks of it: ``python -m benchmarks.valkey_costs``.

CPU time of the server's process per operation, and its memory per thing that it keeps. Many connections send one
operation at a time, as many gateways do, none of which has enough to say to fill a batch; from one gateway with much to
say, each costs a half or less. Locations and points go through the code of the gateways, pub/sub over plain sockets.
`docs/capacity.md` says where the figures go.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import select
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, closing
from dataclasses import asdict, dataclass

from benchmarks.processes import cpu_s
from location_cache.redis import open_cache
from location_history.stream import open_stream
from nearby.channels import location_channel
from nearby.model import HistoryPoint, Location, UserId
from nearby.record import SIZE_BYTES, LocationRecord
from pubsub_router.resp import publish, subscribe
from tests.support.load_balancers import free_port
from tests.support.valkey import ValkeyServer

CONNECTIONS = 64
SUBSCRIBERS, CHANNELS, AUDIENCE = 1_000, 2_000, 40
TTL_S = 600.0
UNBOUNDED = 100_000_000


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of the server's CPU per operation, bytes of its memory per thing kept."""

    cache_write_us: float
    cache_read_us: float
    cache_entry_bytes: float
    stream_append_us: float
    stream_point_bytes: float
    publish_us: float
    delivery_us: float
    subscribe_us: float
    subscription_bytes: float


class Watched:
    """A server and what it has used since the last look."""

    def __init__(self, server: ValkeyServer) -> None:
        self._server = server
        self.look()

    def look(self) -> tuple[float, int]:
        """Return CPU microseconds and bytes of memory since the last look."""
        cpu, memory = cpu_s(self._server.pid), self._memory_bytes()
        before = getattr(self, "_seen", (cpu, memory))
        self._seen = cpu, memory
        return (cpu - before[0]) * 1e6, memory - before[1]

    def _memory_bytes(self) -> int:
        found = re.search(rb"used_memory:(\d+)", self._server.command("INFO", "memory"))
        assert found is not None
        return int(found[1])


def _people(count: int) -> list[UserId]:
    return [UserId(str(uuid.uuid4())) for _ in range(count)]


async def stores(server: ValkeyServer, port: int, operations: int) -> dict[str, float]:
    """Return what the cache and the history stream cost."""
    watched = Watched(server)
    users = _people(operations)
    now_ms = time.time_ns() // 1_000_000
    at = Location(41.88, -87.63, now_ms, 5.0, 1.0, 90.0)
    url = f"redis://127.0.0.1:{port}"
    costs: dict[str, float] = {}
    async with AsyncExitStack() as parts:
        caches = [await parts.enter_async_context(open_cache(url, TTL_S)) for _ in range(CONNECTIONS)]
        streams = [await parts.enter_async_context(open_stream(url, UNBOUNDED)) for _ in range(CONNECTIONS)]
        await asyncio.gather(*(cache.now_ms() for cache in caches))

        async def all_users(one: Callable[[int, UserId], Awaitable[None]]) -> tuple[float, float]:
            watched.look()
            for start in range(0, operations, CONNECTIONS):
                part = users[start : start + CONNECTIONS]
                await asyncio.gather(*(one(index, user) for index, user in enumerate(part)))
            cpu_us, grown_bytes = watched.look()
            return cpu_us / operations, grown_bytes / operations

        async def write(index: int, user: UserId) -> None:
            await caches[index].write_many([(user, LocationRecord.of(at))])

        async def read_forty(index: int, user: UserId) -> None:
            await caches[index].read_many(users[index * AUDIENCE : index * AUDIENCE + AUDIENCE])

        async def append(index: int, user: UserId) -> None:
            await streams[index].append_many([HistoryPoint(user, at)])

        costs["cache_write_us"], costs["cache_entry_bytes"] = await all_users(write)
        costs["cache_read_us"] = (await all_users(read_forty))[0] / AUDIENCE
        costs["stream_append_us"], costs["stream_point_bytes"] = await all_users(append)
    return costs


def _read(sockets: Sequence[socket.socket], until: Callable[[bytes], int], count: int) -> None:
    """Read from ``sockets`` until what ``until`` finds in it sums up to ``count``."""
    with select.epoll() as poll:
        by_number = {each.fileno(): each for each in sockets}
        for number in by_number:
            poll.register(number, select.EPOLLIN)
        while count > 0:
            ready = poll.poll(30)
            assert ready, f"{count} have not come"
            for number, _ in ready:
                data = by_number[number].recv(1 << 16)
                assert data, "the server has closed a connection"
                count -= until(data)


def pubsub(server: ValkeyServer, port: int, operations: int) -> dict[str, float]:
    """Return what publishing to nobody, each delivery, and subscribing cost."""
    watched = Watched(server)
    channels = [location_channel(user) for user in _people(CHANNELS)]
    with ExitStack() as stack:

        def connected() -> socket.socket:
            sock = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock

        publishers = [connected() for _ in range(CONNECTIONS)]

        def publish_all(rounds: int, listeners: Sequence[socket.socket]) -> float:
            watched.look()
            for turn in range(rounds):
                for index, sock in enumerate(publishers):
                    sock.sendall(publish(channels[(turn * CONNECTIONS + index) % CHANNELS], bytes(SIZE_BYTES)))
                _read(publishers, lambda data: data.count(b"\n"), CONNECTIONS)
                if listeners:
                    _read(listeners, lambda data: data.count(b"message"), CONNECTIONS * AUDIENCE)
            return watched.look()[0] / (rounds * CONNECTIONS)

        alone_us = publish_all(operations // CONNECTIONS, ())
        listeners = [connected() for _ in range(SUBSCRIBERS)]
        watched.look()
        each = CHANNELS * AUDIENCE // SUBSCRIBERS
        for index, sock in enumerate(listeners):
            own = [channels[(index + step * SUBSCRIBERS // AUDIENCE) % CHANNELS] for step in range(each)]
            assert len(set(own)) == each
            sock.sendall(subscribe(own))
        for sock in listeners:
            _subscribed(sock, each)
        subscribe_us, grown_bytes = watched.look()
        heard_us = publish_all(max(1, operations // CONNECTIONS // AUDIENCE), listeners)
    return {
        "publish_us": alone_us,
        "delivery_us": (heard_us - alone_us) / AUDIENCE,
        "subscribe_us": subscribe_us / (SUBSCRIBERS * each),
        "subscription_bytes": grown_bytes / (SUBSCRIBERS * each),
    }


def _subscribed(sock: socket.socket, count: int) -> None:
    """Read until ``count`` subscriptions are confirmed."""
    while count:
        data = sock.recv(1 << 16)
        assert data, "the server has closed the connection"
        count -= data.count(b"$9\r\nsubscribe")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--operations", type=int, default=100_000, help="of each kind")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, float] = {}
    parts: list[Callable[[ValkeyServer, int, int], dict[str, float]]] = [
        lambda *given: asyncio.run(stores(*given)),
        pubsub,
    ]
    for measure in parts:
        port = free_port()
        flags = ("--port", str(port), "--client-output-buffer-limit", "pubsub 0 0 0")
        with closing(ValkeyServer(*flags)) as server:
            server.start()
            found |= measure(server, port, options.operations)
    costs = Costs(**found)
    if options.json:
        print(json.dumps(asdict(costs)))
        return
    for name, value in asdict(costs).items():
        print(f"{name:20} {value:8.1f}")


if __name__ == "__main__":
    main()
