"""What checks the floods of the benchmarks notices whatever may be wrong with a delivery."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.checked import check
from nearby.codecs import JSON
from nearby.geo import distance_m
from nearby.messages import FriendEntry, GoneEntry, Update
from nearby.model import UserId

ANN, BEN = UserId("00000000-0000-4000-8000-00000000000a"), UserId("00000000-0000-4000-8000-00000000000b")
HERE, NEAR, FAR = (41.88, -87.63), (41.89, -87.63), (42.4, -87.63)
LOG = [(1, 1_000, *NEAR), (1, 2_000, *FAR), (1, 3_000, *NEAR)]


def entry(at_ms: int, place: tuple[float, float] = NEAR, **wrong: Any) -> FriendEntry:
    right = FriendEntry(BEN, *place, round(distance_m(*HERE, *place)), at_ms, "exact")
    return msgspec.structs.replace(right, **wrong)


AWAY = Update(gone=[GoneEntry(BEN, "out_of_range")])


def checked(tmp_path: Path, *updates: Update) -> int:
    file = tmp_path / "recorded"
    frames = [JSON.encode(update) for update in updates]
    file.write_bytes(b"".join(struct.pack("<II", 0, len(frame)) + frame for frame in frames))
    return check(file, [ANN, BEN], [HERE], LOG)


def test_what_is_right_passes(tmp_path: Path) -> None:
    assert checked(tmp_path, Update([entry(1_000)]), AWAY, Update([entry(3_000)])) == 2


def test_what_was_merged_passes(tmp_path: Path) -> None:
    assert checked(tmp_path, Update([entry(3_000)])) == 1


@pytest.mark.parametrize(
    "updates",
    [
        pytest.param((Update([entry(3_000, distance_m=1_000)]),), id="distance"),
        pytest.param((Update([entry(3_000, lat=41.8901)]),), id="place"),
        pytest.param((Update([entry(2_000, FAR)]), Update([entry(3_000)])), id="radius"),
        pytest.param((Update([entry(3_000)]), Update([entry(1_000)])), id="order"),
        pytest.param((Update([entry(3_000)]), Update([entry(3_000)])), id="twice"),
        pytest.param((Update([entry(1_000)]),), id="the last never came"),
        pytest.param((Update([entry(3_000)]), AWAY), id="gone though near"),
        pytest.param((AWAY, Update([entry(3_000)])), id="gone who was not there"),
    ],
)
def test_what_is_wrong_is_noticed(tmp_path: Path, updates: tuple[Update, ...]) -> None:
    with pytest.raises(AssertionError):
        checked(tmp_path, *updates)
