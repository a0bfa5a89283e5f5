"""Arrivals share their reads of the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from nearby.errors import StoreUnavailable
from nearby.model import UserId
from nearby.ports import CachedLocation, LocationCache
from tests.ws_gateway.test_hub import ANNA, BEN, CLEO, SEOUL, at
from ws_gateway import shared_reads
from ws_gateway.shared_reads import SharedReads

KNOWN = CachedLocation(at(*SEOUL), 1_000)


class CountingCache(LocationCache):
    """Counts what it is asked, and fails on demand."""

    def __init__(self) -> None:
        self.asked: list[list[UserId]] = []
        self.fails = False

    async def read_many(self, user_ids: Sequence[UserId]) -> list[CachedLocation | None]:
        self.asked.append(list(user_ids))
        await asyncio.sleep(0)
        if self.fails:
            raise StoreUnavailable("location_cache", "away")
        return [KNOWN if user_id == BEN else None for user_id in user_ids]


async def test_who_asks_at_the_same_time_shares_one_read_of_each_user() -> None:
    cache = CountingCache()  # type: ignore[abstract]
    reads = SharedReads(cache)
    found = await asyncio.gather(*(reads.read([ANNA, BEN]) for _ in range(100)), reads.read([CLEO]))
    assert cache.asked == [[ANNA, BEN, CLEO]]
    assert all(each[BEN] is KNOWN and each[ANNA] is None for each in found)
    await reads.read([CLEO])
    assert cache.asked[1:] == [[CLEO]], "what was read is not kept"


async def test_a_read_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_reads, "MAX_USERS", 3)
    cache = CountingCache()  # type: ignore[abstract]
    reads = SharedReads(cache)
    users = [UserId(f"u-{number}") for number in range(9)]
    await asyncio.gather(*(reads.read([user]) for user in users))
    assert [len(asked) for asked in cache.asked] == [3, 3, 3]


async def test_everybody_hears_of_a_failure_and_the_next_read_is_a_new_one() -> None:
    cache = CountingCache()  # type: ignore[abstract]
    reads = SharedReads(cache)
    cache.fails = True
    answers = await asyncio.gather(*(reads.read([ANNA]) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    cache.fails = False
    assert await reads.read([BEN]) == {BEN: KNOWN}


async def test_one_who_is_cancelled_takes_nobody_along() -> None:
    cache = CountingCache()  # type: ignore[abstract]
    reads = SharedReads(cache)
    first, second, third = (asyncio.create_task(reads.read([user])) for user in (ANNA, BEN, CLEO))
    await asyncio.sleep(0)
    second.cancel()
    assert (await first)[BEN] is KNOWN
    assert (await third)[CLEO] is None
