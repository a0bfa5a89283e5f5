from __future__ import annotations

import pytest

from loadtest.dense.__main__ import parser


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    told = capsys.readouterr().out
    for word in (
        "--processes",
        "--spawn-rate",
        "--slo-screen-ms",
        "{celebrity,city,ramp,steady,storm}",
        "people.jsonl",
    ):
        assert word in told


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h1m1s", 3661)])
def test_a_time_is_written_as_for_locust(text: str, seconds: float) -> None:
    assert parser().parse_args(["--run-time", text]).run_time == seconds


@pytest.mark.parametrize("arguments", [["--run-time", "soon"], ["--run-time", "0s"], ["--users", "0"]])
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(arguments)
