"""Thin a track: leave out the points that its shape can do without. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, radians

from simplification.cutil import simplify_coords_idx

from nearby.geo import EARTH_RADIUS_M
from nearby.model import HistoryPoint


def thin(points: Sequence[HistoryPoint], tolerance_m: float) -> list[HistoryPoint]:
    """Return some of ``points``, which are in the order of time, the first and the last among them.

    None of the others is further than ``tolerance_m`` metres from the line through those that stay (Ramer, Douglas and
    Peucker), on a plane that touches the Earth at the middle latitude: so for tracks of up to some hundred kilometres.
    Where somebody stood still, and for how long, is only told by the times of the points around it.
    """
    if tolerance_m <= 0 or len(points) < 3:
        return list(points)
    kept: list[int] = simplify_coords_idx(_on_a_plane(points), tolerance_m)
    return [points[index] for index in kept]


def _on_a_plane(points: Sequence[HistoryPoint]) -> list[list[float]]:
    """Return metres east and north of the first point; across the 180th meridian they go on, as the walker did."""
    metres_per_degree = radians(1) * EARTH_RADIUS_M
    latitudes = [point.location.lat_deg for point in points]
    shrinking = cos(radians((min(latitudes) + max(latitudes)) / 2))
    origin = points[0].location
    plane, before_deg, turns_deg = [], origin.lon_deg, 0.0
    for point in points:
        lon_deg = point.location.lon_deg
        turns_deg += 360.0 * ((before_deg - lon_deg > 180) - (lon_deg - before_deg > 180))
        before_deg = lon_deg
        east = (lon_deg + turns_deg - origin.lon_deg) * metres_per_degree * shrinking
        plane.append([east, (point.location.lat_deg - origin.lat_deg) * metres_per_degree])
    return plane
