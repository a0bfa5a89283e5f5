"""The history store in Cassandra, for systems of more than one machine.

A partition holds one user's points of one day (UTC), newest first. The write timestamp of a row is the instant at which
the history stream took it, and that of a deletion the instant before which it applies. So a point that is written again
changes nothing, of two points for one instant the one that the stream took last remains, and what was deleted stays
deleted, whoever writes it late. Cassandra frees rows by itself: each has its TTL.

It may be away when a process starts. Then calls fail, and it is tried again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from location_history.cassandra_rows import (
    BATCH_SIZES,
    DAY_MS,
    StoredFix,
    bigint,
    days,
    inserts,
    integer,
    partition_key,
    point_of,
)
from location_history.cassandra_schema import VERSION, longest_retention_s, version
from location_history.cql import READ, WRITE, CassandraAddress, CqlSession, Prepared, bound, open_session
from nearby.errors import StoreUnavailable
from nearby.model import HistoryPoint, UserId
from nearby.ports import Clock, HistoryPage
from nearby.settings import CassandraSettings

READ_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 30.0
"""The bounds of a whole call."""
FIRST_CONNECTION_S = 10.0
"""How long opening waits for the first connection; then it goes on in the background."""
RETRY_S = 1.0
CLOCKS_APART_MS = DAY_MS
"""A phone's clock may be ahead, and so may ours be behind."""
PROBE_COUNTS = (1, 8, 32)
"""Days that are asked for at once: the newest, and more of them the longer nothing is found."""
PROBE_SHARE = 4
"""When several days are asked for at once, each gives at most this part of what is wanted."""
LEAST_PROBE_ROWS = 100

_INSERT = """
INSERT INTO {keyspace}.history (user_id, day, recorded_at, fix) VALUES (?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?
"""
_SELECT = """
SELECT toUnixTimestamp(recorded_at), fix FROM {keyspace}.history
WHERE user_id = ? AND day = ? AND recorded_at >= ? AND recorded_at < ? LIMIT ?
"""
_DELETE = """
DELETE FROM {keyspace}.history USING TIMESTAMP ?
WHERE user_id = ? AND day = ? AND recorded_at >= ? AND recorded_at < ?
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A session, its prepared statements, and for how long the oldest points may have been meant to be kept."""

    session: CqlSession
    inserts: dict[int, Prepared]
    select: Prepared
    delete: Prepared
    longest_ms: int


@asynccontextmanager
async def open_cassandra(
    address: CassandraAddress, retention_ms: int, clock: Clock, settings: CassandraSettings
) -> AsyncIterator[CassandraHistoryStore]:
    """Yield the store in the keyspace at ``address``. Points end ``retention_ms`` after their recording at the latest.

    Raises:
        SettingsError: a file for TLS cannot be used.
    """
    store = CassandraHistoryStore(address, settings, retention_ms, clock)
    try:
        async with asyncio.TaskGroup() as tasks:
            connecting = tasks.create_task(store.stay_connected(), name="stay connected to the history store")
            try:
                await store.tried(FIRST_CONNECTION_S)
                yield store
            finally:
                connecting.cancel()
    except BaseExceptionGroup as group:
        # What callers raise comes out as it is: of the group they know nothing.
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None


