"""What becomes of arriving clients, as operators count it."""

from __future__ import annotations

import pytest

from ws_gateway.arrivals import PATIENCE_S, ArrivalEnd, Arrivals


@pytest.mark.parametrize("end", list(ArrivalEnd))
def test_each_end_is_counted(end: ArrivalEnd) -> None:
    arrivals = Arrivals()
    arrivals.ended(end, 0.2)
    assert arrivals.counts == {end: 1}


def test_only_who_is_served_is_timed() -> None:
    arrivals = Arrivals()
    arrivals.ended(ArrivalEnd.SERVED, 0.2)
    arrivals.ended(ArrivalEnd.FAILED, 3.0)
    assert arrivals.seconds.sum == 0.2
    assert arrivals.seconds.buckets()[-1] == ("+Inf", 1)


def test_whoever_left_after_a_long_wait_was_not_served() -> None:
    arrivals = Arrivals()
    arrivals.ended(ArrivalEnd.LEFT, PATIENCE_S + 0.1)
    assert arrivals.counts == {ArrivalEnd.UNAVAILABLE: 1}
