"""Connections and transactions: the one file that knows which database is underneath.

Invariant: write transactions run one after another. In SQLite ``BEGIN IMMEDIATE`` takes the write lock before the
first read, so what a transaction has checked still holds when it writes, and the sequence of the change feed is
the order of commits. Another database must give the same here (in PostgreSQL: ``pg_advisory_xact_lock`` at the
begin), because a gateway that tails the feed never looks back for a smaller sequence that commits late.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from nearby.errors import StoreUnavailable

_DRIVERS = {"sqlite": "sqlite+aiosqlite"}
_POOL_SIZE = 8
_WAIT_S = 5
"""How long a statement waits for a lock and a caller for a connection or its turn to write."""

_WRITE = "nearby_write"


class Database:
    """Read and write transactions on one engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writing_engine = engine.execution_options(**{_WRITE: True})
        # SQLite makes waiting writers poll; in line they are served at once and in order.
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection inside a transaction that sees one state of the database throughout.

        Raises:
            StoreUnavailable: the database failed.
        """
        with _failures_told():
            async with self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection inside a transaction that commits at the end, and rolls back on any exception.

        Raises:
            StoreUnavailable: the database failed; what was written may or may not be there.
        """
        with _failures_told():
            async with asyncio.timeout(_WAIT_S):
                await self._turn.acquire()
            try:
                async with self._writing_engine.begin() as connection:
                    yield connection
            finally:
                self._turn.release()

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        await self._engine.dispose()


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except (IntegrityError, ProgrammingError, DataError):
        raise
    except (DBAPIError, PoolTimeout, OSError) as error:
        cause = getattr(error, "orig", None) or error
        raise StoreUnavailable("social_graph", f"{type(cause).__name__}: {cause}") from error


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """Open the database at ``url`` (``sqlite:///FILE``) for the length of the context."""
    # In a thread, because SQLAlchemy asks the file system for the working directory.
    database = Database(await asyncio.to_thread(engine_of, url))
    try:
        yield database
    finally:
        await database.aclose()


def engine_of(url: str) -> AsyncEngine:
    """Return an engine for ``url``, the driver chosen by its scheme. Connects when first used."""
    parsed = make_url(url)
    engine = create_async_engine(
        parsed.set(drivername=_DRIVERS[parsed.drivername]),
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=_WAIT_S,
        # Errors would quote handles and hashes.
        hide_parameters=True,
    )
    _listen_sqlite(engine.sync_engine)
    return engine


@contextmanager
def write_blocking(url: str) -> Iterator[Connection]:
    """Yield a connection inside a write transaction, for programs without an event loop.

    Raises:
        StoreUnavailable: the database failed; what was written may or may not be there.
    """
    engine = create_engine(url, hide_parameters=True)
    _listen_sqlite(engine)
    event.listen(engine, "connect", _switch_to_wal)
    try:
        with _failures_told(), engine.execution_options(**{_WRITE: True}).begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _listen_sqlite(engine: Engine) -> None:
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # Transactions begin in `_begin_sqlite`; the driver would begin them late, after the first reads.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_WAIT_S * 1000}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _switch_to_wal(connection: Any, _: Any) -> None:
    """Let readers and a writer go on side by side. A property of the file, so once is enough."""
    deadline_s = time.monotonic() + _WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            # For this lock SQLite does not wait by itself, whatever the busy timeout.
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
