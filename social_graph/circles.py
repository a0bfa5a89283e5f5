"""Circles: named lists of friends with a rule of their own, which narrows what each member sees.

A friend who is in several sees what the strictest of them allows. Nobody but their owner knows of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change
from nearby.errors import Conflict, NotFound, StoreUnavailable
from nearby.model import UserId
from nearby.ports import Clock
from nearby.sharing import CircleRule, Tier
from social_graph.database import Database
from social_graph.friendships import are_friends
from social_graph.locks import hold
from social_graph.plans import replan
from social_graph.schema import circle_members, circles, users
from social_graph.users import user_not_found

MAX_CIRCLES = 50
MAX_MEMBERS = 500
"""Members of one circle: a change of its rule is a row of the change feed for each."""


@dataclass(frozen=True, slots=True)
class Circle:
    """A circle and who is in it, ordered by user id."""

    circle_id: str
    name: str
    rule: CircleRule
    members: tuple[UserId, ...]


@dataclass(frozen=True, slots=True)
class CirclePage:
    """Circles ordered by id; ``next_after`` continues the list, ``None`` at its end."""

    circles: tuple[Circle, ...]
    next_after: str | None


class Circles:
    """Making, changing and reading circles."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def page(self, owner_id: UserId, limit: int, after: str | None = None) -> CirclePage:
        """Return up to ``limit`` circles of ``owner_id`` whose ids follow ``after`` (``None``: from the first on).

        Raises:
            StoreUnavailable: the database failed.
        """
        mine = circles.c.user_id == owner_id
        ids = select(circles.c.id).where(mine, circles.c.id > (after or "")).order_by(circles.c.id).limit(limit + 1)
        async with self._database.read() as connection:
            found = await _read(connection, mine & circles.c.id.in_(ids))
        return CirclePage(tuple(found[:limit]), found[limit - 1].circle_id if len(found) > limit else None)

    async def get(self, owner_id: UserId, circle_id: str) -> Circle:
        """Return one circle.

        Raises:
            NotFound: ``circle_not_found``.
            StoreUnavailable: the database failed.
        """
        async with self._database.read() as connection:
            return await _one(connection, owner_id, circle_id)

    async def create(self, owner_id: UserId, name: str, rule: CircleRule) -> Circle:
        """Make an empty circle.

        Raises:
            NotFound: ``user_not_found``.
            Conflict: ``circle_exists``, there is one of that name, or ``too_many_circles``.
            StoreUnavailable: the database failed.
        """
        circle = Circle(str(uuid.uuid4()), name, rule, ())
        async with self._database.write() as connection:
            await hold(connection, owner_id)
            if await connection.scalar(select(users.c.id).where(users.c.id == owner_id)) is None:
                raise user_not_found()
            count = select(func.count()).select_from(circles).where(circles.c.user_id == owner_id)
            if (await connection.scalar(count) or 0) >= MAX_CIRCLES:
                raise Conflict("too_many_circles", f"there are {MAX_CIRCLES} circles already")
            await _named(
                connection, insert(circles).values(user_id=owner_id, id=circle.circle_id, **_values(name, rule))
            )
        return circle

    async def change(
        self, owner_id: UserId, circle_id: str, name: str, rule: CircleRule
    ) -> tuple[Circle, list[Change]]:
        """Give a circle another name or rule; return it and the changes to publish.

        Raises:
            NotFound: ``circle_not_found``.
            Conflict: ``circle_exists``, another one has that name.
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            await _hold_with_members(connection, owner_id, circle_id)
            await _named(connection, update(circles).where(_is(owner_id, circle_id)).values(**_values(name, rule)))
            circle = await _one(connection, owner_id, circle_id)
            return circle, await replan(connection, owner_id, circle.members, self._clock())

    async def delete(self, owner_id: UserId, circle_id: str) -> list[Change]:
        """Delete a circle; its rule binds nobody any more. Return the changes to publish.

        Raises:
            NotFound: ``circle_not_found``.
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            circle = await _hold_with_members(connection, owner_id, circle_id)
            await connection.execute(delete(circles).where(_is(owner_id, circle_id)))
            return await replan(connection, owner_id, circle.members, self._clock())

    async def add(self, owner_id: UserId, circle_id: str, friend_id: UserId) -> list[Change]:
        """Put a friend into a circle, if they are not in it; return the changes to publish.

        Raises:
            NotFound: ``circle_not_found``, ``friend_not_found``.
            Conflict: ``circle_full``.
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            await hold(connection, owner_id, friend_id)
            circle = await _one(connection, owner_id, circle_id)
            if not await are_friends(connection, owner_id, friend_id):
                raise NotFound("friend_not_found", "there is no such friend")
            if friend_id in circle.members:
                return []
            if len(circle.members) >= MAX_MEMBERS:
                raise Conflict("circle_full", f"a circle has at most {MAX_MEMBERS} members")
            row = {"user_id": owner_id, "circle_id": circle_id, "friend_id": friend_id}
            await connection.execute(insert(circle_members).values(row))
            return await replan(connection, owner_id, [friend_id], self._clock())

    async def remove(self, owner_id: UserId, circle_id: str, friend_id: UserId) -> list[Change]:
        """Take a friend out of a circle; return the changes to publish.

        Raises:
            NotFound: ``circle_not_found``, ``friend_not_found``: they are not in it.
            StoreUnavailable: the database failed.
        """
        member = (circle_members.c.circle_id == circle_id) & (circle_members.c.friend_id == friend_id)
        async with self._database.write() as connection:
            await hold(connection, owner_id, friend_id)
            circle = await _one(connection, owner_id, circle_id)
            if friend_id not in circle.members:
                raise NotFound("friend_not_found", "there is no such friend in this circle")
            await connection.execute(delete(circle_members).where(circle_members.c.user_id == owner_id, member))
            return await replan(connection, owner_id, [friend_id], self._clock())


def _is(owner_id: UserId, circle_id: str) -> ColumnElement[bool]:
    return (circles.c.user_id == owner_id) & (circles.c.id == circle_id)


def _values(name: str, rule: CircleRule) -> dict[str, Any]:
    return {"name": name, "sharing": rule.tier.label, "sharing_until_ms": rule.until_ms}


async def _named(connection: AsyncConnection, statement: Any) -> None:
    try:
        await connection.execute(statement)
    except IntegrityError as error:
        raise Conflict("circle_exists", "another circle has this name") from error


async def _one(connection: AsyncConnection, owner_id: UserId, circle_id: str) -> Circle:
    found = await _read(connection, _is(owner_id, circle_id))
    if not found:
        raise NotFound("circle_not_found", "there is no such circle")
    return found[0]


async def _hold_with_members(connection: AsyncConnection, owner_id: UserId, circle_id: str) -> Circle:
    """Hold the owner and all members, so that what each says to everyone is announced as it is; return the circle."""
    members = (await _one(connection, owner_id, circle_id)).members
    await hold(connection, owner_id, *members)
    circle = await _one(connection, owner_id, circle_id)
    if not set(circle.members) <= set(members):
        raise StoreUnavailable("social_graph", "somebody came into the circle meanwhile")
    return circle


async def _read(connection: AsyncConnection, which: ColumnElement[bool]) -> list[Circle]:
    same = (circle_members.c.user_id == circles.c.user_id) & (circle_members.c.circle_id == circles.c.id)
    query = (
        select(circles, circle_members.c.friend_id)
        .outerjoin(circle_members, same)
        .where(which)
        .order_by(circles.c.id, circle_members.c.friend_id)
    )
    rows: Sequence[Any] = (await connection.execute(query)).all()
    members: dict[str, list[UserId]] = {row.id: [] for row in rows}
    for row in rows:
        if row.friend_id is not None:
            members[row.id].append(UserId(row.friend_id))
    by_id = {row.id: row for row in rows}
    return [
        Circle(row.id, row.name, CircleRule(Tier.of(row.sharing), row.sharing_until_ms), tuple(members[row.id]))
        for row in by_id.values()
    ]
