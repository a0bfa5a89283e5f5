from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.person import read_people
from loadtest.seed import write_people
from nearby.model import UserId


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_each_person_of_a_file_is_in_one_part_of_it(tmp_path: Path, parts: int) -> None:
    file = tmp_path / "people.jsonl"
    write_people(file, {UserId(f"user-{number}"): f"token-{number}" for number in range(10)})
    shares = [read_people(file, part, parts) for part in range(parts)]
    assert [person.user_id for share in shares for person in share] == [f"user-{number}" for number in range(10)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert shares[0][0].token == "token-0"
