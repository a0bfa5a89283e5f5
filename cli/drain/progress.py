"""How a drain looks while it runs, on stderr: a bar per gateway on a terminal, else a line per state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from cli.gateways.admin_port import DrainStatus


class Progress:
    """Takes what each gateway tells; :func:`drawn` makes it."""

    def __init__(self, console: Console, bars: rich.progress.Progress) -> None:
        self._console = console
        self._bars = bars
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._states: dict[str, str] = {}

    def show(self, name: str, status: DrainStatus) -> None:
        """Show ``status`` of gateway ``name``."""
        if not self._console.is_terminal:
            if self._states.get(name) != status.state:
                self._states[name] = status.state
                self._console.print(line(status), soft_wrap=True, highlight=False, markup=False)
            return
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None, doing="")
        self._bars.update(self._tasks[name], total=status.total, completed=status.gone or 0, doing=_doing(status))


def line(status: DrainStatus) -> str:
    """Return ``status`` in one line."""
    if status.total is None:
        return f"{status.gateway_id}: {_doing(status)}, {status.left} connected"
    return f"{status.gateway_id}: {_doing(status)}, {status.gone} of {status.total} gone"


def _doing(status: DrainStatus) -> str:
    words = status.state.replace("_", " ")
    return f"{words}, {status.eta_s:g} s to go" if status.eta_s else words


@contextmanager
def drawn(*, quiet: bool) -> Iterator[Progress]:
    """Yield what shows the progress; ``quiet`` shows nothing."""
    console = Console(stderr=True, quiet=quiet)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[doing]}"),
    )
    with rich.progress.Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        yield Progress(console, bars)
