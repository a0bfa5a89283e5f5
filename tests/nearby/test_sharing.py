"""The tier in force, over all combinations and against a slow reference that looks at everything anew."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearby.sharing import (
    DAY_MS,
    EXACT,
    NO_LIMITS,
    CircleRule,
    Decision,
    Limits,
    Reason,
    Rule,
    Tier,
    TierPlan,
    Window,
    ceiling,
    decide,
    is_time_zone,
    plan_of,
)

NOW_MS = 1_795_237_200_000
HOUR_MS = 3_600_000
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca")
EVERY_DAY = (0, 1, 2, 3, 4, 5, 6)

tiers = st.sampled_from(Tier)
instants_ms = st.one_of(st.none(), st.integers(NOW_MS - 10, NOW_MS + 10))
rules = st.builds(Rule, tiers, st.one_of(st.none(), tiers), instants_ms, st.booleans())
circle_rules = st.builds(CircleRule, tiers, instants_ms)
windows = st.builds(
    Window,
    st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True).map(tuple),
    st.integers(0, 1439),
    st.integers(0, 1440),
    tiers,
)
limits = st.builds(Limits, instants_ms, st.lists(windows, max_size=3).map(tuple), st.sampled_from(ZONES))
weeks_ms = st.integers(1_767_225_600_000, 1_798_761_600_000)
"""Any instant of 2026."""


def inside(window: Window, wall: datetime) -> bool:
    """Whether the wall clock stands inside ``window``, by looking at each day on which it may have begun."""
    for days_ago in (0, 1):
        midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None) - timedelta(days=days_ago)
        if midnight.weekday() not in window.days:
            continue
        start = midnight + timedelta(minutes=window.start_minute)
        end = midnight + timedelta(minutes=window.end_minute)
        if end <= start:
            end += timedelta(days=1)
        if start <= wall.replace(tzinfo=None) < end:
            return True
    return False


def reference(switched_on: bool, said: Limits, rule: Rule, circles: list[CircleRule], now_ms: int) -> Tier:
    """The lowest of all bounds that apply at ``now_ms``."""
    bounds = [Tier.EXACT]
    if not switched_on and (said.paused_until_ms is None or now_ms < said.paused_until_ms):
        bounds.append(Tier.OFF)
    wall = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(said.time_zone))
    bounds += [window.tier for window in said.windows if inside(window, wall)]
    in_time = rule.until_ms is None or now_ms < rule.until_ms
    bounds.append(rule.meanwhile if rule.meanwhile is not None and in_time else rule.standing)
    bounds += [circle.tier for circle in circles if circle.until_ms is None or now_ms < circle.until_ms]
    return min(bounds)


def test_over_all_combinations_the_lowest_bound_holds_and_the_reason_is_one_that_sets_it() -> None:
    ends_ms = (None, NOW_MS - 1, NOW_MS, NOW_MS + 1)
    all_day = [()] + [(Window(EVERY_DAY, 0, 1440, tier),) for tier in Tier]
    some_rules = [Rule(standing) for standing in Tier]
    some_rules += [Rule(a, b, end) for a, b, end in itertools.product(Tier, Tier, ends_ms)]
    some_circles: list[list[CircleRule]] = [[]]
    some_circles += [[CircleRule(tier, end)] for tier, end in itertools.product(Tier, ends_ms)]
    some_circles += [[CircleRule(a), CircleRule(b)] for a, b in itertools.product(Tier, Tier)]
    count = 0
    for switched_on, end, day, rule, circles in itertools.product(
        (True, False), ends_ms, all_day, some_rules, some_circles
    ):
        said = Limits(end, day)
        decision = decide(switched_on, said, rule, circles, NOW_MS)
        assert decision.tier is reference(switched_on, said, rule, circles, NOW_MS)
        assert decision.until_ms is None or decision.until_ms > NOW_MS
        if decision.tier is not Tier.EXACT:
            bounds = {
                Reason.PAUSED: Tier.OFF if not ceiling(switched_on, Limits(end), NOW_MS).tier else Tier.EXACT,
                Reason.WINDOW: ceiling(True, said, NOW_MS).tier,
                Reason.CIRCLE: min((circle.at(NOW_MS) for circle in circles), default=Tier.EXACT),
                Reason.RULE: rule.at(NOW_MS),
            }
            assert bounds[decision.reason] is decision.tier
        else:
            assert decision.reason is Reason.RULE
        count += 1
    assert count == 2 * 4 * 4 * 39 * 22


@given(st.booleans(), limits, rules, st.lists(circle_rules, max_size=3), st.integers(NOW_MS - 12, NOW_MS + 12))
def test_it_is_total_and_equals_the_reference(
    switched_on: bool, said: Limits, rule: Rule, circles: list[CircleRule], now_ms: int
) -> None:
    decision = decide(switched_on, said, rule, circles, now_ms)
    assert decision.tier is reference(switched_on, said, rule, circles, now_ms)


@given(st.booleans(), limits, rules, st.lists(circle_rules, max_size=2), circle_rules, windows)
def test_adding_a_restriction_never_widens(
    switched_on: bool, said: Limits, rule: Rule, circles: list[CircleRule], circle: CircleRule, window: Window
) -> None:
    before = decide(switched_on, said, rule, circles, NOW_MS).tier
    assert decide(False, msgspec.structs.replace(said, paused_until_ms=None), rule, circles, NOW_MS).tier is Tier.OFF
    assert decide(switched_on, said, rule, [*circles, circle], NOW_MS).tier <= before
    more = msgspec.structs.replace(said, windows=(*said.windows, window))
    assert decide(switched_on, more, rule, circles, NOW_MS).tier <= before


@given(rules, st.lists(circle_rules, max_size=3), st.booleans(), limits)
def test_the_plan_and_the_ceiling_together_decide_as_the_whole_does_at_every_instant(
    rule: Rule, circles: list[CircleRule], switched_on: bool, said: Limits
) -> None:
    """Gateways know plan and ceiling only."""
    begun_ms = NOW_MS - 11
    plan = plan_of(rule, circles, begun_ms)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=TierPlan) == plan
    for now_ms in range(begun_ms, NOW_MS + 12):
        whole = decide(switched_on, said, rule, circles, now_ms)
        assert min(plan.at(now_ms), ceiling(switched_on, said, now_ms).tier) is whole.tier
        end_ms = plan.until_ms(now_ms)
        assert end_ms is None or plan.at(end_ms) is not plan.at(end_ms - 1)


@given(st.lists(windows, min_size=1, max_size=3).map(tuple), st.sampled_from(ZONES), weeks_ms, st.data())
def test_until_its_end_an_answer_about_windows_holds(
    some: tuple[Window, ...], zone: str, now_ms: int, data: st.DataObject
) -> None:
    said = Limits(windows=some, time_zone=zone)
    decision = ceiling(True, said, now_ms)
    assert decision.until_ms is not None
    assert now_ms < decision.until_ms <= now_ms + DAY_MS
    between_ms = data.draw(st.integers(now_ms, decision.until_ms - 1))
    for later_ms in (between_ms, decision.until_ms - 1):
        assert reference(True, said, Rule(), [], later_ms) is decision.tier


def instant_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("begins", "ends", "hours"),
    [
        ("2026-06-10T22:00+02:00", "2026-06-11T07:00+02:00", 9),
        ("2026-01-14T22:00+01:00", "2026-01-15T07:00+01:00", 9),
        ("2026-03-28T22:00+01:00", "2026-03-29T07:00+02:00", 8),
        ("2026-10-24T22:00+02:00", "2026-10-25T07:00+01:00", 10),
    ],
    ids=["summer", "winter", "clocks-forward", "clocks-back"],
)
def test_a_night_is_by_the_wall_clocks_whatever_its_length(begins: str, ends: str, hours: int) -> None:
    night = Limits(windows=(Window(EVERY_DAY, 22 * 60, 7 * 60, Tier.OFF),), time_zone="Europe/Berlin")
    from_ms, to_ms = instant_ms(begins), instant_ms(ends)
    assert to_ms - from_ms == hours * HOUR_MS
    assert ceiling(True, night, from_ms - 1) == Decision(Tier.EXACT, from_ms, Reason.RULE)
    assert ceiling(True, night, to_ms).tier is Tier.EXACT
    now_ms = from_ms
    while now_ms < to_ms:  # the clocks may be put in between, where the answer may change but does not
        decision = ceiling(True, night, now_ms)
        assert (decision.tier, decision.reason) == (Tier.OFF, Reason.WINDOW)
        assert decision.until_ms is not None
        now_ms = decision.until_ms
    assert now_ms == to_ms


def test_a_window_that_begins_in_the_hour_that_is_skipped_begins_when_the_clocks_are_put_forward() -> None:
    said = Limits(windows=(Window((6,), 150, 240, Tier.OFF),), time_zone="Europe/Berlin")
    put_ms = instant_ms("2026-03-29T02:00+01:00")
    assert ceiling(True, said, put_ms - 1) == Decision(Tier.EXACT, put_ms, Reason.RULE)
    assert ceiling(True, said, put_ms).tier is Tier.OFF


def test_a_window_in_the_hour_that_repeats_is_open_twice() -> None:
    said = Limits(windows=(Window((6,), 150, 165, Tier.OFF),), time_zone="Europe/Berlin")
    for offset in ("+02:00", "+01:00"):
        assert ceiling(True, said, instant_ms(f"2026-10-25T02:30{offset}")).tier is Tier.OFF
        assert ceiling(True, said, instant_ms(f"2026-10-25T02:45{offset}")).tier is Tier.EXACT


def test_a_time_zone_that_is_not_known_here_shares_nothing() -> None:
    said = Limits(windows=(Window((0,), 0, 1, Tier.APPROXIMATE),), time_zone="Mars/Olympus")
    assert ceiling(True, said, NOW_MS) == Decision(Tier.OFF, None, Reason.WINDOW)
    assert ceiling(True, Limits(time_zone="Mars/Olympus"), NOW_MS).tier is Tier.EXACT


@pytest.mark.parametrize("name", ["", "..", "../etc/passwd", "/etc/passwd", "Europe", "Mars/Olympus", "x" * 64, "\0"])
def test_only_names_of_the_iana_database_are_time_zones(name: str) -> None:
    assert not is_time_zone(name)
    assert is_time_zone("Europe/Berlin")


def test_the_plan_of_a_friend_about_whom_nothing_was_said_is_one_object_and_takes_no_room_on_the_wire() -> None:
    assert plan_of(Rule(), [], NOW_MS) is EXACT
    assert plan_of(Rule(Tier.EXACT, Tier.OFF, NOW_MS), [CircleRule(Tier.OFF, NOW_MS)], NOW_MS) is EXACT
    assert msgspec.json.encode(EXACT) == msgspec.json.encode(NO_LIMITS) == b"{}"


def test_only_a_friend_who_will_be_shown_nothing_may_be_told_so() -> None:
    assert plan_of(Rule(Tier.OFF, openly=True), [], NOW_MS).openly
    assert not plan_of(Rule(Tier.EXACT, openly=True), [], NOW_MS).openly


def test_the_labels_are_those_of_rest_and_read_back() -> None:
    assert [tier.label for tier in Tier] == ["off", "approximate", "exact"]
    assert [Tier.of(tier.label) for tier in Tier] == list(Tier)
