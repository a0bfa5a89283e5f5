"""The tables of the SQLite history, and how a file of an earlier version gets them.

``PRAGMA user_version`` is the version of a file: 0 is new, or from before points had an end of their own.
"""

from __future__ import annotations

import aiosqlite

_VERSION = 1

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS history (
        user_id TEXT NOT NULL,
        recorded_at_ms INTEGER NOT NULL,
        lat_deg REAL NOT NULL,
        lon_deg REAL NOT NULL,
        accuracy_m REAL,
        speed_mps REAL,
        heading_deg REAL,
        flagged INTEGER NOT NULL,
        accepted_at_ms INTEGER NOT NULL DEFAULT 0,
        expires_at_ms INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (user_id, recorded_at_ms)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS deletions (
        user_id TEXT NOT NULL,
        from_ms INTEGER NOT NULL,
        to_ms INTEGER NOT NULL,
        accepted_before_ms INTEGER NOT NULL,
        kept_until_ms INTEGER NOT NULL
    )
    """,
    "DROP INDEX IF EXISTS history_by_time",
    "CREATE INDEX IF NOT EXISTS history_by_expiry ON history (expires_at_ms)",
    "CREATE INDEX IF NOT EXISTS deletions_by_user ON deletions (user_id)",
)


async def upgrade(connection: aiosqlite.Connection, retention_ms: int) -> None:
    """Bring the file up to the newest version in one transaction, so that several processes may do it at once.

    Points from before they had an end of their own end ``retention_ms`` after their recording.

    Raises:
        sqlite3.Error: the file cannot be upgraded; it is as before.
    """
    await connection.execute("BEGIN IMMEDIATE")
    try:
        [[version]] = await connection.execute_fetchall("PRAGMA user_version")
        if version < _VERSION:
            columns = {row[1] for row in await connection.execute_fetchall("PRAGMA table_info(history)")}
            if columns and "expires_at_ms" not in columns:
                for name in ("accepted_at_ms", "expires_at_ms"):
                    await connection.execute(f"ALTER TABLE history ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0")
                await connection.execute("UPDATE history SET expires_at_ms = recorded_at_ms + ?", (retention_ms,))
            for statement in _TABLES:
                await connection.execute(statement)
            await connection.execute(f"PRAGMA user_version = {_VERSION}")
        await connection.commit()
    except BaseException:
        await connection.rollback()
        raise
