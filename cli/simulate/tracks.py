"""Recorded walks: CSV with the columns ``walker, t_s, lat_deg, lon_deg``."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

_COLUMNS = ("walker", "t_s", "lat_deg", "lon_deg")


class TracksError(ValueError):
    """A file that holds no tracks; the message says which line and why."""


@dataclass(frozen=True, slots=True)
class Fix:
    """A position of one walker, degrees, at ``t_s`` seconds since midnight."""

    walker: str
    t_s: float
    lat_deg: float
    lon_deg: float


def read_tracks(path: Path, *, walkers: int | None = None, hours: tuple[float, float] = (0, 24)) -> list[Fix]:
    """Return the fixes of a file in the order of time.

    ``walkers`` keeps only so many walkers, the first by name; ``hours`` only what is within them, the end excluded.

    Raises:
        TracksError: the file is not of this form, or nothing is left.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            fixes = _parse(path, csv.DictReader(file, skipinitialspace=True))
    except OSError as error:
        raise TracksError(f"{path}: {error.strerror}") from error
    kept = set(sorted({fix.walker for fix in fixes})[:walkers])
    first_s, last_s = hours[0] * 3600, hours[1] * 3600
    fixes = [fix for fix in fixes if fix.walker in kept and first_s <= fix.t_s < last_s]
    if not fixes:
        raise TracksError(f"{path}: no fixes in this range")
    return sorted(fixes, key=lambda fix: (fix.t_s, fix.walker))


def _parse(path: Path, rows: csv.DictReader[str]) -> list[Fix]:
    missing = set(_COLUMNS) - set(rows.fieldnames or ())
    if missing:
        raise TracksError(f"{path}: no column {', '.join(sorted(missing))}")
    fixes = []
    for row in rows:
        try:
            fix = Fix(row["walker"], float(row["t_s"]), float(row["lat_deg"]), float(row["lon_deg"]))
        except (TypeError, ValueError) as error:
            raise TracksError(f"{path}, line {rows.line_num}: {error}") from error
        if not (abs(fix.lat_deg) <= 90 and abs(fix.lon_deg) <= 180):
            raise TracksError(f"{path}, line {rows.line_num}: not a place on Earth")
        fixes.append(fix)
    return fixes
