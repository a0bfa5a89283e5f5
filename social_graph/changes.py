"""The change feed: every change that gateways must enforce, in the order in which it became true."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change, decode, encode
from social_graph.database import Database
from social_graph.schema import changes

C = TypeVar("C", bound=Change)

UNNUMBERED = 0
"""The ``sequence`` of a change that has no row yet."""


async def append(connection: AsyncConnection, change: C, now_ms: int) -> C:
    """Add ``change`` to the feed inside the transaction that makes it true; return it with its sequence."""
    row = insert(changes).values(payload=encode(change).decode(), created_ms=now_ms)
    result = await connection.execute(row)
    key = result.inserted_primary_key
    assert key is not None
    return msgspec.structs.replace(change, sequence=key[0])


async def latest(connection: AsyncConnection) -> int:
    """Return the newest row of the feed as this transaction sees it; 0 if there is none."""
    return await connection.scalar(select(func.max(changes.c.sequence))) or 0


class ChangeFeed:
    """Reading the feed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def changes_after(self, sequence: int, limit: int) -> list[Change]:
        """Return up to ``limit`` changes after row ``sequence``, oldest first; empty at the end of the feed.

        A change that is not in the answer commits with a greater sequence than all that are.

        Raises:
            StoreUnavailable: the database failed.
        """
        query = (
            select(changes.c.sequence, changes.c.payload)
            .where(changes.c.sequence > sequence)
            .order_by(changes.c.sequence)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [msgspec.structs.replace(decode(row.payload), sequence=row.sequence) for row in rows]

    async def latest_sequence(self) -> int:
        """Return the newest row of the feed; 0 if there is none.

        Raises:
            StoreUnavailable: the database failed.
        """
        async with self._database.read() as connection:
            return await latest(connection)
