"""From where on the change feed is followed, when the API is away at first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from nearby.changes import Change, TokensRevoked
from nearby.errors import StoreUnavailable
from nearby.model import FriendList, UserId
from tests.support.eventually import eventually
from ws_gateway import feed
from ws_gateway.feed import ChangeFeed

ANN = UserId("00000000-0000-4000-8000-00000000000a")


class Api:
    """The feed of an API that can be away."""

    def __init__(self) -> None:
        self.away = True
        self.rows: list[Change] = []
        self.asked_count = 0

    def append(self) -> Change:
        self.rows.append(TokensRevoked(len(self.rows) + 1, ANN, 0))
        return self.rows[-1]

    async def friend_list(self, user_id: UserId) -> FriendList | None:
        raise NotImplementedError

    async def note_sightings(self, pairs: Sequence[tuple[UserId, UserId]]) -> None:
        raise NotImplementedError

    async def changes_after(self, sequence: int) -> list[Change]:
        self._answer()
        return [row for row in self.rows if row.sequence > sequence]

    async def latest_sequence(self) -> int:
        self._answer()
        return len(self.rows)

    def _answer(self) -> None:
        self.asked_count += 1
        if self.away:
            raise StoreUnavailable("social_graph", "away")


def never() -> None:
    raise AssertionError("nothing was missed")


async def test_what_changes_after_the_first_friend_list_is_heard_although_the_api_was_away_at_first() -> None:
    api = Api()
    api.append()
    heard: list[Change] = []
    changes = ChangeFeed(api)
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(changes.follow(heard.append, never))
        await eventually(lambda: api.asked_count)  # it failed, and comes back a second later
        api.away = False
        await changes.begin()  # as a client does, before its friend list is loaded
        news = api.append()
        await eventually(lambda: heard, feed.POLL_S + 5)
        following.cancel()
    assert heard == [news]


async def test_no_position_is_taken_while_the_api_is_away() -> None:
    api = Api()
    changes = ChangeFeed(api)
    with pytest.raises(StoreUnavailable):
        await changes.begin()
    api.away = False
    api.append()
    await changes.begin()
    news = api.append()
    heard: list[Change] = []
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(changes.follow(heard.append, never))
        await eventually(lambda: heard)
        following.cancel()
    assert heard == [news]


async def test_the_position_stays_where_the_quicker_of_two_calls_took_it() -> None:
    api = Api()
    api.away = False
    changes = ChangeFeed(api)
    await asyncio.gather(changes.begin(), changes.begin())
    news = api.append()
    await changes.begin()
    heard: list[Change] = []
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(changes.follow(heard.append, never))
        await eventually(lambda: heard)
        following.cancel()
    assert heard == [news]
