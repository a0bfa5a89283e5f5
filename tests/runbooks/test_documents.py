"""What holds for every page of docs/runbooks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.runbook import FOLDER, blocks_of, missing_lines

ROOT = FOLDER.parents[1]
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "README.md")
BEGINNINGS = ("Check", "Act", "Verify", "Roll back", "Escalate", "In a cluster")
MAX_LINES = 110
"""Longer ones are not followed at three in the morning."""


@pytest.fixture(params=PAGES, ids=lambda page: page.stem)
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_a_page_says_when_and_what_users_notice_and_has_its_parts_in_order(page: Path) -> None:
    text = page.read_text()
    assert text.splitlines()[2].startswith("**When**")
    assert "**Users**" in text.split("## ")[0]
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    first = [next(number for number, each in enumerate(headings) if each.startswith(word)) for word in BEGINNINGS]
    assert first == sorted(first)
    assert len(text.splitlines()) <= MAX_LINES


def test_every_block_is_typed_here_or_said_to_be_for_a_cluster_and_is_a_good_script(page: Path) -> None:
    for block in blocks_of(page.read_text()):
        assert block.kind in ("sh", "sh cluster"), f"{block.kind}: {block.code}"
        checked = subprocess.run(["bash", "-n", "-c", block.code], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert (block.section == "In a cluster") == (block.kind == "sh cluster")


def test_some_test_follows_the_page(page: Path) -> None:
    tests = [path for folder in ("runbooks", "faults") for path in (ROOT / "tests" / folder).glob("test_*.py")]
    assert any(f'following("{page.name}"' in path.read_text() for path in tests)


def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_index_names_every_page() -> None:
    index = (FOLDER / "README.md").read_text()
    assert set(re.findall(r"\]\(([a-z-]+\.md)\)", index)) == {page.name for page in PAGES}


def test_a_text_is_what_the_command_before_it_prints() -> None:
    first, second = blocks_of("# Page\n## Check\n```sh\necho a\n```\n```text\na\n```\n## Act\n```sh cluster\nb\n```\n")
    assert (first.section, first.kind, first.code, first.expected) == ("Check", "sh", "echo a\n", "a\n")
    assert (second.section, second.kind, second.expected) == ("Act", "sh cluster", "")


def test_expected_lines_come_in_their_order_with_anything_between_and_for_the_ellipsis() -> None:
    printed = "gw-1   serving   12\nnoise\ngw-2  draining\n"
    assert missing_lines("gw-1 … 12\ngw-2 draining\n", printed) == []
    assert missing_lines("gw-2 draining\ngw-1 serving\n", printed) == ["gw-1 serving"]
    assert missing_lines("gw-3 …\n", printed) == ["gw-3 …"]
