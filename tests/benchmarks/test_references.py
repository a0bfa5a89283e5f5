"""Each reference server for real: 20 users who watch six others each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.references.local import LocalReference, local_references
from benchmarks.targets import Target, watched
from tests.benchmarks.running import Client, Running, entry, running

USERS, FRIENDS, ROUNDS = 20, 6, 5
REFERENCES = local_references(FRIENDS)
SENDER = REFERENCES[0]


@pytest.fixture(params=REFERENCES, ids=lambda reference: reference.name)
def reference(request: pytest.FixtureRequest) -> Target:
    built: LocalReference = request.param
    built.prepare()
    return built


@pytest_asyncio.fixture
async def server(reference: Target, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(reference, USERS, tmp_path) as started:
        yield started


async def everybody(server: Running) -> list[Client]:
    return list(await asyncio.gather(*(server.client(user) for user in range(USERS))))


def expected(user: int) -> list[tuple[str, int]]:
    """What the watcher gets of rounds in which each user publishes once, in the order of the users."""
    return [(f"{friend:036}", number) for number in range(ROUNDS) for friend in sorted(watched(user, USERS, FRIENDS))]


async def test_each_watcher_gets_every_entry_of_those_it_watches_once_and_in_order(server: Running) -> None:
    clients = await everybody(server)
    for number in range(ROUNDS):
        for user in range(USERS):
            assert server.publish(user, entry(user, number)) > 0
    for user, client in enumerate(clients):
        # Nothing is still to come: somebody whom all of them got last has been published last.
        await client.read_until(ROUNDS * FRIENDS)
        assert client.entries == expected(user)


async def test_pings_and_closes_are_answered(server: Running) -> None:
    client = await server.client(0)
    async with asyncio.timeout(10):
        await (await client.connection.ping())
        await client.connection.close()
    assert client.connection.close_code == 1000


async def test_who_is_gone_takes_nothing_from_the_others(server: Running) -> None:
    clients = await everybody(server)
    left, stays = 3, 4
    assert left in watched(stays, USERS, FRIENDS)
    for number in range(ROUNDS):
        for user in range(USERS):
            server.publish(user, entry(user, number))
            clients[left].connection.transport.abort()
    await clients[stays].read_until(ROUNDS * FRIENDS)
    assert clients[stays].entries == expected(stays)


async def test_nothing_is_said_on_standard_error(server: Running) -> None:
    for client in await everybody(server):
        await client.connection.close()
    assert await server.stop() in {"", "dropped 0 frames\n"}


async def test_the_sender_drops_whole_frames_of_who_does_not_read_and_counts_them(tmp_path: Path) -> None:
    SENDER.prepare()
    total, padding = 600, "x" * 16_000
    async with running(SENDER, USERS, tmp_path) as server:
        slow, reader = await server.client(1), await server.client(2)
        slow.connection.transport.pause_reading()
        for number in range(total):
            server.publish(0, entry(0, number, padding))
            await reader.read_until(number + 1)
        slow.connection.transport.resume_reading()
        server.publish(0, entry(0, total))
        while (f"{0:036}", total) not in slow.entries:
            await slow.read()
        numbers = [number for _, number in slow.entries]
        assert numbers == sorted(set(numbers))
        assert 0 < len(numbers) < total
        assert await server.stop() == f"dropped {total + 1 - len(numbers)} frames\n"
