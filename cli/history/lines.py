"""What ``nearby history`` prints. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from cli.history.writers import Sample


@dataclass(frozen=True, slots=True)
class Lag:
    """All writers together. What waits is the same for all, so the latest to look is believed.

    ``problem`` is why points are not being stored, empty if they are.
    """

    waiting_count: int
    oldest_s: float
    lost_count: int
    held_count: int
    written_count: int
    fenced_count: int
    problem: str


def lag_of(samples: Sequence[Sample]) -> Lag:
    """Return what ``samples``, of which there is at least one, tell together."""
    latest = samples[-1]
    return Lag(
        latest.waiting_count,
        latest.oldest_s,
        latest.lost_count,
        sum(sample.held_count for sample in samples),
        sum(sample.written_count for sample in samples),
        sum(sample.fenced_count for sample in samples),
        "; ".join(dict.fromkeys(sample.problem for sample in samples if sample.problem)),
    )


def lag_table(samples: Sequence[Sample]) -> Table:
    """Return one row per writer."""
    drawn = Table()
    for title in ("writer", "state"):
        drawn.add_column(title)
    for title in ("streams", "in hand", "stored"):
        drawn.add_column(title, justify="right")
    for sample in samples:
        numbers = (sample.streams_count, sample.held_count, sample.written_count)
        drawn.add_row(sample.writer, sample.problem or "storing", *(f"{number:,}" for number in numbers))
    return drawn


def lag_line(lag: Lag) -> str:
    """Return what waits, in one line."""
    return f"{lag.waiting_count:,} points wait, the oldest for {lag.oldest_s:,.1f} s; {lag.lost_count:,} were lost"


def tail_line(before: Lag, now: Lag, seconds: float) -> str:
    """Return what happened in the ``seconds`` between two looks; a writer that began anew counts from its start."""
    stored_count = now.written_count - before.written_count
    if stored_count < 0:
        stored_count = now.written_count
    parts = [
        f"{stored_count / seconds:,.0f} stored/s",
        f"{now.waiting_count:,} wait",
        f"oldest {now.oldest_s:,.1f} s",
        f"{now.lost_count:,} lost",
    ]
    return ", ".join([*parts, now.problem] if now.problem else parts)


def count_table(days: Sequence[tuple[str, int]]) -> Table:
    """Return the points of each day."""
    drawn = Table()
    drawn.add_column("day")
    drawn.add_column("points", justify="right")
    for day, count in days:
        drawn.add_row(day, f"{count:,}")
    return drawn
