"""PostgreSQL through asyncpg: the one file that imports the driver.

Every connection has time-outs on both sides. The server's end a statement, a wait for a lock and a transaction that
its process has forgotten; ours end the wait for a server that says nothing at all (a frozen one raises no error).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import asyncpg
from sqlalchemy import URL, ColumnElement, PoolProxiedConnection, Select, String, any_, bindparam
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi, PGDialect_asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

SCHEME = "postgresql"

Rows = Sequence[Sequence[Any]]
"""Rows of an answer, each in the order of the question's columns."""

FAILURES: tuple[type[Exception], ...] = (asyncpg.PostgresError, asyncpg.InterfaceError, AsyncAdapt_asyncpg_dbapi.Error)
"""What the driver raises where SQLAlchemy does not translate: while it connects, and from :func:`fetch`."""

_MISTAKES = (asyncpg.SyntaxOrAccessError, asyncpg.DataError)

_UNDEFINED_TABLE = "42P01"
_FOREIGN_KEY_VIOLATION = "23503"
_SNAPSHOT = "REPEATABLE READ"
"""Each statement of a transaction then sees the state at its first one; in READ COMMITTED each sees its own."""


def engine_of(url: URL, pool_size: int, timeout_s: float) -> AsyncEngine:
    """Return an engine for ``url``, in the form and with the parameters of libpq; it connects when first used.

    asyncpg reads the URL itself, so ``sslmode``, ``sslrootcert``, ``passfile``, several hosts and
    ``target_session_attrs`` mean what they mean to every other client of PostgreSQL.
    """
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=_connector(url, timeout_s),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_s,
        # Errors would quote handles and hashes.
        hide_parameters=True,
    )


def _connector(url: URL, timeout_s: float) -> Callable[[], Awaitable[asyncpg.Connection]]:
    dsn = url.render_as_string(hide_password=False)
    limit_ms = str(round(timeout_s * 1000))
    server_settings = {
        "application_name": "nearby",
        "statement_timeout": limit_ms,
        "lock_timeout": limit_ms,
        "idle_in_transaction_session_timeout": str(round(timeout_s * 4000)),
        # Our statements are short; compiling them takes longer than running them.
        "jit": "off",
    }

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(dsn, timeout=timeout_s, command_timeout=timeout_s, server_settings=server_settings)

    return connect


def unlimited_engine_of(url: URL) -> AsyncEngine:
    """Return an engine whose statements may take as long as they need, for migrations."""
    dsn = url.render_as_string(hide_password=False)
    return create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn), pool_size=1)


def snapshots_of(engine: AsyncEngine) -> AsyncEngine:
    """Return ``engine`` for transactions that read several things as of one instant."""
    return engine.execution_options(isolation_level=_SNAPSHOT, postgresql_readonly=True)


def without_transactions(engine: AsyncEngine) -> AsyncEngine:
    """Return ``engine`` for single statements: one round trip in place of three."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def among_parameter(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Return the condition that ``column`` is one of the values of parameter ``name``, an array."""
    return column == any_(bindparam(name, type_=ARRAY(String())))


def compiled(statement: Select[*tuple[Any, ...]]) -> tuple[str, Sequence[str], Mapping[str, object]]:
    """Return ``statement`` as :func:`fetch` takes it, its parameters' names in order, and the values that it has."""
    dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
    made = statement.compile(dialect=dialect)
    literals = {name: bound.value for name, bound in made.binds.items() if not bound.required}
    return made.string, made.positiontup or (), literals


async def fetch(engine: AsyncEngine, sql: str, arguments: Sequence[object]) -> Rows:
    """Return the rows of a single read, asked on a connection of ``engine`` past SQLAlchemy, which costs a fifth.

    It is a transaction by itself, in one round trip; the driver prepares each ``sql`` once for each connection.
    """
    async with _DriverOf(engine) as driver:
        rows: Rows = await driver.fetch(sql, *arguments)
        return rows


async def fetch_snapshot(engine: AsyncEngine, reads: Sequence[tuple[str, Sequence[object]]]) -> list[Rows]:
    """Return the rows of each read as :func:`fetch` does, all as of one instant."""
    async with _DriverOf(engine) as driver, driver.transaction(isolation="repeatable_read", readonly=True):
        return [await driver.fetch(sql, *arguments) for sql, arguments in reads]


class _DriverOf:
    """The driver's own connection out of the pool of an engine, for the length of a context."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._pooled: PoolProxiedConnection

    async def __aenter__(self) -> asyncpg.Connection:
        self._pooled = await _open_connection(self._engine)
        return self._pooled.driver_connection

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        answered = error is None or isinstance(error, asyncpg.PostgresError)
        driver: asyncpg.Connection = self._pooled.driver_connection
        if answered and not driver.is_closed():
            self._pooled.close()
        else:
            # Nobody knows what is still under way on it.
            self._pooled.invalidate()


async def _open_connection(engine: AsyncEngine) -> PoolProxiedConnection:
    """Return a connection out of the pool, which keeps those that have died until somebody looks at them."""
    while True:
        pooled = await engine.raw_connection()
        driver: asyncpg.Connection = pooled.driver_connection
        if not driver.is_closed():
            return pooled
        pooled.invalidate()


def is_mistake(error: BaseException) -> bool:
    """Whether ``error`` of the driver says that the statement is wrong, rather than the database away."""
    return isinstance(error, _MISTAKES) and not has_no_tables(error)


def has_no_tables(error: BaseException | None) -> bool:
    """Whether ``error`` of the driver says that nobody has run the migrations."""
    return getattr(error, "sqlstate", None) == _UNDEFINED_TABLE


def refers_to_nothing(error: BaseException | None) -> bool:
    """Whether ``error`` of the driver says that a row refers to one that does not exist."""
    return getattr(error, "sqlstate", None) == _FOREIGN_KEY_VIOLATION
