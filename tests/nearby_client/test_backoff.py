from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from nearby_client.backoff import Backoff


@given(st.integers(), st.integers(0, 2000))
def test_every_delay_is_between_zero_and_half_a_second_doubled_per_failure_up_to_thirty(seed: int, count: int) -> None:
    backoff = Backoff(random.Random(seed))
    for failures in range(count):
        assert 0 <= backoff.next_s() <= min(30.0, 0.5 * 2.0 ** min(failures, 100))


def test_delays_use_the_whole_range_and_not_its_end_alone() -> None:
    delays_s = []
    for seed in range(400):
        backoff = Backoff(random.Random(seed))
        for _ in range(4):
            backoff.next_s()
        delays_s.append(backoff.next_s())
    assert min(delays_s) < 0.8
    assert max(delays_s) > 7.2
    assert 3.4 < sum(delays_s) / len(delays_s) < 4.6


def test_a_reset_begins_again_with_half_a_second() -> None:
    backoff = Backoff(random.Random(1))
    for _ in range(10):
        backoff.next_s()
    assert backoff.bound_s() == 30.0
    backoff.reset()
    assert backoff.bound_s() == 0.5
