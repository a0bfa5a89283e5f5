"""Bring a database up to the newest version of the schema."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, func, make_url, select

from social_graph import postgresql, sqlite
from social_graph.database import TIMEOUT_S, failures_told

_MIGRATIONS = Path(__file__).parent / "migrations"
_UPGRADE_LOCK = 5_427_316_201
"""The advisory lock, any number that nobody else uses, under which migrations run in PostgreSQL."""


def upgrade(url: str) -> None:
    """Upgrade the database at ``url`` to head, creating the file of an SQLite one; at head already, change nothing.

    All in one write transaction, so that several processes may do it at once. Blocks, so an event loop runs it in
    a thread.

    Raises:
        StoreUnavailable: the database failed.
    """
    parsed = make_url(url)
    with failures_told():
        if parsed.drivername == postgresql.SCHEME:
            asyncio.run(_upgrade_postgresql(parsed))
        else:
            _upgrade_sqlite(parsed)


def _upgrade_sqlite(url: URL) -> None:
    engine = sqlite.blocking_engine_of(url, TIMEOUT_S)
    try:
        with sqlite.writing_blocking(engine).begin() as connection:
            _run(connection)
    finally:
        engine.dispose()


async def _upgrade_postgresql(url: URL) -> None:
    engine = postgresql.unlimited_engine_of(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


def _run(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
