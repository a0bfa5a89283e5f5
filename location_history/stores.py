"""Choose the history store by the scheme of its URL."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from location_history.sqlite import open_sqlite
from nearby.errors import SettingsError
from nearby.ports import HistoryStore


def open_store(url: str, retention_days: float) -> AbstractAsyncContextManager[HistoryStore]:
    """Return a context manager that yields the history store at ``url``.

    Schemes: ``sqlite:///FILE``, where as in SQLAlchemy an absolute path makes four slashes. A store that can
    expire points by itself does so after ``retention_days``; SQLite waits for ``delete_expired``.

    Raises:
        SettingsError: no store has this scheme.
    """
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path:
        raise SettingsError("NEARBY_HISTORY_URL", url, "sqlite:///FILE")
    return open_sqlite(Path(path))
