from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import func, insert, select, text

from nearby.errors import StoreUnavailable
from social_graph.database import Database, open_database
from social_graph.schema import changes


async def _count(database: Database) -> int:
    async with database.read() as connection:
        return await connection.scalar(select(func.count()).select_from(changes)) or 0


async def _write_and_fail(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(insert(changes).values(payload="{}", created_ms=1))
        raise ZeroDivisionError


async def test_an_exception_inside_a_write_rolls_it_back(database_url: str) -> None:
    async with open_database(database_url) as database:
        with pytest.raises(ZeroDivisionError):
            await _write_and_fail(database)
        assert await _count(database) == 0


async def test_a_read_sees_one_state_throughout(database_url: str) -> None:
    count = select(func.count()).select_from(changes)
    async with open_database(database_url) as database, database.read() as reading:
        assert await reading.scalar(count) == 0
        async with database.write() as writing:
            await writing.execute(insert(changes).values(payload="{}", created_ms=1))
        assert await reading.scalar(count) == 0
        assert await _count(database) == 1


async def test_concurrent_read_then_write_transactions_lose_nothing(database_url: str) -> None:
    async def add_one(database: Database) -> None:
        async with database.write() as connection:
            count = await connection.scalar(select(func.count()).select_from(changes))
            await connection.execute(insert(changes).values(payload=str(count), created_ms=1))

    # Two pools, as in two processes: only the database stands between them.
    async with open_database(database_url) as one, open_database(database_url) as other:
        await asyncio.gather(*(add_one(database) for database in (one, other) * 15))
        async with one.read() as connection:
            payloads = (await connection.scalars(select(changes.c.payload).order_by(changes.c.sequence))).all()
    assert payloads == [str(number) for number in range(30)]


async def test_numbers_of_deleted_rows_are_not_used_again(database_url: str) -> None:
    async with open_database(database_url) as database:
        async with database.write() as connection:
            await connection.execute(insert(changes).values(payload="{}", created_ms=1))
            await connection.execute(text("DELETE FROM changes"))
            await connection.execute(insert(changes).values(payload="{}", created_ms=1))
        async with database.read() as connection:
            assert await connection.scalar(select(func.max(changes.c.sequence))) == 2


async def test_a_database_that_stays_locked_is_unavailable(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("social_graph.database._WAIT_S", 0.05)
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN IMMEDIATE")
        async with open_database(database_url) as database:
            with pytest.raises(StoreUnavailable, match=r"social_graph.*locked"):
                async with database.write():
                    pytest.fail("two writers at once")
            assert await _count(database) == 0, "reading goes on"
            other.rollback()
            async with database.write() as connection:
                await connection.execute(insert(changes).values(payload="{}", created_ms=1))


async def test_a_database_without_tables_is_unavailable(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("bare") / "users.db"
    async with open_database(f"sqlite:///{path}") as database:
        with pytest.raises(StoreUnavailable):
            await _count(database)
