"""Connections and transactions, on SQLite or PostgreSQL.

What a write transaction may rely on, the same on both:

* After :func:`social_graph.locks.hold` of some users, no other transaction that holds one of them runs until this one
  ends; so what it then reads about them still holds when it writes.
* The sequence of the change feed is the order of commits (see :mod:`social_graph.changes`): a gateway that tails the
  feed never looks back for a smaller sequence that commits late.

SQLite has one writer at a time, which gives both. PostgreSQL runs writers side by side: users are held by locks on
their rows, and only transactions that append to the feed wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Executable, Row, String, any_, literal, make_url
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from nearby.errors import NotFound, StoreUnavailable
from social_graph import postgresql, sqlite
from social_graph.postgresql import Rows
from social_graph.questions import Question

POOL_SIZE = 8
TIMEOUT_S = 5.0
"""How long a statement may take, a lock be waited for, and a caller wait for a connection or its turn to write."""

_FAILURES: tuple[type[Exception], ...] = (DBAPIError, PoolTimeout, OSError, TimeoutError, *postgresql.FAILURES)


class Database:
    """Read and write transactions on one engine; ``turns`` write transactions at once."""

    def __init__(
        self, snapshots: AsyncEngine, single: AsyncEngine, writing: AsyncEngine, turns: int, timeout_s: float
    ) -> None:
        self._snapshots = snapshots
        self._single = single
        self._writing = writing
        self._turns = asyncio.Semaphore(turns)
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection inside a transaction that sees one state of the database throughout.

        Raises:
            StoreUnavailable: the database failed.
        """
        with failures_told():
            async with self._snapshots.begin() as connection:
                yield connection

    async def rows(self, query: Executable) -> Sequence[Row[*tuple[Any, ...]]]:
        """Return all rows of a single query: cheaper than a transaction.

        Raises:
            StoreUnavailable: the database failed.
        """
        with failures_told():
            async with self._single.connect() as connection:
                return (await connection.execute(query)).all()

    async def scalar(self, query: Executable) -> Any:
        """Return the first value of the first row of a single query, ``None`` if there is none.

        Raises:
            StoreUnavailable: the database failed.
        """
        rows = await self.rows(query)
        return rows[0][0] if rows else None

    async def ask(self, question: Question, **values: object) -> Rows:
        """Return all rows of ``question`` with its parameters as in ``values``, each in the order of its columns.

        Cheaper than :meth:`rows` by far.

        Raises:
            StoreUnavailable: the database failed.
        """
        with failures_told():
            if self._single.dialect.name == postgresql.SCHEME:
                return await postgresql.fetch(self._single, question.sql, question.arguments(values))
            async with self._single.connect() as connection:
                return (await connection.execute(question.sqlite, values)).all()

    async def ask_together(self, *asked: tuple[Question, Mapping[str, object]]) -> list[Rows]:
        """Return what :meth:`ask` returns of each question with its values, all as of one instant.

        Raises:
            StoreUnavailable: the database failed.
        """
        with failures_told():
            if self._single.dialect.name == postgresql.SCHEME:
                reads = [(question.sql, question.arguments(values)) for question, values in asked]
                return await postgresql.fetch_snapshot(self._single, reads)
            async with self._snapshots.begin() as connection:
                return [(await connection.execute(question.sqlite, values)).all() for question, values in asked]

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection inside a transaction that commits at the end, and rolls back on any exception.

        Raises:
            NotFound: ``user_not_found``, somebody whom a new row refers to has been deleted meanwhile.
            StoreUnavailable: the database failed; what was written may or may not be there.
        """
        with failures_told():
            async with asyncio.timeout(self._timeout_s):
                await self._turns.acquire()
            try:
                async with self._writing.begin() as connection:
                    yield connection
            finally:
                self._turns.release()

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        await self._snapshots.dispose()


def among(connection: AsyncConnection, column: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that ``column`` is one of ``values``, however many, as one statement to plan and keep."""
    if connection.dialect.name == postgresql.SCHEME:
        return column == any_(literal(list(values), ARRAY(String())))
    return column.in_(values)


@contextmanager
def failures_told() -> Iterator[None]:
    """Turn failures of the database into StoreUnavailable; mistakes of ours pass.

    Raises:
        NotFound: ``user_not_found``, for a row that refers to nobody: every reference leads to a user in the end.
        StoreUnavailable: the database failed.
    """
    try:
        yield
    except IntegrityError as error:
        if postgresql.refers_to_nothing(error.orig) or sqlite.refers_to_nothing(error.orig):
            raise NotFound("user_not_found", "there is no such user") from error
        raise
    except DataError:
        raise
    except ProgrammingError as error:
        if not postgresql.has_no_tables(error.orig):
            raise
        raise _unavailable(error) from error
    except _FAILURES as error:
        if postgresql.is_mistake(error):
            raise
        raise _unavailable(error) from error


def _unavailable(error: BaseException) -> StoreUnavailable:
    cause = getattr(error, "orig", None) or error
    return StoreUnavailable("social_graph", f"{type(cause).__name__}: {cause}")


@asynccontextmanager
async def open_database(
    url: str, *, pool_size: int = POOL_SIZE, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[Database]:
    """Open the database at ``url`` (``sqlite:///FILE`` or ``postgresql://…``) for the length of the context.

    It has at most ``pool_size`` connections, half of which may be writing in PostgreSQL; ``timeout_s`` seconds is how
    long any one of them, and any wait for one, may take.
    """
    # In a thread, because SQLAlchemy asks the file system for the working directory.
    database = await asyncio.to_thread(_database, url, pool_size, timeout_s)
    try:
        yield database
    finally:
        await database.aclose()


def _database(url: str, pool_size: int, timeout_s: float) -> Database:
    parsed = make_url(url)
    if parsed.drivername == postgresql.SCHEME:
        engine = postgresql.engine_of(parsed, pool_size, timeout_s)
        single, snapshots = postgresql.without_transactions(engine), postgresql.snapshots_of(engine)
        return Database(snapshots, single, engine, max(1, pool_size // 2), timeout_s)
    engine = sqlite.engine_of(parsed, pool_size, timeout_s)
    # SQLite makes waiting writers poll; in line they are served at once and in order.
    return Database(engine, engine, sqlite.writing(engine), 1, timeout_s)
