from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cli.simulate.latency import LatencyHistogram


@given(st.lists(st.floats(0.00002, 900), min_size=1), st.floats(0, 100))
def test_a_percentile_is_at_most_two_percent_too_high_and_never_too_low(values: list[float], percent: float) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.record(value)
    rank = max(1, -(-len(values) * percent // 100))
    exact = sorted(values)[int(rank) - 1]
    found = histogram.percentile_s(percent)
    assert found is not None
    assert exact * 0.999999 <= found <= exact * 1.0201
    assert found <= histogram.max_s


def test_without_latencies_there_is_no_percentile() -> None:
    assert LatencyHistogram().percentile_s(99) is None


def test_what_is_off_the_scale_counts_at_its_ends() -> None:
    histogram = LatencyHistogram()
    histogram.record(-1)
    histogram.record(5_000)
    assert histogram.count == 2
    assert histogram.max_s == 5_000
