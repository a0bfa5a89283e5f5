"""How evenly the real ring and chance spread a load."""

from __future__ import annotations

import statistics

import pytest

from cli.capacity.balance import BUSIEST, Crowd, activity, fullest_over_mean, gateway_spread, shard_spread
from nearby.ring import Ring, partition_of

ALIKE = Crowd(connections=1_000_000, friends=40, celebrities=0.0, celebrity_friends=5_000, own=0.0)


@pytest.mark.parametrize(("shards", "expected"), [(1, 1.00), (3, 1.02), (36, 1.09), (150, 1.10)])
def test_the_fullest_shard_carries_what_the_ring_was_decided_for(shards: int, expected: float) -> None:
    assert round(fullest_over_mean(shards), 2) == expected  # docs/adr/0002


def test_people_thrown_on_the_ring_one_by_one_load_it_as_the_simulation_says() -> None:
    shards, people = 8, 50_000
    ring = Ring.of(1, {f"shard-{number}": "redis://127.0.0.1:6379" for number in range(1, shards + 1)})
    loads = [0.0] * shards
    rates = activity()
    for number in range(people):
        partition = partition_of(b"loc:00000000-0000-4000-8000-%012d" % number)
        loads[ring.table[partition]] += rates[number * 7919 % len(rates)]
    thrown = max(loads) / statistics.fmean(loads)
    simulated = shard_spread(Crowd(people, 40, 0.0, 5_000, 0.0), shards)
    assert simulated.middle == pytest.approx(thrown, abs=0.05)


def test_activity_is_unequal_capped_and_averages_one() -> None:
    rates = activity()
    assert statistics.fmean(rates) == pytest.approx(1.0)
    assert max(rates) == BUSIEST
    assert statistics.median(rates) < 0.5


def test_celebrities_heat_up_the_gateways_they_fall_on() -> None:
    plain = gateway_spread(ALIKE, 100)
    famous = gateway_spread(Crowd(1_000_000, 40, 1e-4, 5_000, 0.0), 100)
    assert 1.0 <= plain.middle <= plain.worst
    assert famous.middle > plain.middle + 0.05


def test_fewer_people_on_each_gateway_are_less_even() -> None:
    assert gateway_spread(ALIKE, 1_000).middle > gateway_spread(ALIKE, 10).middle
