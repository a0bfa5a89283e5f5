"""Choose the history store by the scheme of its URL."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from location_history.sqlite import DAY_MS, open_sqlite
from nearby.errors import SettingsError
from nearby.ports import Clock, HistoryStore
from nearby.settings import CassandraSettings, load


def unix_time_ms() -> int:
    """Return the time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def open_store(
    url: str, retention_days: float, clock: Clock = unix_time_ms, cassandra: CassandraSettings | None = None
) -> AbstractAsyncContextManager[HistoryStore]:
    """Return a context manager that yields the history store at ``url``.

    Schemes: ``sqlite:///FILE``, where as in SQLAlchemy an absolute path makes four slashes, and
    ``cassandra://HOST[:PORT][,HOST[:PORT]…]/KEYSPACE``, spoken to as ``cassandra`` says (``None``: as by default).
    Points end after ``retention_days`` at the latest, by ``clock``, which must not be far from the truth: SQLite frees
    them on ``delete_expired`` only.

    Raises:
        SettingsError: no store has this scheme.
    """
    retention_ms = round(retention_days * DAY_MS)
    if url.startswith("cassandra://"):
        # Its driver takes a fifth of a second to import, and 25 MB, which those without Cassandra need not spend.
        from location_history.cassandra import open_cassandra
        from location_history.cql import parse_url

        return open_cassandra(parse_url(url), retention_ms, clock, cassandra or load(CassandraSettings, {}))
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path:
        raise SettingsError("NEARBY_HISTORY_URL", url, "sqlite:///FILE or cassandra://HOST/KEYSPACE")
    return open_sqlite(Path(path), retention_ms, clock)
