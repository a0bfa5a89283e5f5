"""The history store in one SQLite file, for the processes of one machine.

Write-ahead log with ``synchronous=FULL``: a write that returned survives the death of the process and of the
machine's power (as far as the disk tells the truth), for one fsync per batch. Readers in other processes see
each batch whole and are never blocked by the writer.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import aiosqlite

from nearby.errors import StoreUnavailable
from nearby.model import HistoryPoint, Location, UserId
from nearby.ports import HistoryPage

CALL_TIMEOUT_S = 10.0
"""Longer than the wait for another process's write lock, so that the lock is what gets named."""
_BUSY_TIMEOUT_S = 5.0
_DELETE_CHUNK = 10_000
"""Rows deleted per transaction: about 50 ms, in which no other process can write."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS history (
    user_id TEXT NOT NULL,
    recorded_at_ms INTEGER NOT NULL,
    lat_deg REAL NOT NULL,
    lon_deg REAL NOT NULL,
    accuracy_m REAL,
    speed_mps REAL,
    heading_deg REAL,
    flagged INTEGER NOT NULL,
    PRIMARY KEY (user_id, recorded_at_ms)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS history_by_time ON history (recorded_at_ms);
"""
_INSERT = "INSERT OR IGNORE INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_READ = """
SELECT recorded_at_ms, lat_deg, lon_deg, accuracy_m, speed_mps, heading_deg, flagged FROM history
WHERE user_id = ? AND recorded_at_ms >= ? AND recorded_at_ms < ? ORDER BY recorded_at_ms DESC LIMIT ?
"""
_DELETE = """
DELETE FROM history WHERE (user_id, recorded_at_ms) IN
(SELECT user_id, recorded_at_ms FROM history WHERE recorded_at_ms < ? LIMIT ?)
"""


@asynccontextmanager
async def open_sqlite(path: Path) -> AsyncIterator[SqliteHistoryStore]:
    """Yield the store in the file ``path``, made with its folder if it is missing.

    Raises:
        StoreUnavailable: the file cannot be opened, or is no database.
    """
    async with _answering():
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        connection = await aiosqlite.connect(path, timeout=_BUSY_TIMEOUT_S)
    async with aclosing(SqliteHistoryStore(connection)) as store:
        async with _answering():
            await connection.execute("PRAGMA journal_mode=WAL")
            await connection.execute("PRAGMA synchronous=FULL")
            await connection.executescript(_SCHEMA)
        yield store


class SqliteHistoryStore:
    """The port ``HistoryStore``. A call takes :data:`CALL_TIMEOUT_S` at most."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._writing = asyncio.Lock()

    async def write_many(self, points: Sequence[HistoryPoint]) -> None:
        """Store ``points`` in one transaction, durably before returning.

        Raises:
            StoreUnavailable: none were stored, unless the commit itself timed out. Writing again is safe.
        """
        rows = [_row(point) for point in points]
        async with self._transaction():
            await self._connection.executemany(_INSERT, rows)

    async def read(self, user_id: UserId, from_ms: int, to_ms: int, limit: int) -> HistoryPage:
        """Return the newest ``limit`` points of one user with ``from_ms`` <= recorded_at < ``to_ms``.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        async with _answering():
            found = list(await self._connection.execute_fetchall(_READ, (user_id, from_ms, to_ms, limit + 1)))
        points = tuple(_point(user_id, row) for row in found[:limit])
        return HistoryPage(points, points[-1].location.recorded_at_ms if len(found) > limit else None)

    async def delete_expired(self, before_ms: int) -> int:
        """Delete every point recorded before ``before_ms``, in chunks, and return how many.

        Raises:
            StoreUnavailable: some may have been deleted.
        """
        total_count = 0
        while True:
            async with self._transaction():
                cursor = await self._connection.execute(_DELETE, (before_ms, _DELETE_CHUNK))
            total_count += cursor.rowcount
            if cursor.rowcount < _DELETE_CHUNK:
                return total_count

    async def aclose(self) -> None:
        """Close the file. Idempotent."""
        await self._connection.close()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        async with _answering(), self._writing:
            try:
                yield
                await self._connection.commit()
            except BaseException:
                # Also when cancelled: an open transaction would keep every other process from writing.
                await self._connection.rollback()
                raise


def _row(point: HistoryPoint) -> tuple[object, ...]:
    at = point.location
    return (
        point.user_id,
        at.recorded_at_ms,
        at.lat_deg,
        at.lon_deg,
        at.accuracy_m,
        at.speed_mps,
        at.heading_deg,
        point.flagged,
    )


def _point(user_id: UserId, row: sqlite3.Row) -> HistoryPoint:
    recorded_at_ms, lat_deg, lon_deg, accuracy_m, speed_mps, heading_deg, flagged = row
    location = Location(lat_deg, lon_deg, recorded_at_ms, accuracy_m, speed_mps, heading_deg)
    return HistoryPoint(user_id, location, bool(flagged))


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Bound a call and turn what the driver raises into ``StoreUnavailable``."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            yield
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable("history", f"{type(error).__name__}: {error}") from error
