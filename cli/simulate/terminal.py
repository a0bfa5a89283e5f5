"""What a run looks like on the terminal: bars while people sign up, then a table that lives. All on stderr."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli.simulate.summary import latencies_ms
from cli.simulate.watch import Watch

_REFRESH_S = 1.0


class Terminal:
    """Draws on a terminal; where there is none, or ``quiet``, nothing."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True)
        self._draws = self._console.is_terminal and not quiet

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """Yield what advances a progress bar by one."""
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=self._console, disable=not self._draws) as progress:
            bar = progress.add_task(title, total=total)
            yield lambda: progress.advance(bar)

    @asynccontextmanager
    async def table(self, watch: Watch, people: int) -> AsyncIterator[None]:
        """Show how the run goes, each second anew."""
        if not self._draws:
            yield
            return
        rates = _Rates(watch)
        with Live(_table(watch, people, 0.0, 0.0), console=self._console, auto_refresh=False) as live:
            async with asyncio.TaskGroup() as tasks:
                drawing = tasks.create_task(_redraw(live, watch, people, rates))
                try:
                    yield
                finally:
                    drawing.cancel()


class _Rates:
    """Reports and deliveries per second since the last look."""

    def __init__(self, watch: Watch) -> None:
        self._tally = watch.tally
        self._before = (time.monotonic(), self._tally.reports, self._tally.entries)

    def since_last(self) -> tuple[float, float]:
        now = (time.monotonic(), self._tally.reports, self._tally.entries)
        span_s, reports, entries = (new - old for new, old in zip(now, self._before, strict=True))
        self._before = now
        return reports / max(span_s, 1e-9), entries / max(span_s, 1e-9)


async def _redraw(live: Live, watch: Watch, people: int, rates: _Rates) -> None:
    while True:
        await asyncio.sleep(_REFRESH_S)
        live.update(_table(watch, people, *rates.since_last()), refresh=True)


def _table(watch: Watch, people: int, reports_per_s: float, deliveries_per_s: float) -> Table:
    tally, latency = watch.tally, latencies_ms(watch.tally)
    cells = {
        "connected": f"{len(watch.connected)} of {people}",
        "reports/s": f"{reports_per_s:,.0f}",
        "deliveries/s": f"{deliveries_per_s:,.0f}",
        **{f"{name} ms": "-" if value is None else f"{value:g}" for name, value in latency.items() if name != "max"},
        "errors": f"{sum(tally.errors.values())}",
        "reconnects": f"{tally.reconnects}",
        "failed": f"{sum(tally.violations.values())}",
    }
    table = Table()
    for title in cells:
        table.add_column(title, justify="right")
    table.add_row(*cells.values())
    return table
