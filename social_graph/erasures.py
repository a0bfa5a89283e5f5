"""Erasures: what is to be deleted from the other stores, kept here until that is done.

An account goes in one transaction: credentials, friendships and all else that hangs on the user, the changes that tell
the gateways, and the erasure of what other stores hold. Whoever runs :meth:`Erasures.claim` next goes on with it, so a
crash delays an erasure and never loses it.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change, HistoryRetentionChanged, TokensRevoked
from nearby.errors import Conflict, NotAllowed, StoreUnavailable
from nearby.model import MAX_SEQ, UserId
from nearby.ports import Clock, HistoryFence
from social_graph.changes import UNNUMBERED, append, append_all
from social_graph.database import Database, among
from social_graph.friendships import endings
from social_graph.locks import hold
from social_graph.passwords import NO_PASSWORD, Passwords
from social_graph.rights_schema import erasures, exports, history_settings
from social_graph.schema import blocks, friendships, users
from social_graph.users import user_not_found

LEASE_S = 30
"""How long whoever took an erasure has it alone. Two at once do no harm, only the work twice."""
MAX_WAITING_RANGES = 20
"""Deletions of one user that may wait at a time: each holds a fence."""
REPEATS = 24
"""How often in its own time what a shorter retention leaves behind is deleted; once an hour at most."""
HOLD_ATTEMPTS = 10
"""How often an account's deletion looks for its friends anew because a friendship began meanwhile."""
RETENTION_SLACK_S = 86_400
"""How long after a change of the retention points may still arrive that do not know of it."""


class Kind(enum.Enum):
    """What an erasure is for."""

    ACCOUNT = "account"
    RANGE = "range"
    RETENTION = "retention"


@dataclass(frozen=True, slots=True)
class Erasure:
    """Delete what ``user_id`` recorded in [``from_ms``, ``to_ms``), and of an account everything else.

    ``fence`` stands since an earlier attempt, ``None`` if there is none yet. ``retention_s`` and ``repeat_until_ms``
    belong to a retention: until then the points older than that many seconds go, again and again.
    """

    erasure_id: str
    user_id: UserId
    kind: Kind
    from_ms: int
    to_ms: int
    attempts: int
    fence: HistoryFence | None = None
    retention_s: int | None = None
    repeat_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """An erasure that is not finished, since when (Unix milliseconds) and after how many attempts."""

    kind: Kind
    created_ms: int
    attempts: int


