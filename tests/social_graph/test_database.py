from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import Select, String, bindparam, func, insert, literal_column, select, text, update

from nearby.errors import StoreUnavailable
from nearby.model import UserId
from social_graph.database import Database, open_database
from social_graph.graph import SocialGraph, open_social_graph
from social_graph.locks import hold
from social_graph.questions import Question
from social_graph.schema import changes, users
from tests.social_graph.clock import HeldClock
from tests.social_graph.people import person
from tests.support.eventually import eventually
from tests.support.postgresql import PostgresServer

ONE = insert(changes).values(sequence=1, payload="{}", created_ms=1)
COUNT = select(func.count()).select_from(changes)
COUNTED = Question(lambda _: COUNT)
NAMED = Question(
    lambda among: (
        select(users.c.handle, users.c.sharing_paused, bindparam("said", type_=String).label("said"))
        .where(among(users.c.id, "asked"))
        .order_by(users.c.handle)
    )
)
SLEEPING = Question(lambda _: select(func.pg_sleep(60)))


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
            with pytest.raises(StoreUnavailable):
                await database.ask(COUNTED)


async def test_a_password_in_the_url_is_not_told(shared_postgresql: PostgresServer) -> None:
    url = "postgresql://somebody:hunter2hunter2@127.0.0.1:1/users"
    async with open_database(url) as database:
        with pytest.raises(StoreUnavailable) as caught:
            await _count(database)
    assert "hunter2" not in str(caught.value)


async def test_a_question_is_answered_alike_by_both_databases(graph: SocialGraph, database_url: str) -> None:
    ann, bob, _ = [await person(graph, handle) for handle in ("ann", "bob", "cat")]
    await graph.sharing.pause(bob, None)
    async with open_database(database_url) as database:
        for said in ("a", "'; --", ""):
            rows = await database.ask(NAMED, said=said, asked=[bob, ann, UserId("nobody")])
            assert [tuple(row) for row in rows] == [("ann", False, said), ("bob", True, said)]
        assert list(await database.ask(NAMED, said="a", asked=[])) == []


async def test_questions_asked_together_are_answered_as_of_one_instant(graph: SocialGraph, database_url: str) -> None:
    ann = await person(graph, "ann")
    async with open_database(database_url) as database:
        named = NAMED, {"said": "a", "asked": [ann]}

        async def renamed() -> None:
            for number in range(20):
                async with database.write() as connection:
                    # One transaction: whoever sees the one without the other has looked at two states.
                    await connection.execute(insert(changes).values(sequence=number + 1, payload="{}", created_ms=1))
                    await connection.execute(update(users).where(users.c.id == ann).values(handle=f"ann_{number + 1}"))

        async def consistent() -> None:
            for _ in range(40):
                [[(count,)], [(handle, *_)], [(again,)]] = await database.ask_together(
                    (COUNTED, {}), named, (COUNTED, {})
                )
                assert handle == (f"ann_{count}" if count else "ann")
                assert again == count

        await asyncio.gather(renamed(), consistent(), consistent())


async def test_a_failure_among_questions_asked_together_leaves_the_pool_whole(postgresql_url: str) -> None:
    async with open_database(postgresql_url, pool_size=1, timeout_s=0.2) as database:
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="social_graph"):
                await database.ask_together((COUNTED, {}), (SLEEPING, {}))
            async with database.write() as connection:
                assert await connection.scalar(COUNT) == 0


async def test_a_question_sees_what_was_committed_before_and_nothing_else(database_url: str) -> None:
    async with open_database(database_url) as database:
        async with database.write() as writing:
            await writing.execute(ONE)
            assert (await database.ask(COUNTED))[0][0] == 0
        assert (await database.ask(COUNTED))[0][0] == 1


async def test_a_question_is_never_asked_on_a_connection_that_has_died(postgresql_url: str) -> None:
    end = select(func.count(func.pg_terminate_backend(literal_column("pid")))).select_from(text("pg_stat_activity"))
    others = end.where(text("datname = current_database() AND pid <> pg_backend_pid()"))
    async with open_database(postgresql_url, pool_size=2) as database, open_database(postgresql_url) as operator:
        async with database.read() as one, database.read() as other:
            drivers = [(await connection.get_raw_connection()).driver_connection for connection in (one, other)]
        assert await operator.scalar(others) == 2
        await eventually(lambda: all(driver is not None and driver.is_closed() for driver in drivers))
        assert (await database.ask(COUNTED))[0][0] == 0


async def test_a_question_that_takes_too_long_is_ended_and_leaves_the_pool_whole(postgresql_url: str) -> None:
    async with open_database(postgresql_url, pool_size=1, timeout_s=0.2) as database:
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="social_graph"):
                await database.ask(SLEEPING)
            assert (await database.ask(COUNTED))[0][0] == 0


async def test_a_question_that_nobody_waits_for_any_more_leaves_the_pool_whole(postgresql_url: str) -> None:
    async with open_database(postgresql_url, pool_size=1) as database:
        for asking in (database.ask(SLEEPING), database.ask_together((COUNTED, {}), (SLEEPING, {}))):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await asking
            assert (await database.ask(COUNTED))[0][0] == 0


async def test_questions_keep_to_the_bound_of_the_pool(postgresql_url: str) -> None:
    async with open_database(postgresql_url, pool_size=2, timeout_s=0.2) as database:
        async with database.read(), database.read():
            with pytest.raises(StoreUnavailable, match="social_graph"):
                await database.ask(COUNTED)
        assert len(await asyncio.gather(*(database.ask(COUNTED) for _ in range(20)))) == 20


async def test_a_mistake_in_a_question_is_not_taken_for_a_failure(postgresql_url: str) -> None:
    wrong: Select[tuple[int]] = select(literal_column("no_such_column")).select_from(users)
    async with open_database(postgresql_url) as database:
        with pytest.raises(Exception, match="no_such_column") as caught:
            await database.ask(Question(lambda _: wrong))
    assert not isinstance(caught.value, StoreUnavailable)
