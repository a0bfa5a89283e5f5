"""Whether anybody may see a user at each tier, which is when something is published for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nearby.model import UserId
from nearby.record import LocationRecord, approximate
from nearby.sharing import EXACT, NO_LIMITS, Limits, Tier, TierPlan, ceiling
from tests.ws_gateway.test_hub import ANNA, BEN, CLEO, NOW_MS, SEOUL, at
from tests.ws_gateway.test_tiers import ALWAYS_APPROXIMATE, APPROXIMATE, LIMITS, OFF, PLANS
from ws_gateway.audience import Audience

NOBODY, SOME_EXACTLY, SOME_ROUGHLY, BOTH = (False, False), (True, False), (False, True), (True, True)


def audience(*plans: TierPlan) -> Audience:
    made = Audience()
    for number, plan in enumerate(plans):
        made.let(UserId(str(number)), plan, new=True)
    return made


def test_without_friends_nothing_is_published() -> None:
    assert audience().tiers(NOW_MS) == NOBODY


def test_each_tier_is_published_while_somebody_sees_it() -> None:
    assert audience(EXACT, EXACT).tiers(NOW_MS) == SOME_EXACTLY
    assert audience(APPROXIMATE, OFF).tiers(NOW_MS) == SOME_ROUGHLY
    assert audience(EXACT, APPROXIMATE).tiers(NOW_MS) == BOTH
    assert audience(OFF, OFF).tiers(NOW_MS) == NOBODY


def test_a_friend_lost_and_a_rule_changed_count_at_once() -> None:
    made = audience()
    made.let(BEN, EXACT, new=True)
    made.let(CLEO, APPROXIMATE, new=True)
    assert made.tiers(NOW_MS) == BOTH
    made.let(BEN, OFF, new=False)
    assert made.tiers(NOW_MS) == SOME_ROUGHLY
    made.forget(CLEO)
    assert made.tiers(NOW_MS) == NOBODY
    made.let(BEN, EXACT, new=False)
    assert made.tiers(NOW_MS) == SOME_EXACTLY


def test_what_is_said_to_everyone_binds_everyone_and_older_news_is_ignored() -> None:
    made = audience(EXACT, APPROXIMATE)
    made.say(True, ALWAYS_APPROXIMATE, 5)
    assert made.tiers(NOW_MS) == SOME_ROUGHLY
    made.say(True, NO_LIMITS, 4)
    assert made.tiers(NOW_MS) == SOME_ROUGHLY
    made.say(False, Limits(paused_until_ms=NOW_MS + 10), 6)
    assert made.tiers(NOW_MS) == NOBODY
    assert made.tiers(NOW_MS + 10) == BOTH


@given(st.lists(PLANS, max_size=4), st.booleans(), LIMITS, st.lists(st.integers(0, 120), min_size=1, max_size=5))
def test_at_every_instant_it_is_as_if_worked_out_anew(
    plans: list[TierPlan], sharing: bool, limits: Limits, seconds: list[int]
) -> None:
    made = audience(*plans)
    made.say(sharing, limits, 1)
    for now_ms in sorted(NOW_MS + at_s * 1000 for at_s in seconds):
        for_all = ceiling(sharing, limits, now_ms).tier
        seen = {min(plan.at(now_ms), for_all) for plan in plans}
        assert made.tiers(now_ms) == (Tier.EXACT in seen, Tier.APPROXIMATE in seen)


def test_within_a_cell_only_the_heartbeat_is_published() -> None:
    made = audience(APPROXIMATE)

    def is_due(record: LocationRecord, seconds: float) -> bool:
        return made.is_due(approximate(record), NOW_MS + round(seconds * 1000), 27_000)

    here, a_few_steps_on, elsewhere = at(*SEOUL), at(SEOUL[0] + 0.0005, SEOUL[1]), at(SEOUL[0] + 0.02, SEOUL[1])
    assert approximate(here)[2:] == approximate(a_few_steps_on)[2:]
    assert [is_due(here, 0), is_due(here, 1), is_due(a_few_steps_on, 26.9)] == [True, False, False]
    assert is_due(elsewhere, 26.95)
    assert [is_due(elsewhere, 53), is_due(elsewhere, 54)] == [False, True]
    assert ANNA not in made.plans
