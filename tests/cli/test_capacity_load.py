"""What follows from a load: shares of friends, rates, and values that are refused."""

from __future__ import annotations

import math
import random

import pytest

from cli.capacity.load import Load, NonsenseLoad, Traffic, share_within


def test_the_reference_load_is_what_the_design_names() -> None:
    traffic = Traffic.of(Load())
    assert traffic.connections == 10_000_000
    assert round(traffic.reports) == 333_333
    assert round(traffic.deliveries) == 13_333_333
    assert traffic.own_entries == traffic.deliveries
    assert traffic.unseen == 0


@pytest.mark.parametrize(("radius_km", "area_km"), [(2.0, 10.0), (8.047, 10.0), (15.0, 10.0)])
def test_the_share_of_friends_within_the_radius_is_that_of_points_thrown_into_a_disc(
    radius_km: float, area_km: float
) -> None:
    rng = random.Random(4)

    def point() -> tuple[float, float]:
        distance, angle = area_km * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        return distance * math.cos(angle), distance * math.sin(angle)

    thrown = 40_000
    near = sum(math.dist(point(), point()) <= radius_km for _ in range(thrown)) / thrown
    assert share_within(radius_km, area_km) == pytest.approx(near, abs=0.01)


def test_everybody_is_near_where_the_radius_spans_the_area() -> None:
    assert share_within(20.0, 10.0) == 1.0
    assert share_within(0.05, 10_000.0) == pytest.approx(0.0, abs=1e-9)


def test_friends_who_are_away_or_far_are_not_delivered() -> None:
    everybody = Traffic.of(Load())
    some = Traffic.of(Load(friends_connected=0.25, area_km=20.0))
    assert some.audience == 10
    assert some.deliveries == pytest.approx(everybody.deliveries * 0.25 * share_within(8.047, 20.0))
    assert some.unseen > 0


def test_somebody_whose_friends_see_different_tiers_publishes_twice() -> None:
    reports = Traffic.of(Load()).reports
    assert Traffic.of(Load(approximate=0.0)).publishes == pytest.approx(reports)
    assert Traffic.of(Load(approximate=1.0)).publishes == pytest.approx(reports)
    assert Traffic.of(Load(approximate=0.5)).publishes == pytest.approx(2 * reports)


def test_twice_the_interval_is_half_the_traffic() -> None:
    once, half = Traffic.of(Load(interval_s=30.0)), Traffic.of(Load(interval_s=60.0))
    assert half.reports == once.reports / 2
    assert half.deliveries == once.deliveries / 2
    assert half.connections == once.connections


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"users": 0}, "--users"),
        ({"connected": 0.0}, "--connected"),
        ({"connected": 1.5}, "--connected"),
        ({"friends": -1}, "--friends"),
        ({"friends": 5_001}, "--friends"),
        ({"users": 30, "friends": 40}, "--friends"),
        ({"friends_connected": math.nan}, "--friends-connected"),
        ({"interval_s": 0.0}, "--interval"),
        ({"interval_s": 300.0}, "--interval"),
        ({"radius_km": 0.01}, "--radius"),
        ({"area_km": 0.0}, "--area"),
        ({"approximate": 2.0}, "--approximate"),
        ({"session_s": 0.0}, "--session"),
        ({"linger_s": -1.0}, "--linger"),
        ({"peak_to_mean": 0.5}, "--peak-to-mean"),
    ],
)
def test_nonsense_is_refused_and_told_what_is_allowed(values: dict[str, float], option: str) -> None:
    with pytest.raises(NonsenseLoad) as refused:
        Load(**values)  # type: ignore[arg-type]
    assert refused.value.option == option
    assert refused.value.allowed in str(refused.value)
