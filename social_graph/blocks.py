"""Blocks: a user's own list of ids with whom there shall be nothing.

A block ends the friendship and every pending request between the two. From then on neither finds the other (see
:mod:`social_graph.visibility`). Any id may be blocked, of somebody or of nobody, and the answer is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change
from nearby.errors import Conflict, NotFound
from nearby.model import UserId
from nearby.ports import Clock
from social_graph.database import Database
from social_graph.friendships import are_friends, part
from social_graph.locks import hold
from social_graph.requests import delete_between
from social_graph.schema import blocks, users
from social_graph.users import PERSON_COLUMNS, Person, person_of

MAX_BLOCKS = 10_000
"""Of one user."""


@dataclass(frozen=True, slots=True)
class Block:
    """One blocked id, since an instant (Unix milliseconds).

    ``person`` is who that is; ``None`` if nobody has the id, or they have blocked the owner of the list too.
    """

    user_id: UserId
    since_ms: int
    person: Person | None


@dataclass(frozen=True, slots=True)
class BlockPage:
    """Blocks ordered by user id; ``next_after`` continues the list, ``None`` at its end."""

    blocks: tuple[Block, ...]
    next_after: UserId | None


def _one(user_id: UserId, blocked_id: UserId) -> ColumnElement[bool]:
    return and_(blocks.c.user_id == user_id, blocks.c.blocked_id == blocked_id)


class Blocks:
    """Blocking, unblocking, listing."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def block(self, user_id: UserId, blocked_id: UserId) -> list[Change]:
        """Let there be nothing between the two from now on; return the changes to publish. Idempotent.

        Raises:
            Conflict: ``block_self``, ``too_many_blocks``.
            StoreUnavailable: the database failed.
        """
        if user_id == blocked_id:
            raise Conflict("block_self", "nobody can block themselves")
        now_ms = self._clock()
        async with self._database.write() as connection:
            await hold(connection, user_id, blocked_id)
            await _store(connection, user_id, blocked_id, now_ms)
            await delete_between(connection, user_id, blocked_id)
            if not await are_friends(connection, user_id, blocked_id):
                return []
            return [await part(connection, user_id, blocked_id, now_ms)]

    async def unblock(self, user_id: UserId, blocked_id: UserId) -> None:
        """Take a block back. What it ended does not come back.

        Raises:
            NotFound: ``block_not_found``.
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            result = await connection.execute(delete(blocks).where(_one(user_id, blocked_id)))
        if result.rowcount == 0:
            raise NotFound("block_not_found", "there is no such block")

    async def stands_between(self, one: UserId, other: UserId) -> bool:
        """Whether one of the two, or each, blocks the other.

        Raises:
            StoreUnavailable: the database failed.
        """
        query = select(blocks.c.since_ms).where(_one(one, other) | _one(other, one))
        return await self._database.scalar(query) is not None

    async def page(self, user_id: UserId, limit: int, after: UserId | None = None) -> BlockPage:
        """Return up to ``limit`` blocks of ``user_id`` whose ids follow ``after`` (``None``: from the first on).

        Raises:
            StoreUnavailable: the database failed.
        """
        # Whom I have blocked I may know; whoever has blocked me too is nobody.
        theirs = blocks.alias("theirs")
        known = (users.c.id == blocks.c.blocked_id) & ~(
            select(theirs.c.user_id).where(theirs.c.user_id == users.c.id, theirs.c.blocked_id == user_id).exists()
        )
        query = (
            select(*PERSON_COLUMNS, blocks.c.blocked_id, blocks.c.since_ms)
            .select_from(blocks)
            .outerjoin(users, known)
            .where(blocks.c.user_id == user_id)
            .order_by(blocks.c.blocked_id)
            .limit(limit + 1)
        )
        if after is not None:
            query = query.where(blocks.c.blocked_id > after)
        rows = await self._database.rows(query)
        found = tuple(
            Block(row.blocked_id, row.since_ms, None if row.id is None else person_of(row)) for row in rows[:limit]
        )
        return BlockPage(found, found[-1].user_id if len(rows) > limit else None)


async def _store(connection: AsyncConnection, user_id: UserId, blocked_id: UserId, now_ms: int) -> None:
    if (await connection.execute(select(blocks.c.since_ms).where(_one(user_id, blocked_id)))).first() is not None:
        return
    count = await connection.scalar(select(func.count()).select_from(blocks).where(blocks.c.user_id == user_id))
    if count is not None and count >= MAX_BLOCKS:
        raise Conflict("too_many_blocks", f"nobody may block more than {MAX_BLOCKS} others")
    await connection.execute(insert(blocks).values(user_id=user_id, blocked_id=blocked_id, since_ms=now_ms))
