"""PostgreSQL through asyncpg: the one file that imports the driver.

Every connection has time-outs on both sides. The server's end a statement, a wait for a lock and a transaction that
its process has forgotten; ours end the wait for a server that says nothing at all (a frozen one raises no error).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

SCHEME = "postgresql"

FAILURES: tuple[type[Exception], ...] = (asyncpg.PostgresError, asyncpg.InterfaceError)
"""What the driver raises while connecting, when SQLAlchemy does not yet translate."""

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


def has_no_tables(error: BaseException | None) -> bool:
    """Whether ``error`` of the driver says that nobody has run the migrations."""
    return getattr(error, "sqlstate", None) == _UNDEFINED_TABLE


def refers_to_nothing(error: BaseException | None) -> bool:
    """Whether ``error`` of the driver says that a row refers to one that does not exist."""
    return getattr(error, "sqlstate", None) == _FOREIGN_KEY_VIOLATION
