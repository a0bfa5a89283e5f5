from __future__ import annotations

import pytest

from api.thinning import thin
from nearby.model import HistoryPoint, Location, UserId

ANN = UserId("00000000-0000-4000-8000-000000000001")


def track(*places: tuple[float, float]) -> list[HistoryPoint]:
    return [HistoryPoint(ANN, Location(lat, lon, instant)) for instant, (lat, lon) in enumerate(places)]


def kept(points: list[HistoryPoint], tolerance_m: float) -> list[int]:
    return [point.location.recorded_at_ms for point in thin(points, tolerance_m)]


def test_what_lies_on_the_line_is_left_out_and_a_corner_stays() -> None:
    points = track((10, 20), (10, 20.001), (10, 20.002), (10.001, 20.002), (10.002, 20.002))
    assert kept(points, 5) == [0, 2, 4]


@pytest.mark.parametrize("lat_deg", [0.0, 60.0])
def test_the_tolerance_is_in_metres_at_any_latitude(lat_deg: float) -> None:
    aside_deg = 10 / 111_195  # ten metres north
    points = track((lat_deg, 20), (lat_deg + aside_deg, 20.001), (lat_deg, 20.002))
    assert kept(points, 11) == [0, 2]
    assert kept(points, 9) == [0, 1, 2]


def test_ten_metres_east_are_ten_metres_in_the_north_too() -> None:
    aside_deg = 10 / 111_195 * 2  # at 60° a degree of longitude is half as long
    points = track((59.999, 20), (60.0, 20 + aside_deg), (60.001, 20))
    assert kept(points, 11) == [0, 2]
    assert kept(points, 9) == [0, 1, 2]


def test_a_walk_across_the_date_line_is_a_line() -> None:
    assert kept(track((0, 179.998), (0, 179.999), (0, -179.999), (0, -179.998), (0, 179.999)), 5) == [0, 3, 4]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_nothing_is_left_out_of_a_track_without_a_middle(count: int) -> None:
    assert kept(track(*[(1.0, 2.0)] * count), 100) == list(range(count))


def test_no_tolerance_leaves_out_nothing() -> None:
    assert kept(track((1, 2), (1, 2), (1, 2)), 0) == [0, 1, 2]
