"""How many people there are at each moment of a scenario. Pure."""

from __future__ import annotations

from collections.abc import Callable
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
