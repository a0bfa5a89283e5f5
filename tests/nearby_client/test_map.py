from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nearby.messages import FriendEntry, GoneEntry, Snapshot, Update
from nearby_client.map import FriendMap


def entry(user_id: str, updated_at_ms: int, distance_m: int = 10) -> FriendEntry:
    return FriendEntry(user_id, 41.0, -87.0, distance_m, updated_at_ms, "exact")


def test_a_snapshot_replaces_the_whole_map() -> None:
    shown = FriendMap()
    shown.apply(Update(friends=[entry("ada", 1), entry("bob", 1)]))
    shown.apply(Snapshot(friends=[entry("bob", 2), entry("cleo", 2)]))
    assert shown.friends == {"bob": entry("bob", 2), "cleo": entry("cleo", 2)}


def test_an_update_changes_its_entries_and_leaves_the_others() -> None:
    shown = FriendMap()
    shown.apply(Snapshot(friends=[entry("ada", 1), entry("bob", 1)]))
    shown.apply(Update(friends=[entry("bob", 2)]))
    assert shown.friends == {"ada": entry("ada", 1), "bob": entry("bob", 2)}


def test_a_friend_who_is_gone_leaves_and_an_unknown_one_does_no_harm() -> None:
    shown = FriendMap()
    shown.apply(Snapshot(friends=[entry("ada", 1)]))
    shown.apply(Update(gone=[GoneEntry("ada", "out_of_range"), GoneEntry("nobody", "inactive")]))
    assert shown.friends == {}


def test_a_new_distance_of_the_same_location_is_taken() -> None:
    shown = FriendMap()
    shown.apply(Snapshot(friends=[entry("ada", 5, distance_m=10)]))
    shown.apply(Update(friends=[entry("ada", 5, distance_m=99)]))
    assert shown.friends["ada"].distance_m == 99
    assert shown.refused_count == 0


def test_an_older_location_is_refused_and_counted_even_after_the_friend_was_gone() -> None:
    shown = FriendMap()
    shown.apply(Update(friends=[entry("ada", 5)]))
    shown.apply(Update(friends=[entry("ada", 4)]))
    assert shown.friends["ada"].updated_at_ms == 5
    shown.apply(Update(gone=[GoneEntry("ada", "out_of_range")]))
    shown.apply(Update(friends=[entry("ada", 4)]))
    assert shown.friends == {}
    assert shown.refused_count == 2


def test_a_snapshot_with_an_older_location_keeps_the_friend_at_the_newer_one() -> None:
    shown = FriendMap()
    shown.apply(Update(friends=[entry("ada", 5)]))
    shown.apply(Snapshot(friends=[entry("ada", 4)]))
    assert shown.friends["ada"].updated_at_ms == 5


entries = st.builds(entry, st.sampled_from("abc"), st.integers(1, 9))
messages = st.one_of(
    st.builds(Snapshot, friends=st.lists(entries, unique_by=lambda one: one.user_id)),
    st.builds(
        Update,
        friends=st.lists(entries),
        gone=st.lists(st.builds(GoneEntry, st.sampled_from("abc"), st.just("out_of_range"))),
    ),
)


@given(st.lists(messages))
def test_whatever_arrives_what_is_shown_of_a_friend_never_gets_older(script: list[Snapshot | Update]) -> None:
    shown = FriendMap()
    shown_ms: dict[str, int] = {}
    for message in script:
        shown.apply(message)
        for user_id, one in shown.friends.items():
            assert one.updated_at_ms >= shown_ms.get(user_id, 0)
            shown_ms[user_id] = one.updated_at_ms
