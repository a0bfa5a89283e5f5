"""Distances on the sphere, against formulas that were written down independently."""

from __future__ import annotations

import itertools
from math import asin, atan2, cos, degrees, pi, radians, sin, sqrt

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nearby.geo import (
    CELL_BANDS,
    EARTH_DIAMETER_M,
    EARTH_RADIUS_M,
    HYSTERESIS,
    cell_centre,
    distance_m,
    metres_of,
    shown_distance_m,
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


@given(LATITUDES, LONGITUDES)
def test_the_centre_of_a_cell_lies_in_it_and_within_reach_of_every_point(lat: float, lon: float) -> None:
    centre = cell_centre(lat, lon)
    assert cell_centre(*centre) == centre
    assert -90 <= centre[0] <= 90
    assert -180 <= centre[1] <= 180
    # Half a diagonal; the cells at the poles are wider than high.
    assert distance_m(lat, lon, *centre) <= (708 if abs(lat) < 84 else 1_200)


@given(st.floats(-84, 84), LONGITUDES)
def test_cells_are_a_kilometre_high_and_wide(lat: float, lon: float) -> None:
    centre_lat, centre_lon = cell_centre(lat, lon)
    north = cell_centre(centre_lat + 180 / CELL_BANDS, centre_lon)
    assert distance_m(centre_lat, 0, north[0], 0) == pytest.approx(1_000, rel=0.001)
    count = round(2 * CELL_BANDS * cos(radians(centre_lat)))
    assert cos(radians(centre_lat)) * 2 * CELL_BANDS * 1_000 / count == pytest.approx(1_000, rel=0.001)


def test_points_of_one_cell_have_one_centre_and_the_borders_are_where_the_grid_says() -> None:
    lat, lon = cell_centre(41.88, -87.63)
    for north, east in itertools.product((-0.0044, 0, 0.0044), (-0.005, 0, 0.005)):
        assert cell_centre(lat + north, lon + east) == (lat, lon)
    assert cell_centre(lat + 180 / CELL_BANDS, lon)[0] > lat
    assert cell_centre(0.0, 180.0) == cell_centre(0.0, -180.0)
    assert cell_centre(90.0, 0.0)[0] < 90


@pytest.mark.parametrize(("metres", "shown"), [(0, 0), (499, 0), (499.6, 1_000), (500, 1_000), (1_499, 1_000)])
def test_a_distance_to_a_cell_is_shown_to_the_kilometre(metres: float, shown: int) -> None:
    assert shown_distance_m(metres, exact=False) == shown
    assert shown_distance_m(metres, exact=True) == int(metres + 0.5)
