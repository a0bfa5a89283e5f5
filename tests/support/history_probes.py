"""A history store of a running stack, looked into from outside, by nothing of what it is tested with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Protocol

from tests.support.cassandra import SETTINGS, CassandraNode, migrate

DAY_MS = 86_400_000


class HistoryProbe(Protocol):
    """``environ`` makes a stack use the store. Calls block: run them in a thread."""

    environ: Mapping[str, str]

    def count(self, user_id: str) -> int:
        """Return how many points of a user are stored, ended or not."""

    def lives_ms(self, user_id: str) -> list[int]:
        """Return for each point of a user how long after its recording it ends, give or take two seconds."""

    def mentions(self, user_id: str) -> list[str]:
        """Return the names of the tables in which the user is named in any row and column.

        A note that says only what was deleted, and ends by itself, does not count.
        """

    def refusing_writes(self) -> AbstractContextManager[None]:
        """Make the store take no writes for the length of the context."""


class SqliteProbe:
    """The store of ``nearby up``, in ``data_dir``."""

    environ: Mapping[str, str] = {}

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "history.sqlite"

    def count(self, user_id: str) -> int:
        with closing(sqlite3.connect(self._path)) as database:
            [[count]] = database.execute("SELECT count(*) FROM history WHERE user_id = ?", (user_id,))
            return int(count)

    def lives_ms(self, user_id: str) -> list[int]:
        with closing(sqlite3.connect(self._path)) as database:
            query = "SELECT expires_at_ms - recorded_at_ms FROM history WHERE user_id = ?"
            return [int(life_ms) for (life_ms,) in database.execute(query, (user_id,))]

    def mentions(self, user_id: str) -> list[str]:
        with closing(sqlite3.connect(self._path)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return [
                table
                for table in set(tables) - {"deletions"}
                if _names(user_id, database.execute(f"SELECT * FROM {table}"))
            ]

    @contextmanager
    def refusing_writes(self) -> Iterator[None]:
        with closing(sqlite3.connect(self._path, isolation_level=None, timeout=30)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield


class CassandraProbe:
    """A keyspace of its own on ``node``, which is frozen while it is to refuse writes: it refuses reads as well then.

    What is sent to it meanwhile may be carried out once the node goes on.
    """

    def __init__(self, node: CassandraNode) -> None:
        """Make the keyspace. Blocks."""
        url = node.fresh_url()
        migrate(url, SETTINGS)
        self.environ: Mapping[str, str] = {"NEARBY_HISTORY_URL": url, **SETTINGS}
        self._node = node
        self._keyspace = url.rpartition("/")[2]

    def count(self, user_id: str) -> int:
        return len(self._of(user_id, "recorded_at"))

    def lives_ms(self, user_id: str) -> list[int]:
        columns = "toUnixTimestamp(now()), TTL(fix), toUnixTimestamp(recorded_at)"
        rows = self._of(user_id, columns)
        # Without a TTL it would be null.
        return [int(str(now_ms)) + int(str(ttl_s)) * 1000 - int(str(at_ms)) for now_ms, ttl_s, at_ms in rows]

    def mentions(self, user_id: str) -> list[str]:
        tables = self._node.query(
            f"SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{self._keyspace}'"
        )
        return [
            str(table)
            for (table,) in tables
            if _names(user_id, self._node.query(f"SELECT * FROM {self._keyspace}.{table}"))
        ]

    @contextmanager
    def refusing_writes(self) -> Iterator[None]:
        self._node.freeze()
        try:
            yield
        finally:
            self._node.thaw()

    def _of(self, user_id: str, columns: str) -> list[tuple[object, ...]]:
        # Of all days: there are few rows.
        return self._node.query(
            f"SELECT {columns} FROM {self._keyspace}.history WHERE user_id = {user_id} ALLOW FILTERING"
        )


def _names(user_id: str, rows: Iterable[Sequence[object]]) -> bool:
    return any(user_id in str(value) for row in rows for value in row)
