"""What every history stream promises, its producers and its consumers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from location_history.consumer import RedisHistoryConsumer, open_consumer
from location_history.entries import StreamEntry
from location_history.fences import fence_key, is_behind
from location_history.stream import open_stream
from nearby.model import HistoryPoint, Location, UserId
from nearby.ports import HistoryStream
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

ALICE, BOB = (UserId(f"00000000-0000-4000-8000-00000000000{digit}") for digit in "12")


@dataclass(frozen=True)
class Opened:
    stream: Callable[[str, int], AbstractAsyncContextManager[HistoryStream]]
    consumer: Callable[[str, str, float], AbstractAsyncContextManager[RedisHistoryConsumer]]


@pytest.fixture(params=[Opened(open_stream, open_consumer)], ids=["redis"])
def open_(request: pytest.FixtureRequest) -> Opened:
    opened: Opened = request.param
    return opened


@pytest.fixture
async def stream(open_: Opened, valkey: ValkeyServer) -> AsyncIterator[HistoryStream]:
    async with open_.stream(valkey.url, 100_000) as opened:
        yield opened


@pytest.fixture
async def consumer(open_: Opened, valkey: ValkeyServer) -> AsyncIterator[RedisHistoryConsumer]:
    async with open_.consumer(valkey.url, "one", 15.0) as opened:
        yield opened


def points(first: int, last: int) -> list[HistoryPoint]:
    return [HistoryPoint(ALICE, Location(1.0, 2.0, instant)) for instant in range(first, last + 1)]


def instants(entries: list[StreamEntry]) -> list[int]:
    return [entry.point.location.recorded_at_ms for entry in entries]


async def read(consumer: RedisHistoryConsumer, limit: int = 512) -> list[StreamEntry]:
    """The next entries; a read that finds none means only that one should look again."""
    return await eventually(lambda: consumer.read(limit))


async def test_what_was_appended_is_read_in_order(stream: HistoryStream, consumer: RedisHistoryConsumer) -> None:
    full = HistoryPoint(ALICE, Location(37.5665, -126.978, 1, 8.5, 1.25, 359.99), flagged=True)
    await stream.append_many([full, *points(2, 3)])
    entries = await read(consumer)
    assert [replace(entry.point, accepted_at_ms=0) for entry in entries] == [full, *points(2, 3)]


async def test_a_consumer_that_came_first_gets_what_is_appended_later(
    stream: HistoryStream, consumer: RedisHistoryConsumer
) -> None:
    assert await consumer.read(10) == []
    await stream.append_many(points(1, 1))
    assert instants(await read(consumer)) == [1]


async def test_a_read_takes_no_more_than_its_limit(stream: HistoryStream, consumer: RedisHistoryConsumer) -> None:
    await stream.append_many(points(1, 5))
    assert instants(await read(consumer, 3)) == [1, 2, 3]
    assert instants(await read(consumer, 3)) == [4, 5]


async def test_two_consumers_share_the_work(
    open_: Opened, stream: HistoryStream, consumer: RedisHistoryConsumer, valkey: ValkeyServer
) -> None:
    await stream.append_many(points(1, 6))
    async with open_.consumer(valkey.url, "two", 15.0) as other:
        assert instants(await read(consumer, 2)) == [1, 2]
        assert instants(await read(other, 10)) == [3, 4, 5, 6]


async def test_acknowledged_entries_are_gone_and_their_memory_returned(
    stream: HistoryStream, consumer: RedisHistoryConsumer
) -> None:
    await stream.append_many(points(1, 3))
    await consumer.acknowledge(await read(consumer, 2))
    backlog = await consumer.backlog()
    assert (backlog.entries_count, backlog.lost_count) == (1, 0)
    await consumer.acknowledge(await read(consumer))
    backlog = await consumer.backlog()
    assert (backlog.entries_count, backlog.oldest_s, backlog.lost_count) == (0, 0.0, 0)


async def test_an_entry_acknowledged_twice_counts_once(stream: HistoryStream, consumer: RedisHistoryConsumer) -> None:
    await stream.append_many(points(1, 2))
    entries = await read(consumer, 1)
    await consumer.acknowledge(entries)
    await consumer.acknowledge(entries)
    backlog = await consumer.backlog()
    assert (backlog.entries_count, backlog.lost_count) == (1, 0)


async def test_a_consumer_that_comes_back_finds_its_unfinished_entries(
    open_: Opened, stream: HistoryStream, valkey: ValkeyServer
) -> None:
    await stream.append_many(points(1, 5))
    async with open_.consumer(valkey.url, "one", 15.0) as before:
        entries = await read(before, 4)
        await before.acknowledge(entries[:2])
    async with open_.consumer(valkey.url, "one", 15.0) as after:
        assert instants(await read(after, 1)) == [3]
        assert instants(await read(after, 10)) == [4]
        assert instants(await read(after, 10)) == [5]


async def test_entries_of_a_dead_consumer_go_to_a_live_one(
    open_: Opened, stream: HistoryStream, valkey: ValkeyServer
) -> None:
    await stream.append_many(points(1, 700))
    async with open_.consumer(valkey.url, "dead", 15.0) as dead:
        assert len(await read(dead, 700)) == 700
    async with open_.consumer(valkey.url, "live", 0.05) as live:
        first = await read(live, 512)
        await live.acknowledge(first)
        second = await read(live, 512)
        assert instants(first + second) == list(range(1, 701))


async def test_entries_of_a_live_consumer_are_left_to_it(
    open_: Opened, stream: HistoryStream, consumer: RedisHistoryConsumer, valkey: ValkeyServer
) -> None:
    await stream.append_many(points(1, 3))
    await read(consumer)
    async with open_.consumer(valkey.url, "other", 15.0) as other:
        assert await other.read(10) == []


async def test_a_beat_shows_life_and_takes_nothing(
    open_: Opened, stream: HistoryStream, consumer: RedisHistoryConsumer, valkey: ValkeyServer
) -> None:
    await stream.append_many(points(1, 3))
    await consumer.beat()
    assert instants(await read(consumer, 2)) == [1, 2]
    await consumer.beat()
    async with open_.consumer(valkey.url, "other", 2.0) as other:
        for _ in range(25):
            await consumer.beat()
            assert await other.live() == ["one", "other"]
            await asyncio.sleep(0.1)

        async def alone() -> bool:
            return await other.live() == ["other"]

        await eventually(alone, within_s=20)
        assert instants(await read(other)) == [1, 2]
        assert instants(await read(other)) == [3]


async def test_what_is_in_hand_is_not_read_again_unless_given_back(
    stream: HistoryStream, consumer: RedisHistoryConsumer
) -> None:
    await stream.append_many(points(1, 5))
    first = await read(consumer, 2)
    consumer.give_back([])
    assert instants(await read(consumer, 2)) == [3, 4]
    consumer.give_back(first[:1])
    assert instants(await read(consumer, 2)) == [1]
    assert instants(await read(consumer, 2)) == [5]


async def test_a_consumer_that_leaves_is_gone_unless_entries_are_its_own(
    open_: Opened, stream: HistoryStream, consumer: RedisHistoryConsumer, valkey: ValkeyServer
) -> None:
    await consumer.leave()
    await stream.append_many(points(1, 1))
    entries = await read(consumer)
    async with open_.consumer(valkey.url, "other", 15.0) as other:
        await consumer.leave()
        assert await other.live() == ["one", "other"]
        await consumer.acknowledge(entries)
        await consumer.leave()
        assert await other.live() == ["other"]


async def test_entries_that_waited_for_too_long_are_dropped_and_counted(
    stream: HistoryStream, consumer: RedisHistoryConsumer
) -> None:
    await stream.append_many(points(1, 500))
    await consumer.trim(60)
    assert (await consumer.backlog()).entries_count == 500

    async def dropped() -> bool:
        await consumer.trim(0)
        # A server drops whole blocks, of a hundred entries.
        backlog = await consumer.backlog()
        return backlog.entries_count <= 100 and backlog.lost_count == 500 - backlog.entries_count

    await eventually(dropped)


async def test_the_age_of_the_oldest_entry_is_known(stream: HistoryStream, consumer: RedisHistoryConsumer) -> None:
    assert (await consumer.backlog()).entries_count == 0
    await stream.append_many(points(1, 1))

    async def aged() -> bool:
        return (await consumer.backlog()).oldest_s > 0.05

    await eventually(aged)
    assert (await consumer.backlog()).oldest_s < 10


async def test_a_full_stream_drops_the_oldest_and_counts_them(
    open_: Opened, consumer: RedisHistoryConsumer, valkey: ValkeyServer
) -> None:
    async with open_.stream(valkey.url, 1_000) as bounded:
        await bounded.append_many(points(1, 2_000))
        backlog = await consumer.backlog()
        assert 1_000 <= backlog.entries_count <= 1_100
        assert backlog.lost_count == 2_000 - backlog.entries_count
        assert instants(await read(consumer, 1)) == [backlog.lost_count + 1]


async def test_entries_dropped_while_a_consumer_held_them_are_lost_unless_it_stores_them(
    open_: Opened, consumer: RedisHistoryConsumer, valkey: ValkeyServer
) -> None:
    async with open_.stream(valkey.url, 1_000) as bounded:
        await bounded.append_many(points(1, 100))
        held = await read(consumer, 100)
        await bounded.append_many(points(101, 1_200))
        assert (await consumer.backlog()).lost_count >= 100
        await consumer.acknowledge(held[:60])
        async with open_.consumer(valkey.url, "one", 15.0) as restarted:
            assert instants(await read(restarted, 1)) == [(await consumer.backlog()).lost_count + 61]


async def test_an_entry_knows_when_it_was_accepted_and_how_long_to_keep_it(
    stream: HistoryStream, consumer: RedisHistoryConsumer
) -> None:
    before_ms = time.time_ns() // 1_000_000
    await stream.append_many([replace(points(1, 1)[0], retention_s=86_400), *points(2, 2)])
    [kept, other] = [entry.point for entry in await read(consumer)]
    assert (kept.retention_s, other.retention_s) == (86_400, None)
    assert before_ms - 5 <= kept.accepted_at_ms <= other.accepted_at_ms <= time.time_ns() // 1_000_000 + 5


async def test_consumers_see_the_fences_of_the_users_they_ask_for(
    stream: HistoryStream, consumer: RedisHistoryConsumer
) -> None:
    await stream.append_many(points(1, 1))
    first = await stream.fence(ALICE, 5, 10)
    second = await stream.fence(ALICE, 0, 2**53 - 1, lasting_s=3_600)
    assert first.until_ms == first.at_ms <= second.at_ms
    assert second.until_ms == second.at_ms + 3_600_000
    assert await consumer.fences([BOB, ALICE]) == {ALICE: [first, second]}
    assert await consumer.fences([BOB]) == {}
    assert await consumer.fences([]) == {}


async def test_what_was_appended_before_a_fence_is_behind_it_and_what_comes_later_is_not(
    stream: HistoryStream, consumer: RedisHistoryConsumer
) -> None:
    await stream.append_many(points(1, 20))
    fence = await stream.fence(ALICE, 5, 10)

    async def time_has_passed() -> bool:
        return (await stream.fence(BOB, 0, 1)).at_ms > fence.at_ms + 1

    await eventually(time_has_passed)
    await stream.append_many(points(5, 6))
    entries = await read(consumer)
    behind = [entry.point.location.recorded_at_ms for entry in entries if is_behind(entry.point, fence)]
    assert behind == [5, 6, 7, 8, 9]


async def test_a_fence_is_passed_once_nothing_behind_it_waits(
    stream: HistoryStream, consumer: RedisHistoryConsumer
) -> None:
    await stream.append_many(points(1, 2_500))
    fence = await stream.fence(ALICE, 2_499, 2_500)
    elsewhere = await stream.fence(ALICE, 5_000, 6_000)
    of_another = await stream.fence(BOB, 0, 2**53 - 1)
    assert [await stream.passed(each) for each in (fence, elsewhere, of_another)] == [False, True, True]
    entries = await read(consumer, 2_500)
    assert not await stream.passed(fence)
    await consumer.acknowledge(entries[:2_498])
    assert not await stream.passed(fence)
    await consumer.acknowledge(entries[2_498:])
    assert await stream.passed(fence)


async def test_entries_that_cannot_be_read_do_not_keep_a_fence_from_being_passed(
    stream: HistoryStream, valkey: ValkeyServer
) -> None:
    valkey.command("XADD", "history", "*", "u", ALICE, "r", "x", "f", "1")
    assert await stream.passed(await stream.fence(ALICE, 0, 2**53 - 1))


async def test_fences_are_forgotten_once_nothing_older_waits(
    stream: HistoryStream, consumer: RedisHistoryConsumer
) -> None:
    await stream.append_many(points(1, 1))
    standing = [await stream.fence(ALICE, 0, 10) for _ in range(20)]
    assert await consumer.fences([ALICE]) == {ALICE: standing}
    await consumer.acknowledge(await read(consumer))

    async def only_the_last() -> bool:
        last = await stream.fence(ALICE, 0, 10)
        return await consumer.fences([ALICE]) == {ALICE: [last]}

    await eventually(only_the_last)


async def test_a_fence_ends_by_itself(stream: HistoryStream, valkey: ValkeyServer) -> None:
    await stream.fence(ALICE, 0, 10)
    assert 8 * 86_000_000 < int(valkey.command("PTTL", fence_key(ALICE))[1:]) <= 8 * 86_400_000


async def test_nothing_appended_and_nothing_acknowledged_is_no_work(
    stream: HistoryStream, consumer: RedisHistoryConsumer
) -> None:
    await stream.append_many([])
    await consumer.acknowledge([])
    assert (await consumer.backlog()).entries_count == 0


async def test_closing_twice_is_fine(open_: Opened, valkey: ValkeyServer) -> None:
    async with open_.stream(valkey.url, 1_000) as stream, open_.consumer(valkey.url, "one", 15.0) as consumer:
        await stream.append_many(points(1, 1))
        await consumer.read(1)
        for _ in range(2):
            await stream.aclose()
            await consumer.aclose()