class Erasures:
    """Beginning erasures, and the list of what is still to be done."""

    def __init__(self, database: Database, clock: Clock, passwords: Passwords) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords

    async def delete_account(self, user_id: UserId, password: str | None) -> tuple[Erasure, list[Change]]:
        """Delete the user and begin the erasure of the rest; return it, taken, and the changes to publish.

        The handle is free from then on. ``password`` must be the user's, if it is given.

        Raises:
            NotFound: ``user_not_found``.
            NotAllowed: ``wrong_password``; nothing was deleted.
            StoreUnavailable: the database failed, or friendships do not cease to begin.
        """
        checked_hash = None if password is None else await self._checked(user_id, password)
        friends_query = select(friendships.c.friend_id).where(friendships.c.user_id == user_id)
        for _ in range(HOLD_ATTEMPTS):
            friend_ids = {UserId(row.friend_id) for row in await self._database.rows(friends_query)}
            async with self._database.write() as connection:
                await hold(connection, user_id, *friend_ids)
                # A friendship that began before we held the user is with somebody whom we do not.
                if friend_ids.issuperset(await connection.scalars(friends_query)):
                    return await self._delete_account(connection, user_id, checked_hash)
        raise StoreUnavailable("social_graph", "friendships begin faster than they are found")

    async def _delete_account(
        self, connection: AsyncConnection, user_id: UserId, checked_hash: str | None
    ) -> tuple[Erasure, list[Change]]:
        now_ms = self._clock()
        stored_hash = await connection.scalar(select(users.c.password_hash).where(users.c.id == user_id))
        if stored_hash is None:
            raise user_not_found()
        if checked_hash not in (None, stored_hash):
            raise _wrong_password()  # it was changed while the old one was being checked
        changes: list[Change] = [
            *await endings(connection, user_id, now_ms),
            TokensRevoked(UNNUMBERED, user_id, MAX_SEQ),
        ]
        # What refers to the user goes with them; these rows name users and do not refer to them.
        await connection.execute(delete(users).where(users.c.id == user_id))
        await connection.execute(delete(blocks).where(blocks.c.blocked_id == user_id))
        await connection.execute(delete(erasures).where(erasures.c.user_id == user_id))
        erasure = await _begin(connection, user_id, Kind.ACCOUNT, (0, MAX_SEQ), now_ms)
        return erasure, await append_all(connection, changes, now_ms)

    async def _checked(self, user_id: UserId, password: str) -> str:
        """Return the stored hash of ``password``."""
        found: str | None = await self._database.scalar(select(users.c.password_hash).where(users.c.id == user_id))
        if found is None:
            raise user_not_found()
        if found == NO_PASSWORD or not await self._passwords.verify(found, password):
            raise _wrong_password()
        return found

    async def delete_range(self, user_id: UserId, from_ms: int, to_ms: int) -> Erasure:
        """Begin to delete what was recorded in [``from_ms``, ``to_ms``); return the erasure, taken.

        An export goes at once: it may hold that, too.

        Raises:
            Conflict: ``too_many_deletions``, earlier ones are still waiting.
            StoreUnavailable: the database failed.
        """
        waiting = select(erasures.c.id).where(erasures.c.user_id == user_id, erasures.c.kind == Kind.RANGE.value)
        async with self._database.write() as connection:
            await hold(connection, user_id)
            if len((await connection.scalars(waiting)).all()) >= MAX_WAITING_RANGES:
                raise Conflict("too_many_deletions", "earlier deletions are not finished yet")
            await connection.execute(delete(exports).where(exports.c.user_id == user_id))
            return await _begin(connection, user_id, Kind.RANGE, (from_ms, to_ms), self._clock())

    async def set_retention(
        self, user_id: UserId, retention_s: int | None, check: Callable[[int | None], None] | None = None
    ) -> list[Change]:
        """Keep the history of ``user_id`` for ``retention_s`` seconds (0: not at all, ``None``: by default).

        What is older is deleted from now on, and an export at once; return the changes to publish. ``check`` is shown
        the retention as it is, and nothing happens if it raises.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        async with self._database.write() as connection:
            await hold(connection, user_id)
            if await connection.scalar(select(users.c.id).where(users.c.id == user_id)) is None:
                raise user_not_found()
            before_s: int | None = await connection.scalar(_retention_of(user_id))
            if check is not None:
                check(before_s)
            if before_s == retention_s:
                return []
            await connection.execute(delete(history_settings).where(history_settings.c.user_id == user_id))
            mine = (erasures.c.user_id == user_id) & (erasures.c.kind == Kind.RETENTION.value)
            await connection.execute(delete(erasures).where(mine))
            if retention_s is not None:
                row = insert(history_settings).values(user_id=user_id, retention_s=retention_s)
                await connection.execute(row)
                await connection.execute(delete(exports).where(exports.c.user_id == user_id))
                # Lengthened too: a change from shorter to longer may come before the former's work is done.
                await _begin_retention(connection, user_id, retention_s, now_ms)
            change = HistoryRetentionChanged(UNNUMBERED, user_id, retention_s)
            return [await append(connection, change, now_ms)]

    async def retention_s(self, user_id: UserId) -> int | None:
        """Return for how many seconds ``user_id`` wants points kept; 0: not at all, ``None``: as by default.

        Raises:
            StoreUnavailable: the database failed.
        """
        found: int | None = await self._database.scalar(_retention_of(user_id))
        return found

    async def waiting(self, user_id: UserId) -> list[Waiting]:
        """Return what is still to be deleted of ``user_id``, oldest first; a retention comes again until it is over.

        Raises:
            StoreUnavailable: the database failed.
        """
        query = select(erasures).where(erasures.c.user_id == user_id).order_by(erasures.c.created_ms)
        rows = await self._database.rows(query)
        return [Waiting(Kind(row.kind), row.created_ms, row.attempts) for row in rows]

    # ------------------------------------------------------------------------------------------- work

    async def claim(self, limit: int) -> list[Erasure]:
        """Take up to ``limit`` erasures that are due; nobody else takes them for :data:`LEASE_S`.

        Raises:
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        due = select(erasures).where(erasures.c.next_ms <= now_ms).order_by(erasures.c.next_ms).limit(limit)
        if not await self._database.rows(due.limit(1)):
            return []
        async with self._database.write() as connection:
            # Rows that somebody else is taking at this moment are theirs.
            rows = (await connection.execute(due.with_for_update(skip_locked=True))).all()
            taken = update(erasures).where(among(connection, erasures.c.id, [row.id for row in rows]))
            await connection.execute(taken.values(next_ms=now_ms + LEASE_S * 1000, attempts=erasures.c.attempts + 1))
        return [_erasure_of(row) for row in rows]

    async def fenced(self, erasure: Erasure, fence: HistoryFence) -> None:
        """Note that ``fence`` stands for ``erasure``.

        Raises:
            StoreUnavailable: the database failed.
        """
        values = {"to_ms": fence.to_ms, "fence_at_ms": fence.at_ms, "fence_until_ms": fence.until_ms}
        async with self._database.write() as connection:
            await connection.execute(update(erasures).where(erasures.c.id == erasure.erasure_id).values(values))

    async def postpone(self, erasure: Erasure, delay_s: float) -> None:
        """Let ``erasure`` be taken again in ``delay_s`` seconds.

        Raises:
            StoreUnavailable: the database failed.
        """
        values = {"next_ms": self._clock() + round(delay_s * 1000)}
        async with self._database.write() as connection:
            await connection.execute(update(erasures).where(erasures.c.id == erasure.erasure_id).values(values))

    async def finish(self, erasure: Erasure) -> None:
        """``erasure`` is done; one of a retention comes again until it has nothing left to find.

        Raises:
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        mine = erasures.c.id == erasure.erasure_id
        async with self._database.write() as connection:
            if erasure.kind is Kind.RETENTION and now_ms < erasure.repeat_until_ms:
                pause_s = max(3_600, (erasure.retention_s or 0) // REPEATS)
                next_ms = min(now_ms + pause_s * 1000, erasure.repeat_until_ms)
                values = {"next_ms": next_ms, "attempts": 0, "fence_at_ms": None, "fence_until_ms": None}
                await connection.execute(update(erasures).where(mine).values(values))
            else:
                await connection.execute(delete(erasures).where(mine))


def _retention_of(user_id: UserId) -> Any:
    return select(history_settings.c.retention_s).where(history_settings.c.user_id == user_id)


def _wrong_password() -> NotAllowed:
    return NotAllowed("wrong_password", "this is not the account's password")


async def _begin(
    connection: AsyncConnection, user_id: UserId, kind: Kind, interval_ms: Sequence[int], now_ms: int
) -> Erasure:
    """Add an erasure that the caller works on first."""
    from_ms, to_ms = interval_ms
    erasure = Erasure(str(uuid.uuid4()), user_id, kind, from_ms, to_ms, attempts=1)
    row = insert(erasures).values(
        id=erasure.erasure_id,
        user_id=user_id,
        kind=kind.value,
        from_ms=from_ms,
        to_ms=to_ms,
        created_ms=now_ms,
        next_ms=now_ms + LEASE_S * 1000,
        attempts=1,
    )
    await connection.execute(row)
    return erasure


async def _begin_retention(connection: AsyncConnection, user_id: UserId, retention_s: int, now_ms: int) -> None:
    """Add the erasure of what a retention leaves behind; the next to claim one takes it.

    Points recorded before now may be kept for longer than that; by ``repeat_until_ms`` all of them are too old.
    """
    row = insert(erasures).values(
        id=str(uuid.uuid4()),
        user_id=user_id,
        kind=Kind.RETENTION.value,
        from_ms=0,
        to_ms=0,
        created_ms=now_ms,
        next_ms=now_ms,
        attempts=0,
        retention_s=retention_s,
        repeat_until_ms=now_ms + (retention_s + RETENTION_SLACK_S) * 1000,
    )
    await connection.execute(row)


def _erasure_of(row: Row[*tuple[Any, ...]]) -> Erasure:
    fence = None
    if row.fence_at_ms is not None:
        fence = HistoryFence(UserId(row.user_id), row.from_ms, row.to_ms, row.fence_at_ms, row.fence_until_ms)
    return Erasure(
        row.id,
        UserId(row.user_id),
        Kind(row.kind),
        row.from_ms,
        row.to_ms,
        row.attempts + 1,
        fence,
        row.retention_s,
        row.repeat_until_ms or 0,
    )
