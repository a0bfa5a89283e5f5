"""The switch with which a user stops sharing with everyone, for good or until an instant.

A pause whose instant has passed is over, whoever looks; :meth:`SharingSwitches.resume_due` then says so in the
change feed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change, SharingChanged
from nearby.model import UserId
from nearby.ports import Clock
from social_graph.changes import UNNUMBERED, append
from social_graph.database import Database
from social_graph.locks import hold
from social_graph.schema import users
from social_graph.users import user_not_found


@dataclass(frozen=True, slots=True)
class Switch:
    """``until_ms`` (Unix milliseconds) ends a pause; ``None``: it lasts until resumed, or there is none."""

    sharing: bool
    until_ms: int | None


def shares(paused: bool, until_ms: int | None, now_ms: int) -> bool:
    """Whether a user with this row in the database shares at ``now_ms``."""
    return not paused or (until_ms is not None and until_ms <= now_ms)


async def is_sharing(connection: AsyncConnection, user_id: UserId, now_ms: int) -> bool:
    """Whether ``user_id`` shares at ``now_ms``.

    Raises:
        NotFound: ``user_not_found``.
    """
    paused, until_ms = await _stored(connection, user_id)
    return shares(paused, until_ms, now_ms)


async def _stored(connection: AsyncConnection, user_id: UserId) -> tuple[bool, int | None]:
    query = select(users.c.sharing_paused, users.c.sharing_paused_until_ms).where(users.c.id == user_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise user_not_found()
    return row.sharing_paused, row.sharing_paused_until_ms


async def _switch(connection: AsyncConnection, user_id: UserId, now_ms: int) -> Switch:
    paused, until_ms = await _stored(connection, user_id)
    sharing = shares(paused, until_ms, now_ms)
    return Switch(sharing, None if sharing else until_ms)


async def _checked(
    connection: AsyncConnection, user_id: UserId, now_ms: int, check: Callable[[Switch], None] | None
) -> Switch:
    switch = await _switch(connection, user_id, now_ms)
    if check is not None:
        check(switch)
    return switch


class SharingSwitches:
    """Reading and setting the switches."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, user_id: UserId) -> Switch:
        """Return the switch of ``user_id`` as it stands now.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        async with self._database.read() as connection:
            return await _switch(connection, user_id, self._clock())

    async def pause(
        self, user_id: UserId, until_ms: int | None, check: Callable[[Switch], None] | None = None
    ) -> list[Change]:
        """Stop sharing until ``until_ms`` (``None``: until resumed); return the changes to publish.

        Pausing again moves the end and changes nothing that others see. ``check`` is shown the switch as it is, and
        nothing happens if it raises.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        async with self._database.write() as connection:
            await hold(connection, user_id)
            was_sharing = (await _checked(connection, user_id, now_ms, check)).sharing
            values = {"sharing_paused": True, "sharing_paused_until_ms": until_ms}
            await connection.execute(update(users).where(users.c.id == user_id).values(values))
            return [await _announce(connection, user_id, False, now_ms)] if was_sharing else []

    async def resume(self, user_id: UserId, check: Callable[[Switch], None] | None = None) -> list[Change]:
        """Share again; return the changes to publish. ``check`` as for :meth:`pause`.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            await hold(connection, user_id)
            await _checked(connection, user_id, self._clock(), check)
            paused, _ = await _stored(connection, user_id)
            return [await _resume(connection, user_id, self._clock())] if paused else []

    async def resume_due(self, limit: int = 100) -> list[Change]:
        """End up to ``limit`` pauses whose instant has passed, oldest first; return the changes to publish.

        However many processes call it, each pause is ended once.

        Raises:
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        due = (
            select(users.c.id)
            .where(users.c.sharing_paused, users.c.sharing_paused_until_ms <= now_ms)
            .order_by(users.c.sharing_paused_until_ms)
            .limit(limit)
        )
        user_ids = [UserId(row.id) for row in await self._database.rows(due)]
        if not user_ids:
            return []
        async with self._database.write() as connection:
            await hold(connection, *user_ids)
            # Some may have been ended meanwhile, and others are due that are not held.
            still_due = set(await connection.scalars(due))
            return [await _resume(connection, user_id, now_ms) for user_id in user_ids if user_id in still_due]


async def _resume(connection: AsyncConnection, user_id: UserId, now_ms: int) -> Change:
    values = {"sharing_paused": False, "sharing_paused_until_ms": None}
    await connection.execute(update(users).where(users.c.id == user_id).values(values))
    return await _announce(connection, user_id, True, now_ms)


async def _announce(connection: AsyncConnection, user_id: UserId, sharing: bool, now_ms: int) -> Change:
    change = await append(connection, SharingChanged(UNNUMBERED, user_id, sharing), now_ms)
    await connection.execute(update(users).where(users.c.id == user_id).values(switch_sequence=change.sequence))
    return change
