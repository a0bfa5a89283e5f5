from __future__ import annotations

import pytest

from benchmarks.targets import watched


def test_half_of_the_friends_are_on_either_side() -> None:
    assert sorted(watched(5, 1000)) == [*range(5), *range(6, 26), *range(985, 1000)]


def test_watching_is_mutual() -> None:
    assert all(user in watched(friend, 20, 6) for user in range(20) for friend in watched(user, 20, 6))


@pytest.mark.parametrize("friends", [0, 1, 7, 20, 22])
def test_friends_who_cannot_be_shared_out_are_refused(friends: int) -> None:
    with pytest.raises(ValueError, match="even number from 2 to 19"):
        watched(0, 20, friends)
