"""The history stream on a real server that dies, freezes and holds odd entries."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing

import pytest

from location_history.consumer import open_consumer
from location_history.entries import stream_key
from location_history.stream import open_stream
from nearby.errors import StoreUnavailable
from nearby.model import HistoryPoint, Location, UserId
from redis_topology.answering import CALL_TIMEOUT_S
from tests.conftest import ValkeyServers
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

POINT = HistoryPoint(UserId("00000000-0000-4000-8000-000000000001"), Location(1.0, 2.0, 3))
SLACK_S = 1.0


async def test_a_dead_server_is_told_at_once(valkey_servers: ValkeyServers) -> None:
    server = valkey_servers()
    async with open_stream(server.url, 1_000) as stream, open_consumer(server.url, "one") as consumer:
        await stream.append_many([POINT])
        entries = await eventually(lambda: consumer.read(1))
        server.kill()
        for call in (stream.append_many([POINT]), consumer.read(1), consumer.acknowledge(entries), consumer.backlog()):
            started_s = time.monotonic()
            with pytest.raises(StoreUnavailable, match="history_stream"):
                await call
            assert time.monotonic() - started_s < SLACK_S


async def test_a_frozen_server_is_told_within_the_bound(valkey_servers: ValkeyServers) -> None:
    server = valkey_servers()
    async with open_stream(server.url, 1_000) as stream, open_consumer(server.url, "one") as consumer:
        await stream.append_many([POINT])
        entries = await eventually(lambda: consumer.read(1))
        server.freeze()
        started_s = time.monotonic()
        calls = stream.append_many([POINT]), consumer.read(1), consumer.acknowledge(entries), consumer.backlog()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - started_s < CALL_TIMEOUT_S + SLACK_S
        assert [type(result) for result in results] == [StoreUnavailable] * 4


async def test_entries_whose_delivery_was_cut_off_are_read_again(valkey_servers: ValkeyServers) -> None:
    server = valkey_servers()
    async with open_stream(server.url, 1_000) as stream, open_consumer(server.url, "one") as consumer:
        assert await consumer.read(1) == []
        await stream.append_many([POINT])
        server.freeze()
        with pytest.raises(StoreUnavailable):
            await consumer.read(1)
        # On waking, the server delivers to a connection that nobody reads any more.
        server.thaw()
        [entry] = await eventually(lambda: consumer.read(1))
        assert entry.point.location == POINT.location


async def test_a_server_that_came_back_empty_is_used_again(valkey_servers: ValkeyServers) -> None:
    server = valkey_servers()
    async with open_stream(server.url, 1_000) as stream, open_consumer(server.url, "one") as consumer:
        await stream.append_many([POINT])
        assert await eventually(lambda: consumer.read(1))
        server.restart()

        async def append() -> bool:
            try:
                await stream.append_many([POINT])
            except StoreUnavailable as error:
                raise AssertionError from error
            return True

        await eventually(append)

        async def read() -> bool:
            try:
                return bool(await consumer.read(1))
            except StoreUnavailable as error:
                raise AssertionError from error

        await eventually(read)


@pytest.mark.parametrize("fields", [["u", "a", "r", "x", "f", "1"], ["something", "else"]])
async def test_an_entry_that_cannot_be_read_is_counted_and_left_for_a_newer_process(
    valkey: ValkeyServer, fields: list[str]
) -> None:
    valkey.command("XADD", "history:0", "*", *fields)
    async with open_stream(valkey.url, 1_000) as stream, open_consumer(valkey.url, "one") as consumer:
        await stream.append_many([POINT])
        entries = await eventually(lambda: consumer.read(10))
        assert [entry.point.location for entry in entries] == [POINT.location]
        await consumer.acknowledge(entries)
        assert consumer.unreadable_count == 1
        assert (await consumer.backlog()).entries_count == 1


async def test_I4_what_was_appended_durably_survives_the_death_of_its_server() -> None:
    server = ValkeyServer("--appendonly", "yes", "--appendfsync", "everysec")
    with closing(server):
        server.start()
        async with open_stream(server.url, 100_000) as stream:
            for _ in range(5):
                await stream.append_many([POINT] * 100, durable=True)
                # Killed at once, many times, since now and then the server holds back what it writes to its file.
                length = await asyncio.to_thread(server.command, "XLEN", stream_key(0))
                await asyncio.to_thread(server.restart)
                assert await asyncio.to_thread(server.command, "XLEN", stream_key(0)) == length


async def test_a_server_without_a_disk_is_not_waited_for(
    valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_stream(valkey.url, 100_000) as stream:
        for _ in range(2):
            await stream.append_many([POINT], durable=True)
    assert [record.message[:62] for record in caplog.records] == [
        "acknowledged batches may not survive the history stream's serv"
    ]
