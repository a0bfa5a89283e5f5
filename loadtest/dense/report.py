"""What the fleet says while it runs and at its end. Pure, but for the terminal it writes to."""

from __future__ import annotations

from typing import TextIO

from loadtest import verdict
from loadtest.dense.rows import RowSet
from loadtest.dense.wire import Progress

_PLAIN_EVERY_S = 10.0


class Narrator:
    """Tells how it goes: each second in place on a terminal, each ten seconds in a file."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._began_s: float | None = None
        self._before = Progress()
        self._every_s = 1.0 if out.isatty() else _PLAIN_EVERY_S
        self._end = "\r" if out.isatty() else "\n"

    def tell(self, now: Progress, rows: RowSet) -> None:
        """Write a line, if it is time for one."""
        if self._began_s is None:
            self._began_s, self._before = now.at_s, now
        if now.at_s - self._before.at_s < self._every_s:
            return
        self._out.write(f"{line(self._before, now, now.at_s - self._began_s, rows):<118}{self._end}")
        self._out.flush()
        self._before = now


def line(before: Progress, now: Progress, elapsed_s: float, rows: RowSet) -> str:
    """Return how it went between two moments, and so far."""
    seconds = max(now.at_s - before.at_s, 1e-9)
    cpu_s = now.cpu_s - before.cpu_s
    screen = rows.entries.get((verdict.SCREEN, verdict.SOCKET))
    p99_ms, missed = (screen.get_response_time_percentile(0.99), screen.num_failures) if screen else (0.0, 0)
    return (
        f"{elapsed_s:4.0f} s {now.sockets:7,} connected {(now.frames - before.frames) / seconds:8,.0f} frames/s, "
        f"{100 * cpu_s / seconds:3.0f} % of a processor; so far p99 {p99_ms:g} ms, {missed:,} missed"
    )


class Steady:
    """What the fleet needs of its machine while everybody is connected: from first to last of that."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._first: Progress | None = None
        self._last: Progress | None = None

    def note(self, now: Progress) -> None:
        """Take a moment into account."""
        if now.sockets < self._wanted:
            return
        if self._first is None:
            self._first = now
        self._last = now

    def lines(self) -> list[str]:
        """Return what is to be said of it; nothing, if it did not last."""
        first, last = self._first, self._last
        if first is None or last is None or last.at_s <= first.at_s or last.cpu_s <= first.cpu_s:
            return []
        frames, cpu_s, seconds = last.frames - first.frames, last.cpu_s - first.cpu_s, last.at_s - first.at_s
        return [
            f"the fleet itself, with all {last.sockets:,} connected, for {seconds:.0f} s: {frames / seconds:,.0f} "
            f"frames/s received at {100 * cpu_s / seconds:.0f} % of a processor, {frames / cpu_s:,.0f} for each second "
            f"of one; {last.memory_kb / last.sockets:.1f} KB for each socket"
        ]
