"""Which locations are seen, how late, and which are lost."""

from __future__ import annotations

from prober.ledger import Ledger, Pair

ANNA_TO_BEN = Pair("anna", "ben")
BEN_TO_ANNA = Pair("ben", "anna")
LOST_AFTER_S = 65.0


def test_a_location_that_is_seen_took_as_long_as_it_took() -> None:
    ledger = Ledger(LOST_AFTER_S)
    ledger.sent(ANNA_TO_BEN, 1_000, 10.0)
    assert ledger.seen(ANNA_TO_BEN, 1_000, 10.25) == [0.25]
    assert ledger.seen(ANNA_TO_BEN, 1_000, 11.0) == [], "a snapshot shows it again"


def test_a_newer_location_shows_those_before_it_too() -> None:
    ledger = Ledger(LOST_AFTER_S)
    for second in (10, 15, 20):
        ledger.sent(ANNA_TO_BEN, second * 1000, float(second))
    assert ledger.seen(ANNA_TO_BEN, 15_000, 16.0) == [6.0, 1.0]
    assert ledger.seen(ANNA_TO_BEN, 20_000, 21.0) == [1.0]


def test_what_was_sent_before_says_nothing_of_what_was_sent_after() -> None:
    ledger = Ledger(LOST_AFTER_S)
    ledger.sent(ANNA_TO_BEN, 2_000, 10.0)
    assert ledger.seen(ANNA_TO_BEN, 1_000, 11.0) == []


def test_each_way_is_a_pair_of_its_own() -> None:
    ledger = Ledger(LOST_AFTER_S)
    ledger.sent(ANNA_TO_BEN, 1_000, 10.0)
    assert ledger.seen(BEN_TO_ANNA, 1_000, 11.0) == []


def test_a_location_that_is_not_seen_in_time_is_lost_once() -> None:
    ledger = Ledger(LOST_AFTER_S)
    ledger.sent(ANNA_TO_BEN, 1_000, 10.0)
    ledger.sent(ANNA_TO_BEN, 6_000, 15.0)
    assert list(ledger.lost(75.0)) == []
    assert list(ledger.lost(75.1)) == [ANNA_TO_BEN]
    assert list(ledger.lost(75.2)) == []
    assert ledger.seen(ANNA_TO_BEN, 6_000, 76.0) == [61.0]
