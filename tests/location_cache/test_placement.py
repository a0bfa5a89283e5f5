"""Where users' keys lie, and which travel together."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from location_cache.placement import BUCKETS, clustered, together
from nearby.model import UserId
from redis_topology.slots import SLOTS, slot_of

users = st.lists(st.text("abcdef", min_size=1, max_size=3).map(UserId), max_size=60)


def test_buckets_lie_evenly_spaced_so_that_equal_ranges_of_slots_hold_equally_many() -> None:
    groups = clustered([UserId(f"user-{number}") for number in range(5_000)], 5_000)
    slots = {slot_of(group.keys[0]) for group in groups}
    assert len(slots) == BUCKETS
    for primaries in (3, 5, 10, 20):
        held = Counter(slot * primaries // SLOTS for slot in slots)
        assert len(held) == primaries
        assert max(held.values()) - min(held.values()) <= 2


def test_users_spread_evenly_over_the_buckets() -> None:
    groups = clustered([UserId(f"00000000-0000-4000-8000-{number:012d}") for number in range(64_000)], 64_000)
    sizes = [len(group.keys) for group in groups]
    assert max(sizes) < 1.2 * min(sizes)


@given(users, st.integers(1, 10))
def test_a_group_is_of_one_slot_and_small_and_every_position_stands_in_exactly_one(
    user_ids: list[UserId], size: int
) -> None:
    for place in (together, clustered):
        groups = place(user_ids, size)
        positions = [position for group in groups for position in group.positions]
        assert sorted(positions) == list(range(len(user_ids)))
        for group in groups:
            assert 0 < len(group.keys) == len(group.positions) <= size
            assert all(key.endswith(user_ids[at].encode()) for key, at in zip(group.keys, group.positions, strict=True))
    assert all(len({slot_of(key) for key in group.keys}) == 1 for group in clustered(user_ids, size))


@given(users, st.integers(1, 10))
def test_positions_of_one_user_stay_in_their_order(user_ids: list[UserId], size: int) -> None:
    for place in (together, clustered):
        order = [position for group in place(user_ids, size) for position in group.positions]
        for user in set(user_ids):
            own = [position for position in order if user_ids[position] == user]
            assert own == sorted(own)
