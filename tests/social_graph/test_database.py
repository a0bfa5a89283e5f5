from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import func, insert, select, text, update

from nearby.errors import StoreUnavailable
from nearby.model import UserId
from social_graph.database import Database, open_database
from social_graph.graph import SocialGraph, open_social_graph
from social_graph.locks import hold
from social_graph.schema import changes, users
from tests.social_graph.clock import HeldClock
from tests.social_graph.people import person
from tests.support.postgresql import PostgresServer

ONE = insert(changes).values(sequence=1, payload="{}", created_ms=1)
COUNT = select(func.count()).select_from(changes)


async def _count(database: Database) -> int:
    async with database.read() as connection:
        return await connection.scalar(COUNT) or 0


async def _write_and_fail(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(ONE)
        raise ZeroDivisionError


async def test_an_exception_inside_a_write_rolls_it_back(database_url: str) -> None:
    async with open_database(database_url) as database:
        with pytest.raises(ZeroDivisionError):
            await _write_and_fail(database)
        assert await _count(database) == 0


async def test_a_read_sees_one_state_throughout(database_url: str) -> None:
    async with open_database(database_url) as database, database.read() as reading:
        assert await reading.scalar(COUNT) == 0
        async with database.write() as writing:
            await writing.execute(ONE)
        assert await reading.scalar(COUNT) == 0
        assert await _count(database) == await database.scalar(COUNT) == 1


async def test_transactions_that_hold_the_same_user_run_one_after_another(
    graph: SocialGraph, database_url: str
) -> None:
    ann = await person(graph, "ann")
    bob = await person(graph, "bob")

    async def add_one(database: Database, *held: UserId) -> None:
        async with database.write() as connection:
            await hold(connection, *held)
            said = await connection.scalar(select(users.c.display_name).where(users.c.id == ann))
            number = int(said) if said and said.isdecimal() else 0
            await connection.execute(update(users).where(users.c.id == ann).values(display_name=str(number + 1)))

    # Two pools, as in two processes: only the database stands between them. And either order of the two users.
    async with open_database(database_url) as one, open_database(database_url) as other:
        await asyncio.gather(
            *(add_one(database, *held) for database in (one, other) * 5 for held in ((ann,), (ann, bob), (bob, ann)))
        )
        assert await one.scalar(select(users.c.display_name).where(users.c.id == ann)) == "30"


async def test_on_postgresql_a_transaction_that_holds_one_user_does_not_wait_for_another(
    postgresql_url: str, clock: HeldClock
) -> None:
    async with open_social_graph(postgresql_url, clock, 60) as graph, open_database(postgresql_url) as database:
        ann, bob = await person(graph, "ann"), await person(graph, "bob")
        async with database.write() as connection, asyncio.timeout(30):
            await hold(connection, ann)
            await graph.sharing.pause(bob, None)
            await graph.credentials.log_in("bob", "whatever it is")


async def test_a_database_that_stays_locked_is_unavailable(sqlite_url: str) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN IMMEDIATE")
        async with open_database(sqlite_url, timeout_s=0.05) as database:
            with pytest.raises(StoreUnavailable, match=r"social_graph.*locked"):
                async with database.write():
                    pytest.fail("two writers at once")
            assert await _count(database) == 0, "reading goes on"
            other.rollback()
            async with database.write() as connection:
                await connection.execute(ONE)


async def test_a_user_who_stays_held_is_unavailable(postgresql_url: str, clock: HeldClock) -> None:
    async with open_social_graph(postgresql_url, clock, 60) as graph:
        ann = await person(graph, "ann")
    async with open_database(postgresql_url) as one, open_database(postgresql_url, timeout_s=0.2) as other:
        async with one.write() as holding:
            await hold(holding, ann)
            with pytest.raises(StoreUnavailable, match="social_graph"):
                async with other.write() as connection:
                    await hold(connection, ann)
            assert await _count(other) == 0, "reading goes on"
        async with other.write() as connection:
            await hold(connection, ann)


async def test_a_statement_that_takes_too_long_is_ended(postgresql_url: str) -> None:
    async with open_database(postgresql_url, timeout_s=0.2) as database:
        with pytest.raises(StoreUnavailable, match="social_graph"):
            await database.rows(text("SELECT pg_sleep(60)"))
        assert await _count(database) == 0


async def test_the_pool_is_bounded(postgresql_url: str) -> None:
    async with open_database(postgresql_url, pool_size=2, timeout_s=0.2) as database:
        async with database.read(), database.read():
            with pytest.raises(StoreUnavailable, match="social_graph"):
                await database.scalar(text("SELECT 1"))
        assert await database.scalar(text("SELECT 1")) == 1


async def test_a_database_without_tables_is_unavailable(
    tmp_path_factory: pytest.TempPathFactory, shared_postgresql: PostgresServer
) -> None:
    path = tmp_path_factory.mktemp("bare") / "users.db"
    for url in (f"sqlite:///{path}", shared_postgresql.url("template1"), shared_postgresql.url("no_such_database")):
        async with open_database(url) as database:
            with pytest.raises(StoreUnavailable):
                await _count(database)


async def test_a_password_in_the_url_is_not_told(shared_postgresql: PostgresServer) -> None:
    url = "postgresql://somebody:hunter2hunter2@127.0.0.1:1/users"
    async with open_database(url) as database:
        with pytest.raises(StoreUnavailable) as caught:
            await _count(database)
    assert "hunter2" not in str(caught.value)
