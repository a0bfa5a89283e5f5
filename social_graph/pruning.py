"""Forgetting what has had its time: old rows of the change feed, and refresh tokens that have expired."""

from __future__ import annotations

from sqlalchemy import delete, func, select

from nearby.ports import Clock
from social_graph.database import Database
from social_graph.schema import changes, refresh_tokens

FEED_KEPT_S = 7 * 86_400
"""Far longer than a gateway may be cut off: its clients' tokens have expired by then."""


class Pruning:
    """Forgetting."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def prune(self) -> int:
        """Delete what is too old and return how many rows; the newest of the feed stays, so that its end is known.

        Raises:
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        newest = select(func.max(changes.c.sequence)).scalar_subquery()
        old = delete(changes).where(changes.c.created_ms < now_ms - FEED_KEPT_S * 1000, changes.c.sequence < newest)
        expired = delete(refresh_tokens).where(refresh_tokens.c.expires_ms <= now_ms)
        async with self._database.write() as connection:
            return sum([(await connection.execute(statement)).rowcount for statement in (old, expired)])
