"""How long to wait before a process that died is started again."""

from __future__ import annotations

from cli.up.backoff import Backoff


def test_the_delay_doubles_from_half_a_second_to_ten() -> None:
    backoff = Backoff()
    assert [backoff.after(lived_s=1) for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]


def test_a_life_of_thirty_seconds_starts_the_delay_over() -> None:
    backoff = Backoff()
    assert [backoff.after(lived_s) for lived_s in (0, 29.9, 30, 0)] == [0.5, 1, 0.5, 1]
