"""What a keeper decides, from one view to the next."""

from __future__ import annotations

from dataclasses import replace as but

import pytest

from nearby.ports import Member, MemberState, RingState, Role
from pubsub_router.keeper_rules import Abort, Action, Commit, Finish, Replace, Rules, View, Wait, dead_slots

NODES = {"shard-1": "unix:///1", "shard-2": "unix:///2", "shard-3": "unix:///3"}
GROWN = NODES | {"shard-4": "unix:///4"}
IDLE = RingState(7, NODES, spares=("unix:///s1", "unix:///s2"))
PENDING = but(IDLE, pending=GROWN)
COMMITTED = RingState(8, GROWN, previous=NODES, spares=IDLE.spares)
ANSWERING = frozenset(IDLE.spares)
DEAD = frozenset({"shard-2"})


def user(name: str, *unreachable: str, prepared: int = 0, switched: int = 7, role: Role = Role.GATEWAY) -> Member:
    return Member(
        role,
        name,
        MemberState.SERVING,
        prepared_epoch=prepared,
        switched_epoch=switched,
        unreachable=unreachable,
    )


def decide(
    ring: RingState,
    *members: Member,
    unreachable: frozenset[str] = frozenset(),
    spares: frozenset[str] = ANSWERING,
    now_s: float = 100.0,
    rules: Rules | None = None,
) -> Action:
    return (rules or Rules()).decide(View(ring, members, unreachable, spares, now_s))


def test_with_nothing_to_do_nothing_is_done() -> None:
    assert decide(IDLE, user("gw-1"), user("gw-2")) == Wait("nothing to do")


@pytest.mark.parametrize("ring", [IDLE, PENDING, COMMITTED])
def test_without_any_member_nothing_is_done(ring: RingState) -> None:
    assert isinstance(decide(ring, unreachable=frozenset(NODES)), Wait)


# --------------------------------------------------------------------------------------------- resizing


def test_a_resize_is_committed_once_every_member_is_prepared() -> None:
    prepared = [user("gw-1", prepared=8), user("api", prepared=8, role=Role.API)]
    assert isinstance(decide(PENDING, *prepared), Commit)


@pytest.mark.parametrize("state", list(MemberState))
def test_one_member_that_is_not_prepared_holds_the_commit_whatever_its_state(state: MemberState) -> None:
    late = but(user("gw-2", prepared=7), state=state)
    assert decide(PENDING, user("gw-1", prepared=8), late) == Wait("1 of 2 members are prepared; missing: gw-2")


def test_a_member_prepared_for_a_later_ring_than_the_next_counts_as_prepared() -> None:
    assert isinstance(decide(PENDING, user("gw-1", prepared=9)), Commit)


def test_a_resize_is_finished_when_all_have_switched_and_a_grace_period_is_over() -> None:
    rules = Rules(grace_s=5)
    gw_1, gw_2 = user("gw-1", switched=8), user("gw-2", switched=8)
    waiting = decide(COMMITTED, gw_1, user("gw-2", switched=7), now_s=100, rules=rules)
    assert waiting == Wait("1 of 2 members have switched; missing: gw-2")
    assert isinstance(decide(COMMITTED, gw_1, gw_2, now_s=110, rules=rules), Wait)
    assert isinstance(decide(COMMITTED, gw_1, gw_2, now_s=114.9, rules=rules), Wait)
    assert isinstance(decide(COMMITTED, gw_1, gw_2, now_s=115, rules=rules), Finish)


def test_the_grace_period_begins_anew_when_a_member_comes_that_has_not_switched() -> None:
    rules = Rules(grace_s=5)
    gw_1 = user("gw-1", switched=8)
    decide(COMMITTED, gw_1, now_s=100, rules=rules)
    decide(COMMITTED, gw_1, user("gw-2", switched=7), now_s=104, rules=rules)
    assert isinstance(decide(COMMITTED, gw_1, user("gw-2", switched=8), now_s=106, rules=rules), Wait)
    assert isinstance(decide(COMMITTED, gw_1, user("gw-2", switched=8), now_s=111, rules=rules), Finish)


def test_the_grace_period_of_one_ring_is_not_that_of_the_next() -> None:
    rules = Rules(grace_s=5)
    decide(IDLE, user("gw-1", switched=8), now_s=0, rules=rules)
    assert isinstance(decide(COMMITTED, user("gw-1", switched=8), now_s=100, rules=rules), Wait)


# ------------------------------------------------------------------------------------------- replacing


def test_a_shard_that_a_majority_cannot_reach_is_replaced_by_the_first_spare_that_answers() -> None:
    members = [user("gw-1", "shard-2"), user("gw-2"), user("api", "shard-2", role=Role.API)]
    why = "shard-2 at unix:///2 is unreachable for 3 of 4 (gw-1, api, the keeper)"
    assert decide(IDLE, *members, unreachable=DEAD) == Replace("shard-2", "unix:///s1", why)
    second = decide(IDLE, *members, unreachable=DEAD, spares=frozenset({"unix:///s2"}))
    assert second == Replace("shard-2", "unix:///s2", why)


@pytest.mark.parametrize(
    ("members", "unreachable"),
    [
        ([user("gw-1")], DEAD),
        ([user("gw-1", "shard-2")], frozenset()),
        ([user("gw-1"), user("gw-2"), user("gw-3", "shard-2")], DEAD),
        ([user("gw-1", "shard-2"), user("gw-2"), user("gw-3")], frozenset()),
    ],
    ids=["keeper of 2", "member of 2", "half of 4", "one of 4"],
)
def test_without_a_majority_nothing_is_replaced(members: list[Member], unreachable: frozenset[str]) -> None:
    assert decide(IDLE, *members, unreachable=unreachable) == Wait("nothing to do")


