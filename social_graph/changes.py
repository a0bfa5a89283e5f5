"""The change feed: every change that gateways must enforce, in the order in which it became true.

Invariant: sequences have no gaps, and their order is the order of commits. The next one is taken from the one row of
``feed_head``, which stays locked until its transaction ends; whoever appends after it gets the next number after it
has committed. A sequence of the database's own would be faster and wrong: it numbers transactions in the order in
which they ask, and a reader that has seen 7 would never look for the 6 that commits later.

The price is that transactions which append commit one after another; all others do not wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change, decode_row, encode
from social_graph.database import Database
from social_graph.schema import changes, feed_head

C = TypeVar("C", bound=Change)

UNNUMBERED = 0
"""The ``sequence`` of a change that has no row yet."""


async def append(connection: AsyncConnection, change: C, now_ms: int) -> C:
    """Add ``change`` to the feed inside the transaction that makes it true; return it with its sequence.

    Others who append wait from here until this transaction ends, so it comes late in one.
    """
    [appended] = await append_all(connection, [change], now_ms)
    return appended


async def append_all(connection: AsyncConnection, added: Sequence[C], now_ms: int) -> list[C]:
    """Add changes in their order as :func:`append` does, at once; there is one at least."""
    taken = update(feed_head).values(sequence=feed_head.c.sequence + len(added)).returning(feed_head.c.sequence)
    newest = (await connection.execute(taken)).scalar_one()
    sequences = range(newest - len(added) + 1, newest + 1)
    rows = [
        {"sequence": sequence, "payload": encode(change).decode(), "created_ms": now_ms}
        for sequence, change in zip(sequences, added, strict=True)
    ]
    await connection.execute(insert(changes), rows)
    return [
        msgspec.structs.replace(change, sequence=sequence) for sequence, change in zip(sequences, added, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class FeedPart:
    """Changes in order, the newest sequence there is, and the newest one that is no longer kept (0: all are)."""

    changes: list[Change]
    latest: int
    pruned_to: int


class ChangeFeed:
    """Reading the feed, and forgetting its beginning."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def part_after(self, sequence: int, limit: int) -> FeedPart:
        """Return up to ``limit`` changes after row ``sequence``, oldest first; none at the end of the feed.

        A change that is not in the answer commits with a greater sequence than all that are, unless
        ``sequence`` < ``pruned_to``: then changes in between are lost to this reader, who must read anew what they
        told.

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
            head = (await connection.execute(select(feed_head))).one()
            rows = (await connection.execute(query)).all()
        found = [decode_row(row.payload, row.sequence) for row in rows]
        return FeedPart(found, head.sequence, head.pruned_to)

    async def changes_after(self, sequence: int, limit: int) -> list[Change]:
        """Return the changes of :meth:`part_after`."""
        return (await self.part_after(sequence, limit)).changes

    async def latest_sequence(self) -> int:
        """Return the newest row of the feed; 0 if there never was one.

        Raises:
            StoreUnavailable: the database failed.
        """
        return int(await self._database.scalar(select(feed_head.c.sequence)))

    async def prune(self, before_ms: int, limit: int = 10_000) -> int:
        """Forget up to ``limit`` of the oldest changes, those made before ``before_ms``; return how many.

        Raises:
            StoreUnavailable: the database failed.
        """
        oldest = select(changes.c.sequence, changes.c.created_ms).order_by(changes.c.sequence).limit(limit)
        rows = await self._database.rows(oldest)
        # A prefix: one clock of several may be odd.
        due = [row.sequence for row in takewhile(lambda row: row.created_ms < before_ms, rows)]
        if not due:
            return 0
        behind = feed_head.c.pruned_to < due[-1]
        async with self._database.write() as connection:
            await connection.execute(update(feed_head).where(behind).values(pruned_to=due[-1]))
            await connection.execute(delete(changes).where(changes.c.sequence <= due[-1]))
        return len(due)
