"""People moving about a city: the random waypoint model, pure.

Source: Johnson and Maltz, "Dynamic source routing in ad hoc wireless networks", 1996: choose a point, go there at a
random speed, choose the next.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import cos, degrees, pi, radians, sin, sqrt

from nearby.geo import EARTH_RADIUS_M

SLOWEST_MPS = 1.0
FASTEST_MPS = 15.0
"""From a stroll to a car in town."""


@dataclass(frozen=True, slots=True)
class Area:
    """A disc: its centre in degrees, its radius in metres."""

    lat_deg: float
    lon_deg: float
    radius_m: float

    def point(self, east_m: float, north_m: float) -> tuple[float, float]:
        """Return latitude and longitude, degrees, of a point given by its offset from the centre."""
        lat_deg = self.lat_deg + degrees(north_m / EARTH_RADIUS_M)
        lon_deg = self.lon_deg + degrees(east_m / (EARTH_RADIUS_M * cos(radians(self.lat_deg))))
        return lat_deg, (lon_deg + 180) % 360 - 180


class Walker:
    """One person in an area, at ``from_s`` seconds somewhere in it."""

    def __init__(self, area: Area, rng: random.Random, from_s: float = 0.0) -> None:
        self._area = area
        self._rng = rng
        self._from_m = self._somewhere()
        self._to_m = self._from_m
        self._leaves_s = self._arrives_s = from_s

    def at(self, now_s: float) -> tuple[float, float]:
        """Return latitude and longitude, degrees, at ``now_s`` seconds, which must not go back."""
        while now_s >= self._arrives_s:
            self._next_leg()
        part = (now_s - self._leaves_s) / (self._arrives_s - self._leaves_s)
        (x0, y0), (x1, y1) = self._from_m, self._to_m
        return self._area.point(x0 + part * (x1 - x0), y0 + part * (y1 - y0))

    def _next_leg(self) -> None:
        self._from_m, self._to_m = self._to_m, self._somewhere()
        (x0, y0), (x1, y1) = self._from_m, self._to_m
        speed_mps = self._rng.uniform(SLOWEST_MPS, FASTEST_MPS)
        self._leaves_s = self._arrives_s
        self._arrives_s += max(1.0, sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2) / speed_mps)

    def _somewhere(self) -> tuple[float, float]:
        """Return a point of the disc, every place as likely: the radius goes with the root of the area."""
        angle, reach_m = self._rng.uniform(0, 2 * pi), self._area.radius_m * sqrt(self._rng.random())
        return reach_m * cos(angle), reach_m * sin(angle)
