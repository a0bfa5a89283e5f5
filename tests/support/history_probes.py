"""A history store of a running stack, looked into from outside, by nothing of what it is tested with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Protocol

DAY_MS = 86_400_000


class HistoryProbe(Protocol):
    """``environ`` makes a stack use the store. Calls block: run them in a thread."""

    environ: Mapping[str, str]

    def count(self, user_id: str) -> int:
        """Return how many points of a user are stored, ended or not."""

    def lives_ms(self, user_id: str) -> list[int]:
        """Return for each point of a user how long after its recording it ends; 0 or less: it does not."""

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

    @contextmanager
    def refusing_writes(self) -> Iterator[None]:
        with closing(sqlite3.connect(self._path, isolation_level=None, timeout=30)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield
