from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.simulate.command import simulate

runner = CliRunner()
app = typer.Typer()
app.command()(simulate)


def test_an_api_that_is_not_there_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.simulate.people.ATTEMPTS", 1)
    result = runner.invoke(app, ["--api", "http://127.0.0.1:1", "--users", "2"])
    assert result.exit_code == 1
    assert "error: the API did not do it" in result.output


@pytest.mark.parametrize(
    "options",
    [
        ["--users", "1"],
        ["--center", "Chicago"],
        ["--center", "1,2,3"],
        ["--tracks", "/nowhere.csv"],
        ["--data-dir", "/nowhere"],
    ],
)
def test_wrong_options_are_refused(options: list[str]) -> None:
    assert runner.invoke(app, options).exit_code == 2


def test_the_api_is_found_in_the_data_directory_of_a_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.simulate.people.ATTEMPTS", 1)
    (tmp_path / "stack.json").write_text(json.dumps({"api_url": "http://127.0.0.1:1"}))
    result = runner.invoke(app, ["--data-dir", str(tmp_path), "--users", "2"])
    assert result.exit_code == 1
    assert "/v1/users" in result.output
