"""What of a report goes into the history."""

from __future__ import annotations

from nearby.model import FriendList, HistoryPoint, Location, UserId
from ws_gateway.hub import Hub
from ws_gateway.reports import history_points
from ws_gateway.viewer import Viewer

ANN = UserId("00000000-0000-4000-8000-000000000001")
FIX = Location(41.88, -87.63, 5)
NOW_MS = 1_795_237_200_000


class NoClient:
    writable = True

    def send_frame(self, frame: bytes) -> None:
        raise AssertionError("nobody is to be told")


def viewer(retention_s: int | None = None, *, sharing: bool = True) -> Viewer:
    seen_by = Viewer(ANN, 1_000, NoClient())
    Hub(600_000).attach(seen_by, FriendList(ANN, 7, sharing, 0, (), retention_s))
    return seen_by


def test_a_point_carries_how_long_its_owner_wants_it_kept() -> None:
    assert history_points([(viewer(), FIX, False)], NOW_MS) == [HistoryPoint(ANN, FIX)]
    assert history_points([(viewer(86_400), FIX, True)], NOW_MS) == [HistoryPoint(ANN, FIX, True, 86_400)]


def test_who_wants_nothing_kept_leaves_no_point() -> None:
    assert history_points([(viewer(0), FIX, False), (viewer(60), FIX, False)], NOW_MS) == [
        HistoryPoint(ANN, FIX, False, 60)
    ]


def test_what_is_not_shared_is_flagged_since_no_friend_has_seen_it() -> None:
    assert history_points([(viewer(sharing=False), FIX, False)], NOW_MS) == [HistoryPoint(ANN, FIX, True)]


def test_the_friend_list_is_as_new_as_its_row_of_the_feed() -> None:
    assert viewer(86_400).history_retention == (7, 86_400)
