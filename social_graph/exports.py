"""Exports of everything that is held on a user: the archive in parts, beside the user it belongs to.

In the database, so that any API process can go on with one after a crash and hand it out, and so that it ends with the
account and with its time. A user has one export at a time. Parts belong to an attempt, and only those of the newest
count: a process that stood still and goes on with an older one disturbs nothing.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, or_, select, update

from nearby.errors import NotFound
from nearby.model import UserId
from nearby.ports import Clock
from social_graph.database import Database
from social_graph.locks import hold
from social_graph.rights_schema import export_parts, exports, metadata

KEPT_S = 2 * 86_400
"""How long an export may be fetched."""
LEASE_S = 60
"""How long an attempt may go without adding a part before another takes over."""

_PREPARING, _READY = "preparing", "ready"
_SECRETS = frozenset({"password_hash", "token_hash", "key_hash", "fingerprint", "answer"})
"""Columns that prove who one is, or that are encrypted, and say nothing about one."""
_BY_OWNER = {"friendships": "user_id", "circle_members": "user_id"}
"""Tables whose rows are their owner's word about a friend, which is not for that friend to know."""
_WORD_OF_FRIENDS = {("friendships", "shows")}
"""Columns of the owner's row that say what the friend has decided."""


@dataclass(frozen=True, slots=True)
class Export:
    """An archive being prepared: ``done_count`` of ``total_count`` points, 0 until they are counted; or ready."""

    export_id: str
    user_id: UserId
    ready: bool
    created_ms: int
    expires_ms: int
    attempt: int
    done_count: int
    total_count: int
    size_bytes: int


