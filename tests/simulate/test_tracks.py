from __future__ import annotations

from pathlib import Path

import pytest

from cli.simulate.tracks import Fix, TracksError, read_tracks

TRACKS = """walker,t_s,lat_deg,lon_deg
bob,3700,39.9,116.4
ada,10,39.8,116.3
cleo,7300,39.7,116.2
ada,3600,39.81,116.31
"""


@pytest.fixture
def tracks(tmp_path: Path) -> Path:
    path = tmp_path / "tracks.csv"
    path.write_text(TRACKS)
    return path


def test_fixes_come_in_the_order_of_time(tracks: Path) -> None:
    assert read_tracks(tracks)[0] == Fix("ada", 10.0, 39.8, 116.3)
    assert [fix.t_s for fix in read_tracks(tracks)] == [10, 3600, 3700, 7300]


def test_walkers_and_hours_narrow_them_down(tracks: Path) -> None:
    assert {fix.walker for fix in read_tracks(tracks, walkers=2)} == {"ada", "bob"}
    assert [fix.t_s for fix in read_tracks(tracks, hours=(1, 2))] == [3600, 3700]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("walker,t_s,lat_deg\nada,1,2\n", "no column lon_deg"),
        ("walker,t_s,lat_deg,lon_deg\nada,1,two,3\n", "line 2"),
        ("walker,t_s,lat_deg,lon_deg\nada,1,91,3\n", "not a place on Earth"),
        ("walker,t_s,lat_deg,lon_deg\n", "no fixes"),
    ],
)
def test_a_file_that_holds_no_tracks_is_refused_with_the_reason(tracks: Path, text: str, complaint: str) -> None:
    tracks.write_text(text)
    with pytest.raises(TracksError, match=complaint):
        read_tracks(tracks)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TracksError):
        read_tracks(tmp_path / "none.csv")
