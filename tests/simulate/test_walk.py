from __future__ import annotations

import random

from cli.simulate.walk import FASTEST_MPS, Area, Walker
from nearby.geo import distance_m

CHICAGO = Area(41.88, -87.63, 3_000)


def test_a_walker_stays_in_the_area_and_goes_no_faster_than_the_fastest() -> None:
    for seed in range(20):
        walker = Walker(CHICAGO, random.Random(seed))
        before = walker.at(0)
        for second in range(1, 2_000):
            here = walker.at(second)
            assert distance_m(CHICAGO.lat_deg, CHICAGO.lon_deg, *here) <= CHICAGO.radius_m * 1.001
            assert distance_m(*before, *here) <= FASTEST_MPS * 1.001
            before = here


def test_walkers_move_and_begin_all_over_the_area() -> None:
    walkers = [Walker(CHICAGO, random.Random(seed)) for seed in range(200)]
    starts = [walker.at(0) for walker in walkers]
    moved_m = [distance_m(*start, *walker.at(60)) for start, walker in zip(starts, walkers, strict=True)]
    assert min(moved_m) > 5
    far_out = sum(distance_m(CHICAGO.lat_deg, CHICAGO.lon_deg, *start) > CHICAGO.radius_m / 2 for start in starts)
    assert 120 < far_out < 180  # three quarters of a disc lie beyond half its radius


def test_the_same_random_numbers_make_the_same_walk() -> None:
    one, other = (Walker(CHICAGO, random.Random(7)) for _ in range(2))
    assert [one.at(t) for t in range(0, 900, 30)] == [other.at(t) for t in range(0, 900, 30)]


def test_offsets_are_metres_and_longitudes_wrap_around() -> None:
    lat_deg, lon_deg = Area(60, 179.999, 1).point(1_000, 0)
    assert -180 <= lon_deg < -179
    assert abs(distance_m(60, 179.999, lat_deg, lon_deg) - 1_000) < 1
