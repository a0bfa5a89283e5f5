from __future__ import annotations

from argparse import ArgumentParser

import pytest

from loadtest.__main__ import explain
from loadtest.arguments import add_options, area_of, slo_of
from loadtest.verdict import Slo


@pytest.fixture
def parser() -> ArgumentParser:
    parser = ArgumentParser()
    add_options(parser)
    return parser


def test_help_names_the_scenarios_and_the_goals(capsys: pytest.CaptureFixture[str]) -> None:
    explain()
    told = capsys.readouterr().out
    assert "{celebrity,city,ramp,steady,storm}" in told
    assert "--slo-screen-ms" in told


def test_the_goals_are_those_of_the_command_line(parser: ArgumentParser) -> None:
    assert slo_of(parser.parse_args(["--slo-screen-ms", "500"])) == Slo(500, 99, 10_000, 99, 1)


def test_a_city_is_narrower_than_other_places(parser: ArgumentParser) -> None:
    place = ["--center", "41.5,-87.5"]
    assert area_of(parser.parse_args(place), 1000) == (41.5, -87.5, 600)
    assert area_of(parser.parse_args([*place, "--scenario", "city"]), 1000) == (41.5, -87.5, 300)


@pytest.mark.parametrize("interval", ["0", "-1", "often"])
def test_an_interval_is_above_zero(parser: ArgumentParser, interval: str) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["--interval", interval])
