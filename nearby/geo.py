"""Distances on the sphere, arranged so that the hot path takes one square root at most.

A position is kept as its unit vector. The chord between two unit vectors grows strictly with the
great-circle distance, so a radius test compares squared chords and only a distance that is shown
is turned into metres.
"""

from __future__ import annotations

from math import asin, cos, floor, radians, sin, sqrt

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the Earth, metres: (2a + b) / 3 of WGS 84 (Moritz, Geodetic Reference System 1980)."""

EARTH_DIAMETER_M = 2 * EARTH_RADIUS_M

CELL_BANDS = 20_015
"""Bands of latitude of the grid of approximate locations, each 1,000 m high: half the Earth's circumference in km."""

_CENTRE_DIGITS = 7
"""What a location record carries, so that a centre is the same number whichever way it took."""

COARSE_M = 1_000
"""The distance to somebody who is seen approximately is rounded to this many metres."""

HYSTERESIS = 1.1
"""A friend enters at the radius and leaves beyond this multiple of it, so that nobody flickers at the edge."""


def unit_vector(lat_deg: float, lon_deg: float) -> tuple[float, float, float]:
    """Return the point on the unit sphere of a latitude and longitude in degrees."""
    lat, lon = radians(lat_deg), radians(lon_deg)
    cos_lat = cos(lat)
    return cos_lat * cos(lon), cos_lat * sin(lon), sin(lat)


def squared_chord(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """Return the squared straight-line distance between two unit vectors, 0 to 4."""
    dx, dy, dz = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    return dx * dx + dy * dy + dz * dz


def squared_chord_of(distance_m: float) -> float:
    """Return the squared chord that spans ``distance_m`` metres of great circle: (2 sin(d / 2R))².

    Distances of half the Earth's circumference and more give 4, which every pair of points satisfies.
    """
    half_angle = distance_m / EARTH_DIAMETER_M
    if half_angle >= 1.5707963267948966:
        return 4.0
    return 4 * sin(half_angle) ** 2


def metres_of(squared: float) -> float:
    """Return the great-circle distance in metres that a squared chord spans: 2R asin(chord / 2).

    Source: the chord formula, https://en.wikipedia.org/wiki/Great-circle_distance#From_chord_length.
    Unlike the spherical law of cosines it is exact for near points, which is what this product shows.
    """
    half_chord = sqrt(squared) / 2
    return EARTH_DIAMETER_M * asin(min(1.0, half_chord))


def distance_m(lat1_deg: float, lon1_deg: float, lat2_deg: float, lon2_deg: float) -> float:
    """Return the great-circle distance in metres between two points given in degrees."""
    return metres_of(squared_chord(unit_vector(lat1_deg, lon1_deg), unit_vector(lat2_deg, lon2_deg)))


def cell_centre(lat_deg: float, lon_deg: float) -> tuple[float, float]:
    """Return the centre of the cell of the fixed grid that contains a point, latitude and longitude in degrees.

    Cells are 1,000 m high and 1,000 m wide at the middle of their band, within 0.1 % below 84 degrees of latitude: each
    band is cut into a whole number of equal cells, fewer towards the poles, where the last ones become triangles.
    The centre of a cell lies in it, so snapping twice is snapping once.
    """
    band = min(floor((lat_deg + 90) / 180 * CELL_BANDS), CELL_BANDS - 1)
    centre_lat_deg = (band + 0.5) * 180 / CELL_BANDS - 90
    count = max(1, round(2 * CELL_BANDS * cos(radians(centre_lat_deg))))
    column = floor((lon_deg + 180) / 360 * count) % count
    centre_lon_deg = (column + 0.5) * 360 / count - 180
    return round(centre_lat_deg, _CENTRE_DIGITS), round(centre_lon_deg, _CENTRE_DIGITS)


def shown_distance_m(metres: float, *, exact: bool) -> int:
    """Return a distance as it is shown: to the metre, or to the kilometre towards somebody seen approximately."""
    rounded_m = int(metres + 0.5)
    return rounded_m if exact else (rounded_m + COARSE_M // 2) // COARSE_M * COARSE_M
