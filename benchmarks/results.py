"""What the benchmarks measured: rounds of each quantity, as a table beside the reference and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

FLOOR = "C sender"
"""Ratios are to this subject, where it took part, and to our own otherwise."""
OURS = "nearby"


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is measured, in ``unit``; ``digits`` after the point."""

    name: str
    unit: str
    digits: int = 1


@dataclass(slots=True)
class Figure:
    """The rounds of one quantity of one subject under one setting."""

    benchmark: str
    setting: str
    subject: str
    quantity: Quantity
    rounds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.rounds)


class Results:
    """All figures of a run. The rounds of one figure are added one by one."""

    def __init__(self) -> None:
        self.figures: dict[tuple[str, str, str, str], Figure] = {}
        self.loads: list[float] = []

    def add(self, benchmark: str, setting: str, subject: str, quantity: Quantity, value: float) -> None:
        """Note the next round."""
        key = benchmark, setting, subject, quantity.name
        figure = self.figures.setdefault(key, Figure(benchmark, setting, subject, quantity))
        figure.rounds.append(value)
        self.loads.append(os.getloadavg()[0])

    def find(self, benchmark: str, setting: str, subject: str, quantity: Quantity) -> Figure | None:
        """Return a figure, ``None`` if there is none."""
        return self.figures.get((benchmark, setting, subject, quantity.name))

    def settings(self) -> Iterator[tuple[str, str]]:
        """Yield each benchmark with each of its settings, in the order in which they were measured."""
        yield from dict.fromkeys((figure.benchmark, figure.setting) for figure in self.figures.values())

    def of(self, benchmark: str, setting: str) -> list[Figure]:
        """Return the figures of one setting."""
        return [f for f in self.figures.values() if (f.benchmark, f.setting) == (benchmark, setting)]

    def ratio(self, figure: Figure) -> float | None:
        """Return how many times the floor's median a figure's is; ``None`` for the floor itself, or without one."""
        same = self.of(figure.benchmark, figure.setting)
        for name in (FLOOR, OURS):
            for other in same:
                if other.subject == name and other.quantity == figure.quantity:
                    return figure.median / other.median if other is not figure and other.median else None
        return None

    def document(self) -> dict[str, object]:
        """Return everything, for JSON."""
        return {
            "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()},
            "load_average": {"min": min(self.loads, default=0), "max": max(self.loads, default=0)},
            "figures": [
                {**asdict(figure), "median": figure.median, "ratio": self.ratio(figure)}
                for figure in self.figures.values()
            ],
        }

    def save(self, path: Path) -> None:
        """Write the JSON document."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.document(), indent=1) + "\n")

    def show(self, console: Console) -> None:
        """Print a table for each setting: the median, in brackets the least and the greatest, and the ratio."""
        for benchmark, setting in self.settings():
            figures = self.of(benchmark, setting)
            quantities = list(dict.fromkeys(figure.quantity for figure in figures))
            table = Table(title=f"{benchmark}: {setting}", title_justify="left", title_style="bold")
            table.add_column("")
            for quantity in quantities:
                table.add_column(f"{quantity.name}\n{quantity.unit}", justify="right")
            for subject in dict.fromkeys(figure.subject for figure in figures):
                mine = {figure.quantity: figure for figure in figures if figure.subject == subject}
                table.add_row(subject, *(self._cell(mine.get(quantity)) for quantity in quantities))
            console.print(table)

    def _cell(self, figure: Figure | None) -> str:
        if figure is None:
            return "–"
        digits = figure.quantity.digits
        text = f"{figure.median:,.{digits}f}"
        if len(figure.rounds) > 1:
            text += f" [dim]({min(figure.rounds):,.{digits}f}–{max(figure.rounds):,.{digits}f})[/dim]"
        ratio = self.ratio(figure)
        return text if ratio is None else f"{text} [bold]×{ratio:.2f}[/bold]"


def thousands(values: Iterable[int]) -> str:
    """Return numbers as people read them."""
    return ", ".join(f"{value:,}" for value in values)
