"""How long, and where the gateways are: what `nearby drain` reads before it asks anybody."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from cli.drain.command import parse_duration_s
from cli.gateways.find import GatewaysNotFound, find_gateways


@pytest.mark.parametrize(
    ("text", "seconds"), [("120s", 120), ("2m", 120), ("90", 90), ("1h", 3_600), ("1.5m", 90), ("24h", 86_400)]
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "2d", "25h", "s", "1 s", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_duration_s(text)


def test_a_broken_stack_file_is_no_stack(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"gateways": [{}], "admin_token": "x"}'):
        (tmp_path / "stack.json").write_text(text)
        with pytest.raises(GatewaysNotFound):
            find_gateways(tmp_path, [], {})
