from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rate_limits.local import LocalBuckets
from rate_limits.policy import Policy, take

TEN_A_MINUTE = Policy("ten", 10, 60)


def test_the_whole_quota_may_come_at_once_and_then_one_per_interval() -> None:
    buckets = LocalBuckets()
    decisions = [buckets.take(TEN_A_MINUTE, "ann", 100.0) for _ in range(11)]
    assert [decision.allowed for decision in decisions] == [True] * 10 + [False]
    assert [decision.remaining for decision in decisions] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
    assert round(decisions[-1].retry_after_s, 3) == 6
    assert not buckets.take(TEN_A_MINUTE, "ann", 105.9).allowed
    assert buckets.take(TEN_A_MINUTE, "ann", 106.1).allowed
    assert not buckets.take(TEN_A_MINUTE, "ann", 106.1).allowed


def test_a_window_later_the_whole_quota_is_back() -> None:
    buckets = LocalBuckets()
    for _ in range(20):
        buckets.take(TEN_A_MINUTE, "ann", 0.0)
    assert buckets.take(TEN_A_MINUTE, "ann", 60.0).remaining == 9


def test_subjects_and_policies_are_counted_apart() -> None:
    buckets = LocalBuckets()
    once = Policy("once", 1, 60)
    assert buckets.take(once, "ann", 0.0).allowed
    assert not buckets.take(once, "ann", 0.0).allowed
    assert buckets.take(once, "bob", 0.0).allowed
    assert buckets.take(TEN_A_MINUTE, "ann", 0.0).allowed


def test_memory_is_bounded_and_who_was_silent_longest_is_forgotten() -> None:
    once, buckets = Policy("once", 1, 60), LocalBuckets(max_buckets=2)
    for subject in ("ann", "bob", "ann", "cat"):
        buckets.take(once, subject, 0.0)
    assert len(buckets) == 2
    assert not buckets.take(once, "ann", 0.0).allowed
    assert buckets.take(once, "bob", 0.0).allowed


@given(st.integers(1, 50), st.integers(1, 600), st.lists(st.floats(0, 30), max_size=200))
def test_no_stretch_of_one_window_lets_through_more_than_twice_the_quota(
    quota: int, window_s: int, gaps_s: list[float]
) -> None:
    policy, full_at_s, now_s = Policy("any", quota, window_s), None, 0.0
    allowed_at_s: list[float] = []
    for gap_s in gaps_s:
        now_s += gap_s
        decision, full_at_s = take(policy, full_at_s, now_s)
        assert decision.allowed == (decision.retry_after_s == 0)
        assert 0 <= decision.remaining < quota
        assert 0 <= decision.reset_s <= window_s + 1e-3
        if decision.allowed:
            allowed_at_s.append(now_s)
    for began_s in allowed_at_s:
        assert len([at_s for at_s in allowed_at_s if began_s <= at_s < began_s + window_s]) <= 2 * quota
