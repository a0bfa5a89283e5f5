"""Distances on the sphere, against formulas that were written down independently."""

from __future__ import annotations

from math import asin, atan2, cos, degrees, pi, radians, sin, sqrt

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nearby.geo import (
    EARTH_DIAMETER_M,
    EARTH_RADIUS_M,
    HYSTERESIS,
    distance_m,
    metres_of,
    squared_chord,
    squared_chord_of,
    unit_vector,
)

LATITUDES = st.floats(-90, 90)
LONGITUDES = st.floats(-180, 180)
HALF_TURN_M = pi * EARTH_RADIUS_M


def haversine_m(lat1_deg: float, lon1_deg: float, lat2_deg: float, lon2_deg: float) -> float:
    lat1, lat2 = radians(lat1_deg), radians(lat2_deg)
    h = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin(radians(lon2_deg - lon1_deg) / 2) ** 2
    return 2 * EARTH_RADIUS_M * asin(min(1.0, sqrt(h)))


def test_the_constants_are_those_of_the_design() -> None:
    assert (EARTH_RADIUS_M, EARTH_DIAMETER_M, HYSTERESIS) == (6_371_008.8, 12_742_017.6, 1.1)


@given(LATITUDES, LONGITUDES, LATITUDES, LONGITUDES)
def test_a_distance_is_the_haversine_distance(lat1: float, lon1: float, lat2: float, lon2: float) -> None:
    # Near antipodes both formulas lose digits: asin is steep at 1.
    assert distance_m(lat1, lon1, lat2, lon2) == pytest.approx(haversine_m(lat1, lon1, lat2, lon2), rel=1e-7, abs=1e-6)


@given(LATITUDES, LONGITUDES, LATITUDES, LONGITUDES)
def test_a_distance_is_the_same_both_ways(lat1: float, lon1: float, lat2: float, lon2: float) -> None:
    assert distance_m(lat1, lon1, lat2, lon2) == distance_m(lat2, lon2, lat1, lon1)


@given(st.floats(-85, 85), LONGITUDES, st.floats(0.1, 100_000), st.floats(0, 2 * pi))
def test_a_step_of_any_length_is_measured_to_the_millimetre(
    lat: float, lon: float, step_m: float, bearing: float
) -> None:
    # Destination point: https://www.movable-type.co.uk/scripts/latlong.html
    angle, lat1 = step_m / EARTH_RADIUS_M, radians(lat)
    lat2 = asin(sin(lat1) * cos(angle) + cos(lat1) * sin(angle) * cos(bearing))
    turn = atan2(sin(bearing) * sin(angle) * cos(lat1), cos(angle) - sin(lat1) * sin(lat2))
    assert distance_m(lat, lon, degrees(lat2), lon + degrees(turn)) == pytest.approx(step_m, abs=1e-3)


@given(LATITUDES, LONGITUDES)
def test_a_point_is_no_distance_from_itself(lat: float, lon: float) -> None:
    assert distance_m(lat, lon, lat, lon) == 0


@given(LATITUDES, LONGITUDES)
def test_antipodes_are_half_a_turn_apart(lat: float, lon: float) -> None:
    assert distance_m(lat, lon, -lat, lon + 180) == pytest.approx(HALF_TURN_M, abs=1)


@pytest.mark.parametrize(
    ("a", "b", "expected_m"),
    [
        ((0, 179.9999), (0, -179.9999), 0.0002 * HALF_TURN_M / 180),
        ((89.9999, 0), (89.9999, 180), 0.0002 * HALF_TURN_M / 180),
        ((90, 0), (90, 123), 0),
        ((0, 0), (0, 90), HALF_TURN_M / 2),
        ((-90, 0), (90, 0), HALF_TURN_M),
    ],
)
def test_poles_and_the_date_line_are_no_edges(
    a: tuple[float, float], b: tuple[float, float], expected_m: float
) -> None:
    assert distance_m(*a, *b) == pytest.approx(expected_m, rel=1e-6, abs=1e-3)


@given(LATITUDES, LONGITUDES)
def test_a_position_is_a_unit_vector(lat: float, lon: float) -> None:
    assert sum(part * part for part in unit_vector(lat, lon)) == pytest.approx(1, abs=1e-15)


@given(st.floats(0, HALF_TURN_M * 0.999))
def test_a_chord_and_its_distance_are_inverse(metres: float) -> None:
    assert metres_of(squared_chord_of(metres)) == pytest.approx(metres, rel=1e-9, abs=1e-9)


@given(LATITUDES, LONGITUDES, LATITUDES, LONGITUDES, st.floats(50, 50_000))
def test_the_radius_test_agrees_with_the_distance(
    lat1: float, lon1: float, lat2: float, lon2: float, radius_m: float
) -> None:
    between_m = distance_m(lat1, lon1, lat2, lon2)
    assume(abs(between_m - radius_m) > 1e-3)
    within = squared_chord(unit_vector(lat1, lon1), unit_vector(lat2, lon2)) <= squared_chord_of(radius_m)
    assert within == (between_m <= radius_m)


@pytest.mark.parametrize("metres", [HALF_TURN_M, 1e9, float("inf")])
def test_a_radius_of_half_a_turn_holds_everybody(metres: float) -> None:
    assert squared_chord_of(metres) == 4
