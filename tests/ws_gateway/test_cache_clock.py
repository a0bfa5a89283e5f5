"""The cache's clock as a gateway knows it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ws_gateway.cache_clock import CacheClock


class LocalClock:
    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


def learn(clock: CacheClock, local: LocalClock, offset_ms: int, took_ms: int = 10) -> None:
    """Let the cache, ``offset_ms`` ahead, be asked and answer in ``took_ms``."""
    asked_ms = local.now_ms
    local.now_ms += took_ms
    clock.learn(asked_ms, asked_ms + offset_ms + took_ms // 2, local.now_ms)


def test_it_is_our_own_clock_until_the_cache_is_heard_of() -> None:
    local = LocalClock()
    assert CacheClock(local)() == local.now_ms


def test_clocks_that_agree_are_left_alone_however_long_the_answer_takes() -> None:
    local = LocalClock()
    clock = CacheClock(local)
    for took_ms in (0, 2, 900):
        learn(clock, local, 0, took_ms)
        assert clock() == local.now_ms
        assert clock.offset_s == 0


def test_a_clock_five_minutes_ahead_is_right_at_once_if_it_has_dated_nothing_yet() -> None:
    local = LocalClock()
    clock = CacheClock(local)
    learn(clock, local, -300_000)
    assert abs(clock() - (local.now_ms - 300_000)) <= 6
    assert abs(clock.offset_s + 300) < 0.01


def test_a_clock_that_is_behind_jumps_forward() -> None:
    local = LocalClock()
    clock = CacheClock(local)
    clock()
    learn(clock, local, 300_000)
    assert abs(clock() - (local.now_ms + 300_000)) <= 6


def test_a_correction_backward_makes_it_run_at_half_its_speed_until_it_is_made() -> None:
    local = LocalClock()
    clock = CacheClock(local)
    began_ms = clock()
    learn(clock, local, -300_000, took_ms=0)
    local.now_ms += 100_000
    assert clock() == began_ms + 50_000
    local.now_ms += 600_000
    assert abs(clock() - (local.now_ms - 300_000)) <= 1


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(-400_000, 400_000), st.integers(0, 1_000))))
def test_what_it_tells_never_goes_back(steps: list[tuple[int, int, int]]) -> None:
    local = LocalClock()
    clock = CacheClock(local)
    told = [clock()]
    for waited_ms, offset_ms, took_ms in steps:
        local.now_ms += waited_ms
        learn(clock, local, offset_ms, took_ms)
        told.append(clock())
    assert told == sorted(told)
