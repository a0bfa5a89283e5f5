"""Grants: a friend may see where one was, from the instant of the grant until its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update

from nearby.errors import NotFound
from nearby.model import UserId
from nearby.ports import Clock
from nearby.sharing import Tier, ceiling
from social_graph.database import Database
from social_graph.friendships import are_friends
from social_graph.locks import hold
from social_graph.plans import plan_in
from social_graph.rights_schema import history_grants, history_settings
from social_graph.schema import friendships, users
from social_graph.sharing import LIMIT_COLUMNS, said_of


@dataclass(frozen=True, slots=True)
class Grant:
    """What was recorded in [``from_ms``, ``until_ms``) may be seen, until then; ``None``: until it is withdrawn.

    ``retention_s`` is how long the owner keeps points: 0, not at all; ``None``, as long as by default.
    """

    from_ms: int
    until_ms: int | None
    retention_s: int | None = None


class HistoryGrants:
    """Giving, withdrawing and using grants."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, owner_id: UserId, viewer_id: UserId) -> Grant:
        """Return what ``owner_id`` has granted ``viewer_id`` and has not ended.

        Raises:
            NotFound: ``grant_not_found``.
            StoreUnavailable: the database failed.
        """
        query = select(history_grants.c.from_ms, history_grants.c.until_ms).where(_of(owner_id, viewer_id))
        rows = await self._database.rows(query)
        if not rows or _has_ended(rows[0].until_ms, self._clock()):
            raise NotFound("grant_not_found", "this friend may not see your history")
        return Grant(rows[0].from_ms, rows[0].until_ms)

    async def give(
        self,
        owner_id: UserId,
        viewer_id: UserId,
        until_ms: int | None,
        check: Callable[[Grant | None], None] | None = None,
    ) -> Grant:
        """Let ``viewer_id`` see where ``owner_id`` is from now on until ``until_ms``; return the grant.

        One that has not ended goes on from where it began. ``check`` is shown that one, ``None`` if there is none, and
        nothing happens if it raises.

        Raises:
            NotFound: ``friend_not_found``, they are not friends.
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        query = select(history_grants.c.from_ms, history_grants.c.until_ms).where(_of(owner_id, viewer_id))
        async with self._database.write() as connection:
            await hold(connection, owner_id, viewer_id)
            if not await are_friends(connection, owner_id, viewer_id):
                raise friend_not_found()
            row = (await connection.execute(query)).one_or_none()
            present = None if row is None or _has_ended(row.until_ms, now_ms) else Grant(row.from_ms, row.until_ms)
            if check is not None:
                check(present)
            from_ms = now_ms if present is None else present.from_ms
            values = {"from_ms": from_ms, "until_ms": until_ms}
            if row is None:
                begun = insert(history_grants).values(owner_id=owner_id, viewer_id=viewer_id, **values)
                await connection.execute(begun)
            else:
                await connection.execute(update(history_grants).where(_of(owner_id, viewer_id)).values(values))
        return Grant(from_ms, until_ms)

    async def withdraw(self, owner_id: UserId, viewer_id: UserId) -> None:
        """End what ``owner_id`` has granted ``viewer_id``; without a grant, do nothing.

        Raises:
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            await connection.execute(delete(history_grants).where(_of(owner_id, viewer_id)))

    async def use(self, viewer_id: UserId, owner_id: UserId) -> Grant:
        """Return what ``viewer_id`` may see of ``owner_id`` at this moment.

        Only who may see ``owner_id`` exactly, now, may see where they were.

        Raises:
            NotFound: ``friend_not_found``, whether there is no such user, no friendship or no grant.
            StoreUnavailable: the database failed.
        """
        query = (
            select(
                history_grants.c.from_ms,
                history_grants.c.until_ms,
                history_settings.c.retention_s,
                friendships.c.sees,
                *LIMIT_COLUMNS,
            )
            .join(users, users.c.id == history_grants.c.owner_id)
            .join(
                friendships,
                (friendships.c.user_id == history_grants.c.owner_id)
                & (friendships.c.friend_id == history_grants.c.viewer_id),
            )
            .outerjoin(history_settings, history_settings.c.user_id == history_grants.c.owner_id)
            .where(_of(owner_id, viewer_id))
        )
        now_ms = self._clock()
        rows = await self._database.rows(query)
        if not rows or _has_ended(rows[0].until_ms, now_ms):
            raise friend_not_found()
        row = rows[0]
        _, _, _, sees, *limits = row
        said = said_of(*limits, now_ms=now_ms)
        if min(plan_in(sees).at(now_ms), ceiling(said.sharing, said.limits, now_ms).tier) is not Tier.EXACT:
            raise friend_not_found()
        return Grant(row.from_ms, row.until_ms, row.retention_s)


def friend_not_found() -> NotFound:
    """Return the error for a friend who does not exist, or whose existence is not the caller's to know."""
    return NotFound("friend_not_found", "there is no such friend")


def _has_ended(until_ms: int | None, now_ms: int) -> bool:
    return until_ms is not None and until_ms <= now_ms


def _of(owner_id: UserId, viewer_id: UserId) -> Any:
    return (history_grants.c.owner_id == owner_id) & (history_grants.c.viewer_id == viewer_id)
