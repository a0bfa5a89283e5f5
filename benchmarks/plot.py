"""The figures of a run as one picture: for each benchmark the quantity that matters most, a bar for each subject."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure as Picture

from benchmarks import connections, end_to_end, fan_out, healing, reports
from benchmarks.results import OURS, Figure, Quantity, Results

SHOWN: tuple[tuple[str, Quantity], ...] = (
    (fan_out.NAME, fan_out.CPU_US),
    (fan_out.NAME, fan_out.PER_CPU_S),
    (connections.NAME, connections.MEMORY_KB),
    (connections.NAME, connections.CPU_MS),
    (reports.NAME, reports.CPU_US),
    (healing.NAME, healing.HEALED_S),
    (end_to_end.NAME, end_to_end.P99_MS),
)
OURS_COLOUR, OTHERS_COLOUR = "#1f6f5c", "#9aa5ad"
WIDTH_IN, BAR_IN, HEAD_IN = 8.0, 0.28, 0.75


def plot(results: Results, path: Path) -> None:
    """Draw the medians as bars, from the least to the greatest round as whiskers, into the SVG file ``path``."""
    charts = [
        (f"{name}, {setting}: {quantity.name} [{quantity.unit}]", figures)
        for name, quantity in SHOWN
        for benchmark, setting in results.settings()
        if benchmark == name
        and (figures := [figure for figure in results.of(benchmark, setting) if figure.quantity == quantity])
    ]
    if not charts:
        return
    heights = [HEAD_IN + BAR_IN * len(figures) for _, figures in charts]
    picture = Picture(figsize=(WIDTH_IN, sum(heights)), layout="constrained")
    axes = picture.subplots(len(charts), squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, figures) in zip(axes, charts, strict=True):
        axis.set_title(title, loc="left", fontsize=9)
        _bars(axis, figures)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, format="svg", metadata={"Date": None})


def _bars(axis: object, figures: list[Figure]) -> None:
    medians = [figure.median for figure in figures]
    below = [figure.median - min(figure.rounds) for figure in figures]
    above = [max(figure.rounds) - figure.median for figure in figures]
    colours = [OURS_COLOUR if figure.subject.startswith(OURS) else OTHERS_COLOUR for figure in figures]
    names = [figure.subject for figure in figures]
    bars = axis.barh(names, medians, xerr=[below, above], color=colours, error_kw={"linewidth": 0.8})  # type: ignore[attr-defined]
    axis.bar_label(bars, fmt="{:,.4g}", padding=4, fontsize=8)  # type: ignore[attr-defined]
    axis.invert_yaxis()  # type: ignore[attr-defined]
    axis.margins(x=0.15)  # type: ignore[attr-defined]
    axis.tick_params(labelsize=8)  # type: ignore[attr-defined]
