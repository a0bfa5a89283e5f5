"""Keys and tokens of a stack."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from cli.up.errors import StartError
from cli.up.plan import RING_AUTH, SECRET_VARIABLES
from cli.up.secrets_file import load_secrets


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    first = load_secrets(tmp_path / "secrets.json", {})
    assert set(first) == SECRET_VARIABLES
    assert load_secrets(tmp_path / "secrets.json", {}) == first
    assert load_secrets(tmp_path / "other.json", {}) != first


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    load_secrets(tmp_path / "secrets.json", {})
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


def test_a_file_made_before_the_ring_had_credentials_is_completed(tmp_path: Path) -> None:
    first = load_secrets(tmp_path / "secrets.json", {})
    older = {name: value for name, value in first.items() if name != RING_AUTH}
    (tmp_path / "secrets.json").write_text(json.dumps(older))
    completed = load_secrets(tmp_path / "secrets.json", {})
    assert older.items() < completed.items()
    assert completed[RING_AUTH].startswith("keeper:")
    assert load_secrets(tmp_path / "secrets.json", {}) == completed


def test_a_secret_of_the_caller_goes_before_the_kept_one(tmp_path: Path) -> None:
    kept = load_secrets(tmp_path / "secrets.json", {})
    used = load_secrets(tmp_path / "secrets.json", {"NEARBY_ADMIN_TOKEN": "chosen by the caller"})
    assert used == kept | {"NEARBY_ADMIN_TOKEN": "chosen by the caller"}


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"NEARBY_ADMIN_TOKEN": "alone"}', "\0"])
def test_a_damaged_file_is_told_by_its_name(tmp_path: Path, damage: str) -> None:
    (tmp_path / "secrets.json").write_text(damage)
    with pytest.raises(StartError, match=r"secrets\.json is damaged"):
        load_secrets(tmp_path / "secrets.json", {})
