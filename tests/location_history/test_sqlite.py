"""The SQLite store beside other processes, and where it cannot work."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from asyncio.subprocess import PIPE
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import pytest

from location_history import sqlite
from location_history.sqlite import SqliteHistoryStore, open_sqlite
from location_history.stores import open_store
from nearby.errors import SettingsError, StoreUnavailable
from nearby.model import HistoryPoint, Location, UserId
from tests.support.eventually import eventually

RETENTION_MS = 1_000
ALICE = UserId("00000000-0000-4000-8000-000000000001")
WITHIN_S = 10.0


def open_history(path: Path) -> AbstractAsyncContextManager[SqliteHistoryStore]:
    return open_sqlite(path, RETENTION_MS, lambda: 0)


def point(recorded_at_ms: int) -> HistoryPoint:
    return HistoryPoint(ALICE, Location(1.0, 2.0, recorded_at_ms))


async def test_a_write_that_returned_survives_the_kill_of_its_process(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, signal
from pathlib import Path
from location_history.sqlite import open_sqlite
from nearby.model import HistoryPoint, Location, UserId

async def main():
    async with open_sqlite(Path({str(tmp_path / "history.sqlite")!r}), 1_000, lambda: 0) as store:
        await store.write_many([HistoryPoint(UserId({ALICE!r}), Location(1.0, 2.0, n)) for n in range(600)])
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await asyncio.wait_for(process.wait(), WITHIN_S)
    async with open_history(tmp_path / "history.sqlite") as store:
        assert len((await store.read(ALICE, 0, 1_000, 1_000)).points) == 600


async def test_another_process_reads_while_this_one_writes(tmp_path: Path) -> None:
    code = f"""
import asyncio
from pathlib import Path
from location_history.sqlite import open_sqlite
from nearby.model import UserId

async def main():
    async with open_sqlite(Path({str(tmp_path / "history.sqlite")!r}), 1_000, lambda: 0) as store:
        while input():
            print(len((await store.read(UserId({ALICE!r}), 0, 1_000, 1_000)).points), flush=True)

asyncio.run(main())
"""
    async with open_history(tmp_path / "history.sqlite") as store:
        reader = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=PIPE, stdout=PIPE)
        assert reader.stdin is not None
        assert reader.stdout is not None
        for count in range(1, 4):
            await store.write_many([point(count)])
            reader.stdin.write(b"read\n")
            assert int(await asyncio.wait_for(reader.stdout.readline(), WITHIN_S)) == count
        reader.stdin.write(b"\n")
        await asyncio.wait_for(reader.wait(), WITHIN_S)


async def test_a_commit_is_synchronous_with_the_disk(tmp_path: Path) -> None:
    async with open_history(tmp_path / "history.sqlite") as store:
        [[synchronous]] = await store._connection.execute_fetchall("PRAGMA synchronous")
        [[journal]] = await store._connection.execute_fetchall("PRAGMA journal_mode")
    assert (synchronous, journal) == (2, "wal")


async def test_a_database_locked_by_another_process_is_unavailable_and_then_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_TIMEOUT_S", 0.1)
    async with open_history(tmp_path / "history.sqlite") as store:
        with closing(sqlite3.connect(tmp_path / "history.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="history is unavailable: OperationalError: database is locked"):
                await store.write_many([point(1)])
            assert (await store.read(ALICE, 0, 10, 10)).points == ()
            other.execute("ROLLBACK")
        await store.write_many([point(1)])
        assert len((await store.read(ALICE, 0, 10, 10)).points) == 1


async def test_a_cancelled_write_leaves_no_transaction_open(tmp_path: Path) -> None:
    async with open_history(tmp_path / "history.sqlite") as store:
        write = asyncio.ensure_future(store.write_many([point(instant) for instant in range(50_000)]))
        await eventually(lambda: store._connection.in_transaction)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        with closing(sqlite3.connect(tmp_path / "history.sqlite", timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
        assert (await store.read(ALICE, 0, 100_000, 1)).points == ()


async def test_points_are_expired_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_DELETE_CHUNK", 10)
    async with open_history(tmp_path / "history.sqlite") as store:
        await store.write_many([point(instant) for instant in range(35)])
        assert await store.delete_expired(RETENTION_MS + 29) == 30
        assert await store.delete_expired(RETENTION_MS + 1_000) == 5


async def test_a_deletion_goes_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_DELETE_CHUNK", 10)
    async with open_history(tmp_path / "history.sqlite") as store:
        await store.write_many([point(instant) for instant in range(35)])
        await store.delete(ALICE, 0, 30, 1)
        page = await store.read(ALICE, 0, 100, 100)
        assert [found.location.recorded_at_ms for found in page.points] == [34, 33, 32, 31, 30]


async def test_deletions_are_remembered_for_a_while_only(tmp_path: Path) -> None:
    async with open_history(tmp_path / "history.sqlite") as store:
        await store.delete(ALICE, 0, 30, 1)
        assert await store.delete_expired(sqlite.DELETIONS_KEPT_MS) == 0
        await store.write_many([point(1)])
        assert (await store.read(ALICE, 0, 100, 100)).points == ()
        assert await store.delete_expired(sqlite.DELETIONS_KEPT_MS + 1) == 0
        await store.write_many([point(1)])
        assert len((await store.read(ALICE, 0, 100, 100)).points) == 1


OLD_TABLE = """
CREATE TABLE history (user_id TEXT NOT NULL, recorded_at_ms INTEGER NOT NULL, lat_deg REAL NOT NULL,
    lon_deg REAL NOT NULL, accuracy_m REAL, speed_mps REAL, heading_deg REAL, flagged INTEGER NOT NULL,
    PRIMARY KEY (user_id, recorded_at_ms)) WITHOUT ROWID;
CREATE INDEX history_by_time ON history (recorded_at_ms);
"""


async def test_a_file_from_before_points_had_an_end_is_upgraded(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "history.sqlite")) as old:
        old.executescript(OLD_TABLE)
        old.execute("INSERT INTO history VALUES (?, 5, 1.0, 2.0, NULL, NULL, NULL, 0)", (ALICE,))
        old.commit()
    async with open_history(tmp_path / "history.sqlite") as first, open_history(tmp_path / "history.sqlite") as second:
        await first.write_many([point(6)])
        assert (await second.read(ALICE, 0, 100, 100)).points == (point(6), point(5))
        assert await second.delete_expired(RETENTION_MS + 5) == 1
        await second.delete(ALICE, 0, 100, 1)
        assert (await first.read(ALICE, 0, 100, 100)).points == ()


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite").write_text("not a database" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        async with open_history(tmp_path / "history.sqlite"):
            pass


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="history"):
        async with open_history(tmp_path / "file" / "history.sqlite"):
            pass


@pytest.mark.parametrize("url", ["cassandra://localhost", "sqlite://relative", "sqlite:///", "history.sqlite", ""])
def test_an_unknown_address_of_the_history_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="NEARBY_HISTORY_URL"):
        open_store(url, 90)
