from __future__ import annotations

import msgspec
import pytest

from loadtest.dense.rows import Row, RowSet, rounded
from loadtest.verdict import Slo, goals


@pytest.mark.parametrize(
    ("took_ms", "kept_ms"),
    [(0.04, 0), (2.34, 2.3), (12.6, 13), (147, 150), (3432, 3400), (58_760, 59_000), (99.4, 99), (100, 100)],
)
def test_two_digits_are_kept_and_a_tenth_of_a_millisecond_at_least(took_ms: float, kept_ms: float) -> None:
    assert rounded(took_ms) == kept_ms


def test_a_percentile_is_what_so_many_did_not_exceed() -> None:
    row = Row("WS", "screen")
    assert row.get_response_time_percentile(0.5) == 0
    for took_ms in range(1, 101):
        row.count(took_ms / 1000, None)
    assert [row.get_response_time_percentile(part) for part in (0.01, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]


def test_rows_of_two_processes_add_up_as_if_one_had_counted() -> None:
    one, other, both = RowSet(), RowSet(), RowSet()
    for rows, took_s, error in ((one, 0.001, None), (one, 3.0, "late"), (other, 0.5, "late"), (other, 0.001, "odd")):
        rows.count("WS", "screen", took_s, error)
        both.count("WS", "screen", took_s, error)
    other.count("GET", "/v1/gateway", 0.1, None)
    both.count("GET", "/v1/gateway", 0.1, None)
    sum_of = RowSet()
    for rows in (one, other):
        sum_of.add(msgspec.json.decode(msgspec.json.encode(rows.rows()), type=list[Row]))
    assert sum_of.rows() == both.rows()
    assert both.entries["screen", "WS"].errors == {"late": 2, "odd": 1}


def test_the_verdict_judges_them() -> None:
    rows = RowSet()
    for _ in range(98):
        rows.count("WS", "report to screen", 0.1, None)
    rows.count("WS", "report to screen", 3.0, "late")
    rows.count("WS", "report to screen", 3.0, "late")
    rows.count("WS", "connect", 0.1, None)
    rows.count("GET", "/v1/gateway", 0.1, None)
    assert [goal.met for goal in goals(rows, Slo(2000, 99, 10_000, 99, 1))] == [False, True, True]
    assert [goal.met for goal in goals(rows, Slo(2000, 98, 10_000, 99, 1))] == [True, True, True]
