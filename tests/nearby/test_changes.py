"""Changes of the social graph on the control channels and in the change feed."""

from __future__ import annotations

import msgspec
import pytest

from nearby.changes import (
    Change,
    FriendshipChanged,
    HistoryRetentionChanged,
    SharingChanged,
    TokensRevoked,
    Unreadable,
    concerns,
    decode,
    decode_row,
    encode,
)
from nearby.model import UserId
from nearby.sharing import Limits, Tier, TierPlan, Window

ALICE, BOB = UserId("00000000-0000-4000-8000-000000000001"), UserId("00000000-0000-4000-8000-000000000002")

GOLDEN: list[tuple[Change, str]] = [
    (
        FriendshipChanged(7, ALICE, BOB, friends=True, user_sharing=True, friend_sharing=False),
        f'{{"kind":"friendship","sequence":7,"user_id":"{ALICE}","friend_id":"{BOB}","friends":true,'
        '"user_sharing":true,"friend_sharing":false}',
    ),
    (
        SharingChanged(8, ALICE, sharing=False),
        f'{{"kind":"sharing","sequence":8,"user_id":"{ALICE}","sharing":false}}',
    ),
    (
        FriendshipChanged(
            10,
            ALICE,
            BOB,
            friends=True,
            user_sharing=False,
            friend_sharing=True,
            user_limits=Limits(paused_until_ms=1_795_237_200_000),
            friend_limits=Limits(windows=(Window((0, 4), 1320, 420, Tier.OFF),), time_zone="Asia/Seoul"),
            user_shows=TierPlan(Tier.EXACT, ((1_795_237_200_123, Tier.OFF),), openly=True),
            friend_shows=TierPlan(Tier.APPROXIMATE),
        ),
        f'{{"kind":"friendship","sequence":10,"user_id":"{ALICE}","friend_id":"{BOB}","friends":true,'
        '"user_sharing":false,"friend_sharing":true,"user_limits":{"paused_until_ms":1795237200000},'
        '"friend_limits":{"windows":[{"days":[0,4],"start_minute":1320,"end_minute":420,"tier":0}],'
        '"time_zone":"Asia/Seoul"},"user_shows":{"later":[[1795237200123,0]],"openly":true},"friend_shows":{"tier":1}}',
    ),
    (
        TokensRevoked(9, ALICE, 1_795_237_200_123),
        f'{{"kind":"tokens_revoked","sequence":9,"user_id":"{ALICE}","valid_from_ms":1795237200123}}',
    ),
    (
        HistoryRetentionChanged(10, ALICE, 86_400),
        f'{{"kind":"history_retention","sequence":10,"user_id":"{ALICE}","retention_s":86400}}',
    ),
]


@pytest.mark.parametrize(("change", "data"), GOLDEN)
def test_a_change_is_written_as_always(change: Change, data: str) -> None:
    assert encode(change).decode() == data


@pytest.mark.parametrize(("change", "data"), GOLDEN)
def test_a_change_is_read_back(change: Change, data: str) -> None:
    assert decode(data) == change
    assert decode(data.encode()) == change


def test_a_field_of_a_newer_process_is_ignored() -> None:
    change, data = GOLDEN[1]
    assert decode(data[:-1] + ',"until_ms":5}') == change


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff", b'{"kind":"other","sequence":1}', b'{"kind":"sharing","sequence":"1"}', b"[" * 9_999],
)
def test_what_is_no_change_is_refused(data: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, RecursionError)):
        decode(data)


def test_a_friendship_concerns_both_and_the_rest_one() -> None:
    assert [concerns(change) for change, _ in GOLDEN] == [(ALICE, BOB), (ALICE,), (ALICE, BOB), (ALICE,), (ALICE,)]


def test_a_row_of_a_kind_that_is_not_known_keeps_its_place_in_the_feed() -> None:
    novel = '{"kind":"novel","sequence":7,"whatever":1}'
    assert decode_row(novel) == decode_row(msgspec.Raw(novel.encode())) == Unreadable(7)
    assert decode_row(novel.replace("7", "0"), 9) == Unreadable(9)
    assert decode_row(encode(Unreadable(9))) == Unreadable(9)
    assert concerns(Unreadable(9)) == ()
    revoked = TokensRevoked(0, ALICE, 5)
    assert decode_row(encode(revoked).decode(), 8) == TokensRevoked(8, ALICE, 5)
    for broken in ('{"kind":"novel"}', "7", "{", ""):
        with pytest.raises(msgspec.MsgspecError):
            decode_row(broken)