@pytest.mark.parametrize(("count", "quorum"), [(1, 2), (2, 2), (3, 3), (4, 3), (5, 4), (10, 6)])
def test_the_quorum_is_more_than_half_of_the_members_and_the_keeper(count: int, quorum: int) -> None:
    for reporting in range(count + 1):
        members = [user(f"gw-{number}", *(["shard-2"] if number < reporting else [])) for number in range(count)]
        dead = dead_slots(View(IDLE, members, DEAD, ANSWERING))
        assert dead == (["shard-2"] if reporting + 1 >= quorum else [])


def test_a_shard_that_answers_the_keeper_is_replaced_if_members_reach_the_others_and_not_it() -> None:
    members = [user("gw-1", "shard-2"), user("gw-2", "shard-2")]
    assert isinstance(decide(IDLE, *members), Replace)


def test_members_that_reach_nothing_are_not_believed_while_the_shard_answers_the_keeper() -> None:
    members = [user("gw-1", *NODES), user("gw-2", *NODES)]
    assert decide(IDLE, *members) == Wait("nothing to do")


def test_a_keeper_cut_off_from_everything_does_nothing() -> None:
    members = [user("gw-1", "shard-2"), user("gw-2")]
    cut_off = decide(IDLE, *members, unreachable=frozenset(NODES), spares=frozenset())
    assert isinstance(cut_off, Wait)


def test_without_a_spare_that_answers_the_reason_is_told() -> None:
    silent = decide(IDLE, user("gw-1", "shard-2"), unreachable=DEAD, spares=frozenset())
    none = decide(but(IDLE, spares=()), user("gw-1", "shard-2"), unreachable=DEAD)
    assert silent == none
    assert isinstance(silent, Wait)
    assert "2 of 2" in silent.reason
    assert "no spare answers" in silent.reason


def test_of_two_dead_shards_one_is_replaced_and_then_the_other_once_all_use_the_new_ring() -> None:
    rules = Rules(settle_s=10)
    dead = frozenset({"shard-1", "shard-2"})
    both = user("gw-1", "shard-1", "shard-2")
    first = decide(IDLE, both, unreachable=dead, now_s=100, rules=rules)
    assert isinstance(first, Replace)
    assert (first.slot, first.spare) == ("shard-1", "unix:///s1")
    after = RingState(8, NODES | {"shard-1": "unix:///s1"}, spares=("unix:///s2",))
    assert isinstance(decide(after, both, unreachable=dead, now_s=101, rules=rules), Wait)
    switched = but(both, switched_epoch=8, unreachable=("shard-2",))
    second = decide(after, switched, unreachable=DEAD, now_s=102, rules=rules)
    assert isinstance(second, Replace)
    assert (second.slot, second.spare) == ("shard-2", "unix:///s2")


def test_a_slot_that_was_just_replaced_is_left_alone_until_members_had_time_to_reach_it() -> None:
    rules = Rules(settle_s=10)
    decide(IDLE, user("gw-1"), now_s=90, rules=rules)
    after = RingState(8, NODES | {"shard-2": "unix:///s1"}, spares=("unix:///s2",))
    members = [user("gw-1", "shard-2", switched=8), user("gw-2", "shard-2", switched=8)]
    assert isinstance(decide(after, *members, now_s=100, rules=rules), Wait)
    assert isinstance(decide(after, *members, now_s=109.9, rules=rules), Wait)
    assert isinstance(decide(after, *members, now_s=110, rules=rules), Replace)


# ----------------------------------------------------------------------- shards that die during a resize


def dying(slot: str, ring: RingState, spares: frozenset[str] = ANSWERING) -> Action:
    members = [user("gw-1", slot, prepared=8, switched=ring.epoch), user("gw-2", slot, switched=ring.epoch)]
    return decide(ring, *members, unreachable=frozenset({slot}), spares=spares)


def test_a_resize_is_aborted_when_a_shard_that_stays_in_the_ring_dies_and_a_spare_can_take_over() -> None:
    assert isinstance(dying("shard-2", PENDING), Abort)


def test_a_resize_is_aborted_when_the_shard_that_is_added_dies_spare_or_not() -> None:
    assert isinstance(dying("shard-4", PENDING), Abort)
    assert isinstance(dying("shard-4", PENDING, spares=frozenset()), Abort)


def test_a_resize_goes_on_when_a_shard_dies_that_cannot_be_replaced() -> None:
    assert isinstance(dying("shard-2", PENDING, spares=frozenset()), Wait)


def test_a_resize_that_removes_the_dead_shard_goes_on() -> None:
    without = {slot: address for slot, address in NODES.items() if slot != "shard-2"}
    removing = but(IDLE, pending=without)
    assert isinstance(dying("shard-2", removing), Wait)
    prepared = [user("gw-1", "shard-2", prepared=8), user("gw-2", "shard-2", prepared=8)]
    assert isinstance(decide(removing, *prepared, unreachable=DEAD), Commit)


def test_a_committed_resize_is_finished_before_a_shard_is_replaced() -> None:
    rules = Rules(grace_s=5)
    member = user("gw-1", "shard-2", switched=8)
    assert isinstance(decide(COMMITTED, member, unreachable=DEAD, now_s=0, rules=rules), Wait)
    assert isinstance(decide(COMMITTED, member, unreachable=DEAD, now_s=5, rules=rules), Finish)
    finished = but(COMMITTED, previous=None)
    assert isinstance(decide(finished, member, unreachable=DEAD, now_s=6, rules=rules), Replace)
