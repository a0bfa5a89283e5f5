"""How many people there are at each moment of a scenario, and when something happens to them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, pi, sin

DEFAULT_RUN_S = 120.0
"""How long a scenario takes that must have an end, if nobody said."""
_STEPS = 10
_RAMP_PART = 0.8
_OFF_PEAK = 0.4

People = Callable[[float, int], int]
"""How many people there are after a part (0 to 1) of the run, given how many there are at most."""


def steady(_part: float, peak: int) -> int:
    """Everybody is there all the time."""
    return peak


def ramp(part: float, peak: int) -> int:
    """Ten equal steps, then the peak for the last fifth: the step at which latencies rise is the capacity."""
    return ceil(peak * min(_STEPS, 1 + int(_STEPS * part / _RAMP_PART)) / _STEPS)


def city(part: float, peak: int) -> int:
    """Two rush hours, between them two fifths of the people; in steps of a twentieth."""
    share = _OFF_PEAK + (1 - _OFF_PEAK) * sin(2 * pi * part) ** 2
    return ceil(peak * round(share * 20) / 20)


SCENARIOS: dict[str, People] = {"steady": steady, "ramp": ramp, "storm": steady, "celebrity": steady, "city": city}
ENDLESS = frozenset({"steady", "celebrity"})
"""These go on until they are stopped, if no --run-time is given."""
STORM_AT = 0.5
"""The part of the run after which a storm drops everybody's connection."""
CITY_AREA = 0.3
"""The radius of a crowded city, in radii of what people see: everybody's friends are near."""
USUAL_AREA = 0.6


@dataclass(slots=True)
class Schedule:
    """A scenario from its beginning to its end, for ``peak`` people at most; ``run_s`` 0: its usual length."""

    scenario: str
    peak: int
    run_s: float
    _stormed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if not self.run_s and self.scenario not in ENDLESS:
            self.run_s = DEFAULT_RUN_S

    def people(self, elapsed_s: float) -> int | None:
        """Return how many people there should be that long after the beginning; ``None`` once it is over."""
        part = self._part(elapsed_s)
        return SCENARIOS[self.scenario](part, self.peak) if part < 1 else None

    def storm_breaks(self, elapsed_s: float) -> bool:
        """Return whether everybody loses the connection now; true once."""
        if self._stormed or self.scenario != "storm" or self._part(elapsed_s) < STORM_AT:
            return False
        self._stormed = True
        return True

    def _part(self, elapsed_s: float) -> float:
        return elapsed_s / self.run_s if self.run_s else 0.0