class Exports:
    """Asking for exports, preparing and fetching them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def request(self, user_id: UserId) -> Export:
        """Return the export that is being prepared for ``user_id``, or begin one, in place of one that is ready.

        Raises:
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        mine = exports.c.user_id == user_id
        async with self._database.write() as connection:
            await hold(connection, user_id)
            row = (await connection.execute(select(exports).where(mine, exports.c.state == _PREPARING))).first()
            if row is None:
                await connection.execute(delete(exports).where(mine))
                values = {
                    "id": str(uuid.uuid4()),
                    "user_id": user_id,
                    "state": _PREPARING,
                    "created_ms": now_ms,
                    "expires_ms": now_ms + KEPT_S * 1000,
                    "next_ms": now_ms,
                    **dict.fromkeys(("attempt", "done_count", "total_count", "size_bytes"), 0),
                }
                await connection.execute(insert(exports).values(values))
                row = (await connection.execute(select(exports).where(mine))).one()
        return _export_of(row)

    async def get(self, user_id: UserId, export_id: str) -> Export:
        """Return an export of ``user_id``.

        Raises:
            NotFound: ``export_not_found``, also where it is another user's or its time is over.
            StoreUnavailable: the database failed.
        """
        query = select(exports).where(exports.c.id == export_id, exports.c.user_id == user_id)
        rows = await self._database.rows(query)
        if not rows or rows[0].expires_ms <= self._clock():
            raise NotFound("export_not_found", "there is no such export (any more)")
        return _export_of(rows[0])

    async def part(self, export: Export, part: int) -> bytes | None:
        """Return part ``part`` of the archive, from 0 on; ``None`` after the last.

        Raises:
            StoreUnavailable: the database failed.
        """
        query = select(export_parts.c.data).where(_part_of(export), export_parts.c.part == part)
        data: bytes | None = await self._database.scalar(query)
        return data

    # ------------------------------------------------------------------------------------------- work

    async def claim(self) -> Export | None:
        """Begin another attempt at an export that nobody works on; ``None`` if there is none. Forget expired ones.

        Raises:
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        due = (exports.c.state == _PREPARING) & (exports.c.next_ms <= now_ms)
        waiting = select(exports.c.id).where(or_(due, exports.c.expires_ms <= now_ms)).limit(1)
        if not await self._database.rows(waiting):
            return None
        # One that somebody else is taking at this moment is theirs.
        oldest = select(exports).where(due).order_by(exports.c.next_ms).limit(1).with_for_update(skip_locked=True)
        async with self._database.write() as connection:
            await connection.execute(delete(exports).where(exports.c.expires_ms <= now_ms))
            row = (await connection.execute(oldest)).first()
            if row is None:
                return None
            await connection.execute(delete(export_parts).where(export_parts.c.export_id == row.id))
            values = {"attempt": row.attempt + 1, "next_ms": now_ms + LEASE_S * 1000, "done_count": 0}
            await connection.execute(update(exports).where(exports.c.id == row.id).values(values))
            claimed = (await connection.execute(select(exports).where(exports.c.id == row.id))).one()
        return _export_of(claimed)

    async def add_part(self, export: Export, part: int, data: bytes, done_count: int, total_count: int) -> bool:
        """Add part ``part`` to the archive and tell the progress; whether the attempt still counts.

        Raises:
            StoreUnavailable: the database failed.
        """
        values = {
            "next_ms": self._clock() + LEASE_S * 1000,
            "done_count": done_count,
            "total_count": total_count,
            "size_bytes": exports.c.size_bytes + len(data) if part else len(data),
        }
        async with self._database.write() as connection:
            if (await connection.execute(update(exports).where(_attempt_of(export)).values(values))).rowcount == 0:
                return False
            if data:
                row = {"export_id": export.export_id, "attempt": export.attempt, "part": part, "data": data}
                await connection.execute(insert(export_parts).values(row))
        return True

    async def finish(self, export: Export) -> None:
        """The archive is whole, if the attempt still counts.

        Raises:
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            values = {"state": _READY, "done_count": exports.c.total_count}
            await connection.execute(update(exports).where(_attempt_of(export)).values(values))

    async def release(self, export: Export, delay_s: float) -> None:
        """The attempt has failed; another may begin in ``delay_s`` seconds.

        Raises:
            StoreUnavailable: the database failed.
        """
        values = {"next_ms": self._clock() + round(delay_s * 1000)}
        async with self._database.write() as connection:
            await connection.execute(update(exports).where(_attempt_of(export)).values(values))

    async def holdings(self, user_id: UserId) -> dict[str, list[dict[str, object]]]:
        """Return the rows of every table that name ``user_id``, by table and column; without secrets.

        What friends have decided about ``user_id`` is theirs: a friend who hides looks inactive.

        By the references that the schema declares, so that a table to come is not forgotten.

        Raises:
            StoreUnavailable: the database failed.
        """
        found: dict[str, list[dict[str, object]]] = {}
        async with self._database.read() as connection:
            for table in metadata.sorted_tables:
                mine = [column == user_id for column in table.columns if _is_mine(column)]
                if not mine:
                    continue
                shown = [column for column in table.columns if _may_be_told(column)]
                rows = await connection.execute(select(*shown).where(or_(*mine)))
                found[table.name] = [dict(row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's own name for it
        return found


def _is_mine(column: Any) -> bool:
    """Whether a row belongs to the user whom ``column`` names."""
    owner = _BY_OWNER.get(column.table.name)
    return bool(column.name == owner) if owner is not None else _names_a_user(column)


def _may_be_told(column: Any) -> bool:
    return column.name not in _SECRETS and (column.table.name, column.name) not in _WORD_OF_FRIENDS


def _names_a_user(column: Any) -> bool:
    if column.table.name == "users":
        return bool(column.name == "id")
    return any(key.column.table.name in ("users", "friendships") for key in column.foreign_keys)


def _attempt_of(export: Export) -> Any:
    return (exports.c.id == export.export_id) & (exports.c.attempt == export.attempt) & (exports.c.state == _PREPARING)


def _part_of(export: Export) -> Any:
    return (export_parts.c.export_id == export.export_id) & (export_parts.c.attempt == export.attempt)


def _export_of(row: Row[*tuple[Any, ...]]) -> Export:
    return Export(
        row.id,
        UserId(row.user_id),
        row.state == _READY,
        row.created_ms,
        row.expires_ms,
        row.attempt,
        row.done_count,
        row.total_count,
        row.size_bytes,
    )
