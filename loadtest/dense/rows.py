"""What was measured, in rows as Locust writes them, to be counted here and added up elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Row(msgspec.Struct):
    """Everything of one kind and name. Milliseconds; ``errors`` counts what was wrong, by what it was."""

    method: str
    name: str
    num_requests: int = 0
    num_failures: int = 0
    total_response_time: float = 0.0
    min_response_time: float | None = None
    max_response_time: float = 0.0
    response_times: dict[float, int] = {}
    """How many took so long, rounded to two digits, and to a tenth of a millisecond at least."""
    errors: dict[str, int] = {}

    def count(self, took_s: float, error: str | None) -> None:
        """Count one that took ``took_s`` seconds."""
        took_ms = took_s * 1000
        self.num_requests += 1
        self.total_response_time += took_ms
        if took_ms > self.max_response_time:
            self.max_response_time = took_ms
        if self.min_response_time is None or took_ms < self.min_response_time:
            self.min_response_time = took_ms
        rounded_ms = rounded(took_ms)
        self.response_times[rounded_ms] = self.response_times.get(rounded_ms, 0) + 1
        if error is not None:
            self.num_failures += 1
            self.errors[error] = self.errors.get(error, 0) + 1

    def add(self, other: Row) -> None:
        """Add what another process has measured."""
        self.num_requests += other.num_requests
        self.num_failures += other.num_failures
        self.total_response_time += other.total_response_time
        least = [ms for ms in (self.min_response_time, other.min_response_time) if ms is not None]
        self.min_response_time = min(least, default=None)
        self.max_response_time = max(self.max_response_time, other.max_response_time)
        for took_ms, count in other.response_times.items():
            self.response_times[took_ms] = self.response_times.get(took_ms, 0) + count
        for error, count in other.errors.items():
            self.errors[error] = self.errors.get(error, 0) + count

    def get_response_time_percentile(self, percent: float) -> float:
        """Return what ``percent`` (0 to 1) of them did not exceed; 0 if there were none."""
        seen = 0
        for took_ms in sorted(self.response_times):
            seen += self.response_times[took_ms]
            if seen >= self.num_requests * percent:
                return took_ms
        return 0.0


class RowSet:
    """All rows, by name and kind."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], Row] = {}

    def count(self, kind: str, name: str, took_s: float, error: str | None) -> None:
        """Count one thing; see :data:`loadtest.journal.Count`."""
        row = self.entries.get((name, kind))
        if row is None:
            row = self.entries[name, kind] = Row(kind, name)
        row.count(took_s, error)

    def add(self, rows: Iterable[Row]) -> None:
        """Add the rows of another process."""
        for row in rows:
            self.entries.setdefault((row.name, row.method), Row(row.method, row.name)).add(row)

    def rows(self) -> list[Row]:
        """Return the rows, sorted."""
        return [self.entries[key] for key in sorted(self.entries)]


def rounded(took_ms: float) -> float:
    """Return milliseconds rounded to two digits, and to a tenth at least."""
    if took_ms < 10:
        return round(took_ms, 1)
    unit, limit = 1, 100
    while took_ms >= limit:
        unit, limit = unit * 10, limit * 10
    return float(round(took_ms / unit) * unit)
