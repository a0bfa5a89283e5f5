"""Friendships, each stored on both sides. One begins only through :mod:`social_graph.requests`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Integer, bindparam, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change, FriendshipChanged
from nearby.errors import Conflict, NotFound
from nearby.model import UserId
from nearby.ports import Clock
from nearby.sharing import Rule, plan_of
from social_graph.changes import UNNUMBERED, append
from social_graph.database import Database
from social_graph.locks import hold
from social_graph.plans import RULE_COLUMNS, announce_friendships, column_of, rule_in
from social_graph.questions import Question
from social_graph.schema import friendships, users
from social_graph.sharing import LIMIT_COLUMNS, Said, default_of, said_by, said_of
from social_graph.users import PERSON_COLUMNS, Person


class Friend(Person, frozen=True):
    """A friend of somebody: since when (Unix milliseconds), and how exactly that somebody lets them see."""

    since_ms: int
    sharing: str


@dataclass(frozen=True, slots=True)
class FriendPage:
    """Friends ordered by user id; ``next_after`` continues the list, ``None`` at its end."""

    friends: tuple[Friend, ...]
    next_after: UserId | None


async def are_friends(connection: AsyncConnection, user_id: UserId, friend_id: UserId) -> bool:
    """Whether the two are friends."""
    query = select(friendships.c.since_ms).where(_one_side(user_id, friend_id))
    return (await connection.execute(query)).first() is not None


async def befriend(connection: AsyncConnection, user_id: UserId, friend_id: UserId, now_ms: int) -> Change:
    """Make two users friends, who are not yet, each by their own default; return the change to publish."""
    tiers = {owner: await default_of(connection, owner) for owner in (user_id, friend_id)}
    plans = {owner: column_of(plan_of(Rule(tier), (), now_ms)) for owner, tier in tiers.items()}
    rows = [
        {
            "user_id": owner,
            "friend_id": viewer,
            "since_ms": now_ms,
            "sharing": tiers[owner].label,
            "sees": plans[owner],
            "shows": plans[viewer],
        }
        for owner, viewer in [(user_id, friend_id), (friend_id, user_id)]
    ]
    await connection.execute(insert(friendships), rows)
    [change] = await announce_friendships(connection, user_id, [friend_id], now_ms)
    return change


async def part(connection: AsyncConnection, user_id: UserId, friend_id: UserId, now_ms: int) -> FriendshipChanged:
    """End the friendship of two friends, both held; return the change to publish."""
    either_side = _one_side(user_id, friend_id) | _one_side(friend_id, user_id)
    await connection.execute(delete(friendships).where(either_side))
    user, friend = await said_by(connection, user_id, now_ms), await said_by(connection, friend_id, now_ms)
    return await append(connection, _ending(user_id, user, friend_id, friend), now_ms)


async def endings(connection: AsyncConnection, user_id: UserId, now_ms: int) -> list[FriendshipChanged]:
    """Return the changes that end every friendship of ``user_id``, who is held as all friends are; without numbers."""
    query = (
        select(friendships.c.friend_id, *LIMIT_COLUMNS)
        .join(users, users.c.id == friendships.c.friend_id)
        .where(friendships.c.user_id == user_id)
        .order_by(friendships.c.friend_id)
    )
    mine = await said_by(connection, user_id, now_ms)
    changes = []
    for friend_id, *limits in await connection.execute(query):
        changes.append(_ending(user_id, mine, friend_id, said_of(*limits, now_ms=now_ms)))
    return changes


def _ending(user_id: UserId, user: Said, friend_id: UserId, friend: Said) -> FriendshipChanged:
    return FriendshipChanged(
        UNNUMBERED, user_id, friend_id, False, user.sharing, friend.sharing, user.limits, friend.limits
    )


async def check_room(connection: AsyncConnection, user_id: UserId, max_friends: int) -> None:
    """Check that ``user_id``, who is held, may have one more friend.

    Raises:
        Conflict: ``too_many_friends``.
    """
    query = select(func.count()).select_from(friendships).where(friendships.c.user_id == user_id)
    if (await connection.scalar(query) or 0) >= max_friends:
        raise Conflict("too_many_friends", f"one of the two has {max_friends} friends already")


def _one_side(user_id: UserId, friend_id: UserId) -> Any:
    return (friendships.c.user_id == user_id) & (friendships.c.friend_id == friend_id)


async def find_friend(connection: AsyncConnection, user_id: UserId, friend_id: UserId, now_ms: int) -> Friend:
    """Return ``friend_id`` as a friend of ``user_id``, which they are."""
    query = _friends_of(user_id).where(friendships.c.friend_id == friend_id)
    return _friend_of((await connection.execute(query)).one(), now_ms)


def _friends_of(user_id: UserId | BindParameter[str]) -> Any:
    return (
        select(*PERSON_COLUMNS, friendships.c.since_ms, *RULE_COLUMNS)
        .join(friendships, friendships.c.friend_id == users.c.id)
        .where(friendships.c.user_id == user_id)
    )


# Every id follows the empty one.
_PAGE = Question(
    lambda _: (
        _friends_of(bindparam("owner"))
        .where(friendships.c.friend_id > bindparam("after"))
        .order_by(friendships.c.friend_id)
        .limit(bindparam("count", type_=Integer))
    )
)


def _friend_of(row: Sequence[Any], now_ms: int) -> Friend:
    user_id, handle, display_name, since_ms, standing, meanwhile, until_ms, openly = row
    # Most rules just stand, and there are many in a list.
    label = standing if meanwhile is None else rule_in(standing, meanwhile, until_ms, openly).at(now_ms).label
    return Friend(user_id, handle, display_name, since_ms, label)


class Friendships:
    """Listing and ending friendships."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def page(self, user_id: UserId, limit: int, after: UserId | None = None) -> FriendPage:
        """Return up to ``limit`` friends of ``user_id`` whose ids follow ``after`` (``None``: from the first on).

        Raises:
            StoreUnavailable: the database failed.
        """
        rows = await self._database.ask(_PAGE, owner=user_id, after=after or "", count=limit + 1)
        now_ms = self._clock()
        friends = tuple(_friend_of(row, now_ms) for row in rows[:limit])
        return FriendPage(friends, friends[-1].user_id if len(rows) > limit else None)

    async def friend_ids(self, user_id: UserId) -> list[UserId]:
        """Return the ids of every friend of ``user_id``.

        Raises:
            StoreUnavailable: the database failed.
        """
        query = select(friendships.c.friend_id).where(friendships.c.user_id == user_id)
        return [UserId(row.friend_id) for row in await self._database.rows(query)]

    async def remove(self, user_id: UserId, friend_id: UserId) -> list[Change]:
        """End the friendship on both sides; return the changes to publish.

        Raises:
            NotFound: ``friend_not_found``, they are not friends.
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            await hold(connection, user_id, friend_id)
            if not await are_friends(connection, user_id, friend_id):
                raise NotFound("friend_not_found", "there is no such friend")
            return [await part(connection, user_id, friend_id, self._clock())]
