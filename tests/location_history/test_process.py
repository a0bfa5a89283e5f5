"""``python -m location_history`` as a process: killed, stopped, misconfigured."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from discovery.connect import open_discovery
from location_history.consumer import open_consumer
from location_history.stores import open_store
from location_history.stream import open_stream
from nearby.model import HistoryPoint, Location, UserId
from nearby.ports import Member, MemberState, Role
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

ALICE = UserId("00000000-0000-4000-8000-000000000001")
WITHIN_S = 15.0
TOKEN = "a token of operators"


@dataclass
class Place:
    """Where a writer works: a stream, a store and a discovery of its own."""

    valkey: ValkeyServer
    directory: Path

    @property
    def environ(self) -> dict[str, str]:
        return {
            "NEARBY_DISCOVERY": f"file://{self.directory}/discovery",
            "NEARBY_HISTORY_STREAM_URL": self.valkey.url,
            "NEARBY_HISTORY_URL": self.history_url,
            "NEARBY_HISTORY_STREAMS": "1",
            "NEARBY_HISTORY_WRITER_ID": "writer-7",
            "NEARBY_ADMIN_TOKEN": TOKEN,
            # Points of a test are recorded in 1970.
            "NEARBY_HISTORY_RETENTION_DAYS": "3650",
        }

    @property
    def history_url(self) -> str:
        return f"sqlite:///{self.database}"

    @property
    def database(self) -> Path:
        return self.directory / "history.sqlite"

    async def member(self, *, alive: bool = True) -> Member | None:
        async with open_discovery(f"file://{self.directory}/discovery") as discovery, asyncio.timeout(WITHIN_S):
            async for members in discovery.watch_members(Role.HISTORY_WRITER):
                if bool(members) == alive:
                    return members.get("writer-7")
        raise AssertionError("the watch ended")


@pytest.fixture
def place(valkey: ValkeyServer, tmp_path: Path) -> Place:
    return Place(valkey, tmp_path)


@asynccontextmanager
async def process(environ: dict[str, str]) -> AsyncIterator[Process]:
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "location_history"), env=os.environ | environ, stdin=DEVNULL, stderr=PIPE
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


def points(count: int) -> list[HistoryPoint]:
    return [HistoryPoint(ALICE, Location(1.0, 2.0, 2**42 + instant)) for instant in range(count)]


async def stored(place: Place) -> list[int]:
    async with open_store(place.history_url, 90) as store:
        page = await store.read(ALICE, 0, 2**53, 100_000)
        return [point.location.recorded_at_ms - 2**42 for point in reversed(page.points)]


async def test_a_writer_announces_itself_stores_points_and_stops_cleanly(place: Place) -> None:
    async with process(place.environ) as writer, open_stream(place.valkey.url, 100_000) as stream:
        member = await place.member()
        assert member is not None
        assert (member.state, member.pid) == (MemberState.SERVING, writer.pid)
        await stream.append_many(points(1_000))

        async def all_stored() -> bool:
            return await stored(place) == list(range(1_000))

        await eventually(all_stored, WITHIN_S)
        async with httpx.AsyncClient(base_url=member.admin_url) as admin:
            assert (await admin.get("/healthz")).status_code == 200
            assert (await admin.get("/readyz")).status_code == 200
            assert "nearby_history_points_written_total 1000.0" in (await admin.get("/metrics")).text
        writer.terminate()
        _, log = await asyncio.wait_for(writer.communicate(), WITHIN_S)
        assert (writer.returncode, log) == (0, b"")
        assert await place.member(alive=False) is None


async def test_entries_of_a_killed_writer_are_stored_by_another_none_lost_none_twice(place: Place) -> None:
    async with open_stream(place.valkey.url, 100_000) as stream:
        async with process(place.environ) as writer:
            await place.member()
            # While the database is locked the writer sits on its batch; so it is killed in the middle of one.
            with closing(sqlite3.connect(place.database, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                await stream.append_many(points(2_000))
                await eventually(lambda: b"writer-7" in place.valkey.command("XPENDING", "history:0", "writers"))
                writer.kill()
                await writer.wait()
        assert await stored(place) == []
        async with (
            open_consumer(place.valkey.url, "writer-8", claim_after_s=0.1) as consumer,
            open_store(place.history_url, 90) as store,
        ):
            while (await consumer.backlog()).entries_count:
                entries = await consumer.read(512)
                await store.write_many([entry.point for entry in entries])
                await consumer.acknowledge(entries)
            assert (await consumer.backlog()).lost_count == 0
        assert await stored(place) == list(range(2_000))


async def test_a_writer_killed_again_and_again_under_load_loses_nothing(place: Place) -> None:
    async with open_stream(place.valkey.url, 100_000) as stream:
        for round_ in range(3):
            async with process(place.environ) as writer:
                await place.member()
                await stream.append_many(points(4_000)[round_::3])

                async def some_stored(least: int = round_ * 1_000 + 1) -> bool:
                    return len(await stored(place)) >= least

                await eventually(some_stored, WITHIN_S)
                writer.kill()
                await writer.wait()
        async with process(place.environ):

            async def all_stored() -> bool:
                return await stored(place) == list(range(4_000))

            await eventually(all_stored, WITHIN_S)


async def test_a_wrong_setting_is_told_in_one_line(place: Place) -> None:
    async with process(place.environ | {"NEARBY_HISTORY_RETENTION_DAYS": "forever"}) as writer:
        _, log = await asyncio.wait_for(writer.communicate(), WITHIN_S)
    assert writer.returncode == 2
    assert log == b"error: NEARBY_HISTORY_RETENTION_DAYS is 'forever'; allowed: 0.01 to 3650\n"


async def test_a_writer_waits_for_a_stream_that_is_not_there_yet(place: Place) -> None:
    absent = f"unix://{place.directory}/nobody"
    async with process(place.environ | {"NEARBY_HISTORY_STREAM_URL": absent}):
        member = await place.member()
        assert member is not None
        async with httpx.AsyncClient(base_url=member.admin_url) as admin:

            async def told() -> bool:
                answer = await admin.get("/readyz")
                # A dead backend makes no process unready: it would stop every roll-out, and mend nothing.
                assert answer.status_code == 200
                return answer.text.startswith("ready\nhistory_stream is unavailable")

            await eventually(told)
            assert (await admin.get("/healthz")).status_code == 200
