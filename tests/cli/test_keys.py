"""``nearby keys``: each step of a rotation, and what is refused because it would log people out."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import main
from cli.keys.rotation import RotationRefused, added, kids, removed, signing
from nearby.settings import parse_keys

ONE, TWO = (f"k{number}={base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2))
NEW = base64.b64encode(b"3" * 32).decode()


def test_a_new_key_verifies_then_signs_and_then_the_old_one_goes() -> None:
    value = added(ONE, "k3", NEW)
    assert kids(value) == ["k1", "k3"]
    value = signing(value, "k3")
    assert kids(value) == ["k3", "k1"]
    assert parse_keys(value).keys["k3"] == b"3" * 32
    assert removed(value, "k1") == f"k3={NEW}"


@pytest.mark.parametrize("kid", ["k1", "", "a=b", "a,b", "a b", "é"])
def test_a_name_that_is_taken_or_would_break_the_value_is_refused(kid: str) -> None:
    with pytest.raises(RotationRefused):
        added(ONE, kid, NEW)


def test_the_key_that_signs_is_not_removed_and_one_that_is_not_there_does_nothing() -> None:
    with pytest.raises(RotationRefused, match="k1 signs"):
        removed(f"{ONE},{TWO}", "k1")
    for step in (signing, removed):
        with pytest.raises(RotationRefused, match="no key k9"):
            step(f"{ONE},{TWO}", "k9")


def test_a_value_that_no_process_would_take_is_refused_without_being_shown() -> None:
    with pytest.raises(RotationRefused) as refusal:
        kids("k1=c2hvcnQ=")
    assert "c2hvcnQ" not in str(refusal.value)


def test_the_secrets_of_a_stack_are_changed_in_place_and_no_key_is_shown(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({"NEARBY_TOKEN_KEYS": ONE, "NEARBY_ADMIN_TOKEN": "kept"}))
    at = ["--data-dir", str(tmp_path)]
    shown = []
    for words in (["list"], ["add", "k2"], ["sign-with", "k2"], ["remove", "k1"], ["list"]):
        result = CliRunner().invoke(main, ["keys", *words, *at])
        assert result.exit_code == 0, result.output
        shown.append(result.output)
    kept = json.loads(secrets.read_text())
    assert shown[-1] == "k2  signs and verifies\n"
    assert kids(kept["NEARBY_TOKEN_KEYS"]) == ["k2"]
    assert kept["NEARBY_ADMIN_TOKEN"] == "kept"
    assert secrets.stat().st_mode & 0o777 == 0o600
    assert not any(kept["NEARBY_TOKEN_KEYS"].partition("=")[2] in text for text in shown)


def test_a_value_from_elsewhere_goes_in_and_comes_out() -> None:
    result = CliRunner().invoke(main, ["keys", "sign-with", "k2", "--stdin"], input=f"{ONE},{TWO}\n")
    assert (result.exit_code, result.output) == (0, f"{TWO},{ONE}\n")


def test_where_there_are_no_keys_one_line_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["keys", "list", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith("error: there are no keys in")