class CassandraHistoryStore:
    """The port ``HistoryStore``. Reads take :data:`READ_TIMEOUT_S` at most, other calls :data:`WRITE_TIMEOUT_S`."""

    def __init__(self, address: CassandraAddress, settings: CassandraSettings, retention_ms: int, clock: Clock) -> None:
        self._address = address
        self._settings = settings
        self._retention_ms = retention_ms
        self._clock = clock
        self._opened: _Opened | None = None
        self._problem = "not connected yet"
        self._is_tried = asyncio.Event()
        self._closed = asyncio.Event()

    async def stay_connected(self) -> None:
        """Open a session and keep it until closed or cancelled; while that fails, try again and again.

        A session that is open once lives through outages by itself.

        Raises:
            SettingsError: a file for TLS cannot be used.
        """
        while not self._closed.is_set():
            try:
                async with open_session(self._address, self._settings) as session:
                    self._opened = await self._prepare(session)
                    self._is_tried.set()
                    await self._closed.wait()
            except StoreUnavailable as error:
                if error.detail != self._problem:
                    _log.warning("%s", error)
                self._problem = error.detail
                self._is_tried.set()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_S):
                        await self._closed.wait()
            finally:
                self._opened = None

    async def tried(self, within_s: float) -> None:
        """Return after the first attempt to connect, however it went, or after ``within_s`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._is_tried.wait()

    async def write_many(self, points: Sequence[HistoryPoint]) -> None:
        """Store ``points``, those of one user and day together; drop what has ended or was deleted already.

        Raises:
            StoreUnavailable: some, all or none were stored. Writing again is safe.
        """
        opened = self._at_hand()
        statements = (
            bound(opened.inserts[insert.count], insert.values)
            for insert in inserts(points, self._retention_ms, self._clock())
        )
        async with _within(WRITE_TIMEOUT_S):
            await opened.session.run_all(statements, WRITE)

    async def read(self, user_id: UserId, from_ms: int, to_ms: int, limit: int) -> HistoryPage:
        """Return the newest ``limit`` points of one user with ``from_ms`` <= recorded_at < ``to_ms``.

        Raises:
            StoreUnavailable: too few replicas answer.
        """
        opened = self._at_hand()
        now_ms = self._clock()
        # What is older has ended, whatever retention it was written under.
        from_ms = max(from_ms, now_ms - self._retention_ms + 1)
        to_ms = min(to_ms, now_ms + CLOCKS_APART_MS)
        async with _within(READ_TIMEOUT_S):
            rows = await self._newest(opened, user_id, from_ms, to_ms, limit + 1)
        points = tuple(point_of(user_id, row) for row in rows[:limit])
        return HistoryPage(points, points[-1].location.recorded_at_ms if len(rows) > limit else None)

    async def delete(self, user_id: UserId, from_ms: int, to_ms: int, accepted_before_ms: int) -> None:
        """Delete the points of [``from_ms``, ``to_ms``) accepted before ``accepted_before_ms``.

        They stay deleted, even if they are written again within :data:`cassandra_schema.GC_GRACE_S`.

        Raises:
            StoreUnavailable: some, all or none were deleted. Deleting again is safe.
        """
        opened = self._at_hand()
        now_ms = self._clock()
        longest_ms = max(opened.longest_ms, self._retention_ms) + CLOCKS_APART_MS
        from_ms = max(from_ms, now_ms - longest_ms)
        to_ms = min(to_ms, max(now_ms, accepted_before_ms) + CLOCKS_APART_MS)
        written_before_us = bigint(accepted_before_ms * 1000 - 1)
        statements = (
            bound(opened.delete, [written_before_us, *partition_key(user_id, day), bigint(from_ms), bigint(to_ms)])
            for day in days(from_ms, to_ms)
        )
        async with _within(WRITE_TIMEOUT_S):
            await opened.session.run_all(statements, WRITE)

    async def delete_expired(self, now_ms: int) -> int:
        """Return 0: Cassandra frees by itself what has ended."""
        return 0

    async def aclose(self) -> None:
        """Close the store. Idempotent."""
        self._opened = None
        self._problem = "closed"
        self._closed.set()

    async def _newest(self, opened: _Opened, user_id: UserId, from_ms: int, to_ms: int, count: int) -> list[StoredFix]:
        """Return the newest ``count`` rows of [``from_ms``, ``to_ms``).

        Most days of most users are whole or empty. So the newest day is read alone, and where it does not suffice, ever
        more days at once, each up to a part of what is wanted. The first day of which there was more ends such a round.
        """
        found: list[StoredFix] = []
        probe = 0
        while from_ms < to_ms and len(found) < count:
            probed = days(from_ms, to_ms)[: PROBE_COUNTS[probe]]
            wanted = count - len(found)
            if len(probed) > 1:
                wanted = min(wanted, max(wanted // PROBE_SHARE, LEAST_PROBE_ROWS))
            async with asyncio.TaskGroup() as tasks:
                reads = [tasks.create_task(self._day(opened, user_id, day, from_ms, to_ms, wanted)) for day in probed]
            to_ms = probed[-1] * DAY_MS
            probe = min(probe + 1, len(PROBE_COUNTS) - 1)
            for read in reads:
                rows = read.result()
                found += rows
                if len(rows) == wanted:
                    to_ms = rows[-1].recorded_at_ms
                    probe = 0
                    break
        return found[:count]

    async def _day(
        self, opened: _Opened, user_id: UserId, day: int, from_ms: int, to_ms: int, count: int
    ) -> list[StoredFix]:
        values = [*partition_key(user_id, day), bigint(from_ms), bigint(to_ms), integer(count)]
        rows = await opened.session.run(bound(opened.select, values), READ)
        return [StoredFix(recorded_at_ms, *fix) for recorded_at_ms, fix in rows]

    async def _prepare(self, session: CqlSession) -> _Opened:
        keyspace = self._address.keyspace
        await session.use(keyspace)
        present = await version(session)
        if present < VERSION:
            raise StoreUnavailable("history", f"its schema is version {present} of {VERSION}: nearby history migrate")
        insert = _INSERT.format(keyspace=keyspace)
        return _Opened(
            session,
            {size: await session.prepare(_batch(insert, size)) for size in BATCH_SIZES},
            await session.prepare(_SELECT.format(keyspace=keyspace)),
            await session.prepare(_DELETE.format(keyspace=keyspace)),
            await longest_retention_s(session, keyspace) * 1000,
        )

    def _at_hand(self) -> _Opened:
        if self._opened is None:
            raise StoreUnavailable("history", self._problem)
        return self._opened


def _batch(statement: str, count: int) -> str:
    if count == 1:
        return statement
    # Unlogged: of one partition, so that it is one write for each replica, whole or not at all.
    return f"BEGIN UNLOGGED BATCH {'; '.join([statement] * count)}; APPLY BATCH"


@asynccontextmanager
async def _within(timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise StoreUnavailable("history", f"no answer within {timeout_s:g} s") from error
    except BaseExceptionGroup as group:
        lost, other = group.split(StoreUnavailable)
        if lost is None or other is not None:
            raise
        raise StoreUnavailable("history", _detail(lost)) from group


def _detail(group: BaseExceptionGroup[StoreUnavailable]) -> str:
    first = group.exceptions[0]
    return _detail(first) if isinstance(first, BaseExceptionGroup) else first.detail
