"""What a ring may become, and what each change moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as but

import pytest

from nearby.ports import RingState
from nearby.ring import PARTITIONS
from pubsub_router import plan
from pubsub_router.plan import RingRefused

NODES = {"shard-1": "unix:///1", "shard-2": "unix:///2"}
GROWN = NODES | {"shard-3": "unix:///3"}
IDLE = RingState(7, NODES, spares=("unix:///s1", "unix:///s2"))
PENDING = but(IDLE, pending=GROWN)
COMMITTED = RingState(8, GROWN, previous=NODES, spares=IDLE.spares)


def test_a_resize_is_pending_committed_and_finished() -> None:
    begun = plan.add(IDLE, {"shard-3": "unix:///3"})
    assert begun == PENDING
    committed = plan.commit(begun)
    assert committed == COMMITTED
    assert plan.finish(committed) == RingState(8, GROWN, spares=IDLE.spares)


def test_shards_are_removed_by_slot_or_address() -> None:
    expected = but(IDLE, pending={"shard-1": "unix:///1"})
    assert plan.remove(IDLE, ["shard-2"]) == plan.remove(IDLE, ["unix:///2"]) == expected


def test_an_aborted_resize_takes_an_epoch_so_that_who_was_prepared_for_it_is_not_for_the_next_one() -> None:
    assert plan.abort(PENDING) == but(IDLE, epoch=8)


def test_a_spare_that_becomes_a_shard_is_no_spare_from_the_commit_on() -> None:
    begun = plan.add(IDLE, {"shard-3": "unix:///s1"})
    assert begun.spares == IDLE.spares
    assert plan.commit(begun).spares == ("unix:///s2",)
    assert plan.abort(begun).spares == IDLE.spares


def test_a_replacement_changes_one_address_and_moves_nothing() -> None:
    replaced = plan.replace(IDLE, "shard-2", "unix:///s1")
    assert replaced == RingState(8, NODES | {"shard-2": "unix:///s1"}, spares=("unix:///s2",))
    assert plan.moves(IDLE.nodes, replaced.nodes).moved_count == 0


def test_a_server_that_is_no_spare_may_replace_a_shard() -> None:
    assert plan.replace(IDLE, "shard-1", "redis://h:1").spares == IDLE.spares


def test_spares_come_and_go_under_the_same_epoch_even_while_a_resize_runs() -> None:
    changed = plan.change_spares(PENDING, add=["unix:///s3"], remove=["unix:///s1"])
    assert changed == but(PENDING, spares=("unix:///s2", "unix:///s3"))


def test_the_first_ring_has_epoch_one() -> None:
    assert plan.create(plan.nodes_after(None, ["unix:///1", "unix:///2"])) == RingState(1, NODES)


@pytest.mark.parametrize(
    ("present", "word", "slot"),
    [
        (NODES, "unix:///x", "shard-3"),
        ({"shard-2": "unix:///2"}, "unix:///x", "shard-1"),
        ({"shard-1": "unix:///1", "shard-3": "unix:///3"}, "redis://h:1", "shard-2"),
        (NODES, "blue=unix:///x", "blue"),
        (NODES, "unix:///a=b", "shard-3"),
    ],
)
def test_a_new_slot_has_the_lowest_free_name_or_the_one_it_is_given(
    present: dict[str, str], word: str, slot: str
) -> None:
    assert plan.nodes_after(RingState(1, present), [word]).keys() - present.keys() == {slot}


def test_a_name_that_is_just_being_removed_is_not_used_again() -> None:
    assert plan.nodes_after(IDLE, ["unix:///x"], ["shard-1"]) == {"shard-2": "unix:///2", "shard-3": "unix:///x"}


REFUSED: list[tuple[str, Callable[[], object], str, str]] = [
    ("add while pending", lambda: plan.add(PENDING, {"a": "unix:///a"}), "resize_running", "a resize is running"),
    ("add while finishing", lambda: plan.add(COMMITTED, {"a": "unix:///a"}), "resize_running", "being finished"),
    ("replace while pending", lambda: plan.replace(PENDING, "shard-1", "unix:///a"), "resize_running", "running"),
    ("replace while finishing", lambda: plan.replace(COMMITTED, "shard-1", "unix:///a"), "resize_running", "finished"),
    ("address of a shard", lambda: plan.add(IDLE, {"a": "unix:///1"}), "address_taken", "unix:///1 is in the ring"),
    ("address twice", lambda: plan.nodes_after(IDLE, ["unix:///a", "unix:///a"]), "address_taken", "unix:///a"),
    ("slot taken", lambda: plan.nodes_after(IDLE, ["shard-1=unix:///a"]), "slot_taken", "shard-1"),
    ("slot twice", lambda: plan.nodes_after(IDLE, ["a=unix:///a", "a=unix:///b"]), "slot_taken", "slot a"),
    ("no slot", lambda: plan.nodes_after(IDLE, ["=unix:///a"]), "bad_slot", "no slot name"),
    ("unnamed slot", lambda: plan.create({"": "unix:///a"}), "bad_slot", "needs a name"),
    ("last shard", lambda: plan.remove(IDLE, NODES), "last_shard", "the last shard cannot be removed"),
    ("no shards", lambda: plan.create({}), "last_shard", "the last shard"),
    ("one server twice", lambda: plan.create({"a": "unix:///a", "b": "unix:///a"}), "address_taken", "named twice"),
    ("unknown slot", lambda: plan.remove(IDLE, ["shard-9"]), "unknown_slot", "slots: shard-1, shard-2"),
    ("unknown slot replaced", lambda: plan.replace(IDLE, "shard-9", "unix:///a"), "unknown_slot", "no slot shard-9"),
    ("no change", lambda: plan.begin_resize(IDLE, dict(NODES)), "no_change", "like that already"),
    (
        "another address",
        lambda: plan.begin_resize(IDLE, NODES | {"shard-1": "unix:///other"}),
        "address_change",
        "shard-1 is at unix:///1",
    ),
    ("replaced by a shard", lambda: plan.replace(IDLE, "shard-1", "unix:///2"), "address_taken", "in the ring"),
    ("replaced by itself", lambda: plan.replace(IDLE, "shard-1", "unix:///1"), "address_taken", "in the ring"),
    ("abort of nothing", lambda: plan.abort(IDLE), "no_resize", "no resize is running"),
    ("abort after the commit", lambda: plan.abort(COMMITTED), "no_resize", "committed and cannot be aborted"),
    ("commit of nothing", lambda: plan.commit(IDLE), "no_resize", "pending"),
    ("finish of nothing", lambda: plan.finish(PENDING), "no_resize", "finished"),
    ("spare in use", lambda: plan.change_spares(IDLE, ["unix:///1"]), "address_taken", "in the ring"),
    ("spare pending", lambda: plan.change_spares(PENDING, ["unix:///3"]), "address_taken", "in the ring"),
    ("spare twice", lambda: plan.change_spares(IDLE, ["unix:///s1"]), "address_taken", "a spare already"),
    ("unknown spare", lambda: plan.change_spares(IDLE, remove=["unix:///1"]), "unknown_spare", "unix:///1 is no spare"),
    ("spare malformed", lambda: plan.change_spares(IDLE, ["h:1"]), "bad_address", "h:1"),
]


@pytest.mark.parametrize(("change", "code", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_refused_says_why(change: Callable[[], object], code: str, words: str) -> None:
    with pytest.raises(RingRefused, match=words) as refused:
        change()
    assert refused.value.code == code
    assert "\n" not in refused.value.detail


@pytest.mark.parametrize(
    "address",
    ["", "x", "h:1", "http://h:1", "redis://h", "redis://h:0", "redis://h:x", "redis://u@h:1", "redis://h:1/2",
     "unix://h/1", "unix:///", "unix:///a b", "redis://h:99999", "redis://h:1?db=2"],
)  # fmt: skip
def test_what_is_no_address_of_a_server_is_refused(address: str) -> None:
    with pytest.raises(RingRefused, match="is no address") as refused:
        plan.nodes_after(IDLE, [address])
    assert refused.value.code == "bad_address"


def test_adding_a_shard_moves_its_share_to_it_and_nothing_between_the_others() -> None:
    three = {f"shard-{number}": f"unix:///{number}" for number in range(1, 4)}
    four = three | {"shard-4": "unix:///4"}
    would = plan.moves(three, four)
    assert {target for _, target in would.moved} == {"shard-4"}
    assert would.moved_count == would.after["shard-4"]
    assert 0.8 / 4 <= would.moved_share <= 1.2 / 4
    assert sum(would.before.values()) == sum(would.after.values()) == PARTITIONS
    for slot in three:
        assert would.before[slot] - would.after[slot] == would.moved[slot, "shard-4"]


def test_removing_a_shard_moves_the_same_back() -> None:
    there, back = plan.moves(NODES, GROWN), plan.moves(GROWN, NODES)
    assert back.moved == {(target, source): count for (source, target), count in there.moved.items()}
