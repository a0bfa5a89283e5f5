"""The history store in one SQLite file, for the processes of one machine.

Write-ahead log with ``synchronous=FULL``: a write that returned survives the death of the process and of the
machine's power (as far as the disk tells the truth), for one fsync per batch. Readers in other processes see
each batch whole and are never blocked by the writer.

What was deleted is remembered for :data:`DELETIONS_KEPT_MS`, and an insert that comes late is checked against it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import aiosqlite

from location_history.sqlite_schema import upgrade
from nearby.errors import StoreUnavailable
from nearby.model import HistoryPoint, Location, UserId
from nearby.ports import Clock, HistoryPage

CALL_TIMEOUT_S = 10.0
"""Longer than the wait for another process's write lock, so that the lock is what gets named."""
_BUSY_TIMEOUT_S = 5.0
_DELETE_CHUNK = 10_000
"""Rows deleted per transaction: about 50 ms, in which no other process can write."""

DAY_MS = 86_400_000
DELETIONS_KEPT_MS = 8 * DAY_MS
"""Longer than a point waits to be stored."""

_READ = """
SELECT recorded_at_ms, lat_deg, lon_deg, accuracy_m, speed_mps, heading_deg, flagged FROM history
WHERE user_id = ? AND recorded_at_ms >= ? AND recorded_at_ms < ? AND expires_at_ms > ?
ORDER BY recorded_at_ms DESC LIMIT ?
"""
_INSERT = """
INSERT OR IGNORE INTO history SELECT :user_id, :recorded_at_ms, :lat_deg, :lon_deg, :accuracy_m, :speed_mps,
    :heading_deg, :flagged, :accepted_at_ms, :expires_at_ms
WHERE :expires_at_ms > :now_ms AND NOT EXISTS (
    SELECT 1 FROM deletions WHERE user_id = :user_id AND from_ms <= :recorded_at_ms AND :recorded_at_ms < to_ms
    AND :accepted_at_ms < accepted_before_ms
)
"""
_REMEMBER = "INSERT INTO deletions VALUES (:user_id, :from_ms, :to_ms, :accepted_before_ms, :kept_until_ms)"
_FORGET_COVERED = """
DELETE FROM deletions WHERE user_id = :user_id AND from_ms >= :from_ms AND to_ms <= :to_ms
AND accepted_before_ms <= :accepted_before_ms
"""
_FORGET = "DELETE FROM deletions WHERE kept_until_ms <= ?"
_DELETE = """
DELETE FROM history WHERE user_id = :user_id AND recorded_at_ms IN (
    SELECT recorded_at_ms FROM history WHERE user_id = :user_id AND recorded_at_ms >= :from_ms
    AND recorded_at_ms < :to_ms AND accepted_at_ms < :accepted_before_ms LIMIT :count
)
"""
_DELETE_EXPIRED = """
DELETE FROM history WHERE (user_id, recorded_at_ms) IN
(SELECT user_id, recorded_at_ms FROM history WHERE expires_at_ms <= ? LIMIT ?)
"""


@asynccontextmanager
async def open_sqlite(path: Path, retention_ms: int, clock: Clock) -> AsyncIterator[SqliteHistoryStore]:
    """Yield the store in the file ``path``, made with its folder if it is missing, upgraded if it is old.

    Points end ``retention_ms`` after their recording at the latest, by ``clock``.

    Raises:
        StoreUnavailable: the file cannot be opened, or is no database.
    """
    async with _answering():
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        connection = await aiosqlite.connect(path, timeout=_BUSY_TIMEOUT_S)
    async with aclosing(SqliteHistoryStore(connection, retention_ms, clock)) as store:
        async with _answering():
            await connection.execute("PRAGMA journal_mode=WAL")
            await connection.execute("PRAGMA synchronous=FULL")
            await upgrade(connection, retention_ms)
        yield store


class SqliteHistoryStore:
    """The port ``HistoryStore``. A call takes :data:`CALL_TIMEOUT_S` at most."""

    def __init__(self, connection: aiosqlite.Connection, retention_ms: int, clock: Clock) -> None:
        self._connection = connection
        self._retention_ms = retention_ms
        self._clock = clock
        self._writing = asyncio.Lock()

    async def write_many(self, points: Sequence[HistoryPoint]) -> None:
        """Store ``points`` in one transaction, durably before returning; drop what has ended or was deleted already.

        Raises:
            StoreUnavailable: none were stored, unless the commit itself timed out. Writing again is safe.
        """
        now_ms = self._clock()
        rows = [self._row(point, now_ms) for point in points]
        async with self._transaction():
            await self._connection.executemany(_INSERT, rows)

    async def read(self, user_id: UserId, from_ms: int, to_ms: int, limit: int) -> HistoryPage:
        """Return the newest ``limit`` points of one user with ``from_ms`` <= recorded_at < ``to_ms``.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        async with _answering():
            arguments = (user_id, from_ms, to_ms, self._clock(), limit + 1)
            found = list(await self._connection.execute_fetchall(_READ, arguments))
        points = tuple(_point(user_id, row) for row in found[:limit])
        return HistoryPage(points, points[-1].location.recorded_at_ms if len(found) > limit else None)

    async def delete(self, user_id: UserId, from_ms: int, to_ms: int, accepted_before_ms: int) -> None:
        """Delete, in chunks, the points of [``from_ms``, ``to_ms``) accepted before ``accepted_before_ms``.

        They stay deleted, even if they are written again.

        Raises:
            StoreUnavailable: some, all or none were deleted. Deleting again is safe.
        """
        which = {"user_id": user_id, "from_ms": from_ms, "to_ms": to_ms, "accepted_before_ms": accepted_before_ms}
        kept_until_ms = max(self._clock(), accepted_before_ms) + DELETIONS_KEPT_MS
        async with self._transaction():
            await self._connection.execute(_FORGET_COVERED, which)
            await self._connection.execute(_REMEMBER, {**which, "kept_until_ms": kept_until_ms})
        await self._delete_in_chunks(_DELETE, {**which, "count": _DELETE_CHUNK})

    async def delete_expired(self, now_ms: int) -> int:
        """Delete every point that has ended by ``now_ms``, in chunks, and return how many.

        Raises:
            StoreUnavailable: some may have been deleted.
        """
        async with self._transaction():
            await self._connection.execute(_FORGET, (now_ms,))
        return await self._delete_in_chunks(_DELETE_EXPIRED, (now_ms, _DELETE_CHUNK))

    async def aclose(self) -> None:
        """Close the file. Idempotent."""
        await self._connection.close()

    async def _delete_in_chunks(self, statement: str, arguments: tuple[int, int] | dict[str, object]) -> int:
        total_count = 0
        while True:
            async with self._transaction():
                cursor = await self._connection.execute(statement, arguments)
            total_count += cursor.rowcount
            if cursor.rowcount < _DELETE_CHUNK:
                return total_count

    def _row(self, point: HistoryPoint, now_ms: int) -> dict[str, object]:
        at = point.location
        retention_ms = self._retention_ms
        if point.retention_s is not None:
            retention_ms = min(retention_ms, point.retention_s * 1000)
        return {
            "user_id": point.user_id,
            "recorded_at_ms": at.recorded_at_ms,
            "lat_deg": at.lat_deg,
            "lon_deg": at.lon_deg,
            "accuracy_m": at.accuracy_m,
            "speed_mps": at.speed_mps,
            "heading_deg": at.heading_deg,
            "flagged": point.flagged,
            "accepted_at_ms": point.accepted_at_ms,
            "expires_at_ms": at.recorded_at_ms + retention_ms,
            "now_ms": now_ms,
        }

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
