"""``nearby capacity`` on the command line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cli.app import main


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["capacity", *arguments], catch_exceptions=False)
    return result.exit_code, result.output


def test_without_options_it_answers_for_the_reference_load() -> None:
    status, output = run()
    assert status == 0
    assert "100,000,000 users" in output
    for part in ("13,333,333/s", "gateway", "pub/sub shard", "Cassandra node", "fullest shard", "a month"):
        assert part in output


def test_as_json_it_tells_the_same() -> None:
    status, output = run("--users", "250k", "--friends", "20", "--interval", "10", "--radius", "5", "--json")
    assert status == 0
    answer = json.loads(output)
    assert answer["load"]["users"] == 250_000
    assert answer["traffic"]["reports"] == 2_500
    assert {role["name"] for role in answer["roles"]} >= {"gateway", "pub/sub shard", "location cache", "API"}
    assert answer["drivers"]["egress_bytes_per_month"] > 0


@pytest.mark.parametrize("text", ["2M", "2000000", "2_000_000", "2,000k"])
def test_numbers_of_users_are_taken_as_people_write_them(text: str) -> None:
    assert json.loads(run("--users", text, "--json")[1])["load"]["users"] == 2_000_000


@pytest.mark.parametrize(
    "arguments",
    [
        ("--users", "many"),
        ("--users", "nan"),
        ("--users", "1e400"),
        ("--friends", "9000"),
        ("--interval", "0"),
        ("--radius", "900"),
        ("--utilisation", "2"),
        ("--celebrities", "1"),
    ],
)
def test_nonsense_is_refused_in_a_line_that_says_what_is_allowed(arguments: tuple[str, str]) -> None:
    status, output = run(*arguments)
    assert status == 2
    assert output.startswith(f"error: {arguments[0]} is ")
    assert "allowed: " in output
    assert output.count("\n") == 1


def test_the_measured_constants_are_told_with_their_source() -> None:
    status, output = run("--constants", "--json")
    assert status == 0
    constants = json.loads(output)
    assert all(constant["source"] and constant["date"] for constant in constants.values())
    status, output = run("--constants")
    assert status == 0
    assert all(name in output for name in constants)
