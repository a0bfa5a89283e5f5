"""The invariant of the change feed: sequences grow in the order of commits, so that who tails it misses nothing."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from sqlalchemy import text

from nearby.changes import SharingChanged
from social_graph.changes import UNNUMBERED, append
from social_graph.database import Database, open_database
from social_graph.graph import SocialGraph, open_social_graph
from tests.social_graph import raw
from tests.social_graph.clock import NOW_MS, HeldClock
from tests.social_graph.people import person
from tests.support.eventually import eventually

PROCESSES = 3
PEOPLE = 8
CHANGES_EACH = 12


async def test_a_reader_who_tails_the_feed_while_many_write_misses_nothing(database_url: str, clock: HeldClock) -> None:
    async with AsyncExitStack() as opened:
        graphs = [
            await opened.enter_async_context(open_social_graph(database_url, clock, 60, timeout_s=60))
            for _ in range(PROCESSES)
        ]
        people = [await person(graphs[0], f"person_{number}") for number in range(PEOPLE)]

        async def switch(graph: SocialGraph, number: int) -> None:
            for _ in range(CHANGES_EACH // 2):
                await graph.sharing.pause(people[number], None)
                await graph.sharing.resume(people[number])

        seen: list[int] = []

        async def tail(total: int) -> None:
            while len(seen) < total:
                found = await graphs[-1].changes.changes_after(seen[-1] if seen else 0, 5)
                seen.extend(change.sequence for change in found)

        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            tasks.create_task(tail(PEOPLE * CHANGES_EACH))
            for number in range(PEOPLE):
                tasks.create_task(switch(graphs[number % PROCESSES], number))
    assert seen == list(range(1, PEOPLE * CHANGES_EACH + 1)), "in order, without a gap"


async def _append(database: Database, user: str, let_commit: asyncio.Event) -> int:
    async with database.write() as connection:
        change = await append(connection, SharingChanged(UNNUMBERED, raw.user_id(user), False), NOW_MS)
        await let_commit.wait()
    return change.sequence


async def test_who_appends_second_gets_its_number_after_the_first_has_committed(postgresql_url: str) -> None:
    async with open_database(postgresql_url, timeout_s=60) as database, asyncio.TaskGroup() as tasks:
        let_first, let_second = asyncio.Event(), asyncio.Event()
        let_second.set()
        first = tasks.create_task(_append(database, "1", let_first))
        await _waiting(database, 0, writers=1)
        second = tasks.create_task(_append(database, "2", let_second))
        await _waiting(database, 1, writers=2)
        assert not second.done()
        let_first.set()
        assert (await first, await second) == (1, 2)


async def _waiting(database: Database, count: int, writers: int) -> None:
    """Return once ``count`` of ``writers`` transactions wait for a lock."""
    states = text(
        "SELECT count(*) FILTER (WHERE wait_event_type = 'Lock'), count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        " AND backend_xid IS NOT NULL"
    )

    async def found() -> bool:
        (row,) = await database.rows(states)
        return tuple(row) == (count, writers)

    await eventually(found, within_s=60)


async def test_negative_control_a_sequence_of_the_database_lets_a_reader_miss_one(postgresql_url: str) -> None:
    await raw.execute(postgresql_url, "CREATE TABLE naive (sequence BIGSERIAL PRIMARY KEY)")
    insert, newest = text("INSERT INTO naive DEFAULT VALUES"), text("SELECT max(sequence) FROM naive")
    async with open_database(postgresql_url) as database:
        async with database.write() as slow:
            await slow.execute(insert)
            async with database.write() as quick:
                await quick.execute(insert)
            position = await database.scalar(newest)
        missed = await database.scalar(text(f"SELECT count(*) FROM naive WHERE sequence < {position}"))
    assert (position, missed) == (2, 1)


async def test_what_is_pruned_is_told_and_the_numbers_go_on(graph: SocialGraph, clock: HeldClock) -> None:
    ann = await person(graph, "ann")
    for _ in range(3):
        await graph.sharing.pause(ann, None)
        await graph.sharing.resume(ann)
        clock.advance(10)
    assert await graph.changes.prune(NOW_MS + 10_000) == 2
    part = await graph.changes.part_after(0, 10)
    assert ([change.sequence for change in part.changes], part.latest, part.pruned_to) == ([3, 4, 5, 6], 6, 2)
    assert await graph.changes.prune(NOW_MS + 10_000) == 0
    assert await graph.changes.prune(NOW_MS + 100_000, limit=3) == 3
    assert await graph.changes.prune(NOW_MS + 100_000) == 1
    part = await graph.changes.part_after(6, 10)
    assert (part.changes, part.latest, part.pruned_to) == ([], 6, 6)
    (paused,) = await graph.sharing.pause(ann, None)
    assert paused.sequence == 7


async def test_one_odd_clock_lets_nothing_younger_be_pruned(graph: SocialGraph, clock: HeldClock) -> None:
    ann = await person(graph, "ann")
    await graph.sharing.pause(ann, None)
    clock.advance(-1_000)
    await graph.sharing.resume(ann)
    assert await graph.changes.prune(NOW_MS - 500_000) == 0
    assert await graph.changes.prune(NOW_MS + 1) == 2
