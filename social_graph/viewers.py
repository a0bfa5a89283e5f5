"""Who can see a user, how exactly and why, and when they last did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select, update

from nearby.model import UserId
from nearby.ports import Clock
from nearby.sharing import Decision, decide
from social_graph.database import Database
from social_graph.plans import RULE_COLUMNS, circle_rules, rule_of
from social_graph.schema import friendships, users
from social_graph.sharing import said_by
from social_graph.users import PERSON_COLUMNS, Person, person_of

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Viewer:
    """A friend: how exactly they may see the user now, and when they last received a location, to the minute."""

    person: Person
    in_force: Decision
    last_seen_ms: int | None


@dataclass(frozen=True, slots=True)
class ViewerPage:
    """Viewers ordered by user id; ``next_after`` continues the list, ``None`` at its end."""

    viewers: tuple[Viewer, ...]
    next_after: UserId | None


# On PostgreSQL rows that another transaction holds are skipped. So two that note the same pairs, in whatever order,
# neither wait for each other nor deadlock.
_FREE = (
    select(friendships.c.friend_id)
    .where(
        friendships.c.user_id == bindparam("owner"),
        friendships.c.friend_id == bindparam("viewer"),
        func.coalesce(friendships.c.seen_ms, 0) < bindparam("minute_ms"),
    )
    .with_for_update(skip_locked=True, key_share=True)
    .correlate(None)
    .scalar_subquery()
)
_NOTE = (
    update(friendships)
    .where(friendships.c.user_id == bindparam("owner"), friendships.c.friend_id == _FREE)
    .values(seen_ms=bindparam("minute_ms"))
)


class Viewers:
    """Listing viewers, and noting what they saw."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def page(self, owner_id: UserId, limit: int, after: UserId | None = None) -> ViewerPage:
        """Return up to ``limit`` friends of ``owner_id`` whose ids follow ``after`` (``None``: from the first on).

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        query = (
            select(*PERSON_COLUMNS, friendships.c.seen_ms, *RULE_COLUMNS)
            .join(friendships, friendships.c.friend_id == users.c.id)
            .where(friendships.c.user_id == owner_id)
            .order_by(friendships.c.friend_id)
            .limit(limit + 1)
        )
        if after is not None:
            query = query.where(friendships.c.friend_id > after)
        now_ms = self._clock()
        async with self._database.read() as connection:
            said = await said_by(connection, owner_id, now_ms)
            rows = (await connection.execute(query)).all()
            by_circle = await circle_rules(connection, owner_id, [UserId(row.id) for row in rows])
        viewers = tuple(
            Viewer(
                person_of(row),
                decide(said.sharing, said.limits, rule_of(row), by_circle[UserId(row.id)], now_ms),
                row.seen_ms,
            )
            for row in rows[:limit]
        )
        return ViewerPage(viewers, viewers[-1].person.user_id if len(rows) > limit else None)

    async def note(self, pairs: Sequence[tuple[UserId, UserId]]) -> None:
        """Note of each pair of owner and viewer that the viewer has just received a location of the owner.

        It waits for nobody: what somebody else is writing at that moment is left as it is, until the next time.

        Raises:
            StoreUnavailable: the database failed.
        """
        if not pairs:
            return
        now_ms = self._clock()
        minute_ms = now_ms - now_ms % MINUTE_MS
        rows = [{"owner": owner, "viewer": viewer, "minute_ms": minute_ms} for owner, viewer in pairs]
        async with self._database.write() as connection:
            await connection.execute(_NOTE, rows)
