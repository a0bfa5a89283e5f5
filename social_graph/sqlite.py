"""SQLite through aiosqlite: one file, one writer at a time, readers beside it."""

from __future__ import annotations

import sqlite3
import time
from functools import partial
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection, Engine, bindparam, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

SCHEME = "sqlite"

_WRITE = "nearby_write"


def engine_of(url: URL, pool_size: int, timeout_s: float) -> AsyncEngine:
    """Return an engine for ``url``; it opens the file when first used."""
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_s,
        # Errors would quote handles and hashes.
        hide_parameters=True,
    )
    _listen(engine.sync_engine, timeout_s)
    return engine


def blocking_engine_of(url: URL, timeout_s: float) -> Engine:
    """Return an engine for programs without an event loop; its connections switch the file to WAL."""
    engine = create_engine(url, hide_parameters=True)
    _listen(engine, timeout_s)
    event.listen(engine, "connect", partial(_switch_to_wal, timeout_s))
    return engine


def writing(engine: AsyncEngine) -> AsyncEngine:
    """Return ``engine`` with transactions that take the write lock before their first read.

    What such a transaction has checked still holds when it writes.
    """
    return engine.execution_options(**{_WRITE: True})


def writing_blocking(engine: Engine) -> Engine:
    """Return ``engine`` as :func:`writing` does."""
    return engine.execution_options(**{_WRITE: True})


def _listen(engine: Engine, timeout_s: float) -> None:
    event.listen(engine, "connect", partial(_prepare, timeout_s))
    event.listen(engine, "begin", _begin)


def _prepare(timeout_s: float, connection: Any, _: Any) -> None:
    # Transactions begin in `_begin`; the driver would begin them late, after the first reads.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {round(timeout_s * 1000)}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _switch_to_wal(timeout_s: float, connection: Any, _: Any) -> None:
    """Let readers and a writer go on side by side. A property of the file, so once is enough."""
    deadline_s = time.monotonic() + timeout_s
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


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def among_parameter(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Return the condition that ``column`` is one of the values of parameter ``name``, a list."""
    return column.in_(bindparam(name, expanding=True))


def refers_to_nothing(error: BaseException | None) -> bool:
    """Whether ``error`` of the driver says that a row refers to one that does not exist."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
