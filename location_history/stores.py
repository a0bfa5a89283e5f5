"""Choose the history store by the scheme of its URL."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from location_history.sqlite import DAY_MS, open_sqlite
from nearby.errors import SettingsError
from nearby.ports import Clock, HistoryStore


def unix_time_ms() -> int:
    """Return the time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def open_store(
    url: str, retention_days: float, clock: Clock = unix_time_ms
) -> AbstractAsyncContextManager[HistoryStore]:
    """Return a context manager that yields the history store at ``url``.

    Schemes: ``sqlite:///FILE``, where as in SQLAlchemy an absolute path makes four slashes. Points end after
    ``retention_days`` at the latest, by ``clock``, which must not be far from the truth: SQLite frees them on
    ``delete_expired`` only.

    Raises:
        SettingsError: no store has this scheme.
    """
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path:
        raise SettingsError("NEARBY_HISTORY_URL", url, "sqlite:///FILE")
    return open_sqlite(Path(path), round(retention_days * DAY_MS), clock)
