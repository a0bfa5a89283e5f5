"""The schema of the history in Cassandra, and how a keyspace gets it.

Migrations are numbered, and each adds to the schema without changing what older processes read and write. Applying one
again changes nothing. What has been applied stands in the table ``migrations``.

Two that migrate at once do no harm: a row of that table is a lock, taken by a conditional insert, and its table has an
identity made from its name, so that it is the same one even if two nodes make it at once.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from location_history.cql import CqlSession
from nearby.errors import StoreUnavailable

LOCK_S = 120
"""A lock whose owner died is free after this long."""
LOCK_POLL_S = 0.5
RETRY_S = 30.0
"""How long a change is tried: nodes that have just met refuse it."""
WINDOWS_COUNT = 45
"""Files of one time window end together with their points. A window for each of so many parts of the retention keeps
the number of files small and what stays on disk too long at one part."""
GC_GRACE_S = 10 * 86_400
"""How long a deletion is remembered: longer than a point waits in the stream, and longer than a node may be away."""

_NAMESPACE = uuid.UUID("b8c1a3f0-6f3e-4a55-9d0e-2f6a0f0f7c11")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema; ``{id_of_history}`` is filled in."""

    version: int
    statements: tuple[str, ...]


MIGRATIONS: Sequence[Migration] = (
    Migration(
        1,
        (
            # A fix is one value, so that of two for the same instant one remains as it was, and not a mixture.
            "CREATE TYPE IF NOT EXISTS fix (lat_deg double, lon_deg double, accuracy_m double, "
            "speed_mps double, heading_deg double, flagged boolean)",
            "CREATE TABLE IF NOT EXISTS history (user_id uuid, day date, recorded_at timestamp, "
            "fix frozen<fix>, PRIMARY KEY ((user_id, day), recorded_at)) WITH id = {id_of_history} "
            "AND CLUSTERING ORDER BY (recorded_at DESC) AND gc_grace_seconds = " + str(GC_GRACE_S),
        ),
    ),
)
VERSION = MIGRATIONS[-1].version
"""The schema that this code needs; a newer one is as good."""


async def migrate(
    session: CqlSession, keyspace: str, replication: Mapping[str, int], retention_days: float
) -> list[str]:
    """Bring ``keyspace`` to :data:`VERSION`, made with ``replication`` copies per datacenter if it is missing.

    The table is set up for points that end after ``retention_days``; it is never set up for a shorter time than before.
    Return what was done, a line each.

    Raises:
        StoreUnavailable: some of it may have been done. Doing it again is safe.
    """
    done: list[str] = []
    copies = "".join(f", '{datacenter}': {count}" for datacenter, count in replication.items())
    await _change(
        session,
        f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy'{copies}}}",
    )
    await session.use(keyspace)
    await _change(
        session,
        f"CREATE TABLE IF NOT EXISTS migrations (version int PRIMARY KEY, owner uuid, "
        f"applied_at timestamp) WITH id = {_table_id(keyspace, 'migrations')}",
    )
    owner = uuid.uuid4()
    await _lock(session, owner)
    try:
        present = await version(session)
        for migration in MIGRATIONS:
            if migration.version > present:
                await _apply(session, keyspace, migration)
                done.append(f"version {migration.version} applied")
        if await _prolong(session, keyspace, math.ceil(retention_days * 86_400)):
            done.append(f"points may be kept for {retention_days:g} days")
    finally:
        await session.execute("DELETE FROM migrations WHERE version = 0 IF owner = %s", owner)
    return done


async def version(session: CqlSession) -> int:
    """Return the version of the schema in the keyspace in use, 0 if it has none.

    Raises:
        StoreUnavailable: there is no table of versions, or nobody answers.
    """
    rows = await session.execute("SELECT version FROM migrations")
    return max((number for (number,) in rows), default=0)


async def longest_retention_s(session: CqlSession, keyspace: str) -> int:
    """Return for how long the oldest points in ``keyspace`` may have been meant to be kept, seconds.

    Raises:
        StoreUnavailable: nobody answers.
    """
    rows = await session.execute(
        "SELECT default_time_to_live FROM system_schema.tables WHERE keyspace_name = %s AND table_name = 'history'",
        keyspace,
    )
    return int(rows[0][0]) if rows else 0


async def _apply(session: CqlSession, keyspace: str, migration: Migration) -> None:
    for statement in migration.statements:
        await _change(session, statement.format(id_of_history=_table_id(keyspace, "history")))
    await session.execute(
        "INSERT INTO migrations (version, applied_at) VALUES (%s, toTimestamp(now())) IF NOT EXISTS", migration.version
    )


async def _prolong(session: CqlSession, keyspace: str, retention_s: int) -> bool:
    """Have points of ``retention_s`` fit the table; whether anything had to be done."""
    if retention_s <= await longest_retention_s(session, keyspace):
        return False
    window_hours = max(1, math.ceil(retention_s / 3600 / WINDOWS_COUNT))
    await _change(
        session,
        f"ALTER TABLE history WITH default_time_to_live = {retention_s} AND compaction = "
        f"{{'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'HOURS', "
        f"'compaction_window_size': '{window_hours}'}}",
    )
    return True


async def _change(session: CqlSession, statement: str) -> None:
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + RETRY_S
    while True:
        try:
            await session.execute(statement)
            return
        except StoreUnavailable:
            if loop.time() > give_up_s:
                raise
        await asyncio.sleep(LOCK_POLL_S)


async def _lock(session: CqlSession, owner: uuid.UUID) -> None:
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + 2 * LOCK_S
    take = "INSERT INTO migrations (version, owner) VALUES (0, %s) IF NOT EXISTS USING TTL %s"
    while loop.time() < give_up_s:
        # The whole row comes along if there is one already. A call that was lost on its way may have taken the lock.
        [answer] = await session.execute(take, owner, LOCK_S)
        if answer[0] or owner in answer:
            return
        await asyncio.sleep(LOCK_POLL_S)
    raise StoreUnavailable("history", "somebody else has been migrating for too long")


def _table_id(keyspace: str, table: str) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, f"{keyspace}.{table}")
