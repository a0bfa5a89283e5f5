from __future__ import annotations

import subprocess
import sys

import pytest

from loadtest.dense.places import LOOPBACK_SOURCES, Sources


def open_files(soft: int, hard: int, wanted: int) -> str:
    """Return the soft limit, or what was said, of a process with these limits that wants to open so many files."""
    program = (
        "import resource\n"
        "from loadtest.dense.places import TooFewFiles, allow_files\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        f"try: allow_files({wanted})\n"
        "except TooFewFiles as error: print(error)\n"
        "else: print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout.strip()


@pytest.mark.parametrize(("wanted", "then"), [(99, "100"), (100, "100"), (101, "101"), (200, "200")])
def test_the_limit_of_open_files_is_raised_where_it_may_be(wanted: int, then: str) -> None:
    assert open_files(100, 200, wanted) == then


def test_a_limit_that_only_root_may_raise_is_told_with_what_to_do() -> None:
    said = open_files(100, 200, 201)
    assert "201 files must be open in one process, and 200 may be" in said
    assert "`ulimit -n 201`" in said


def test_addresses_that_are_named_take_turns() -> None:
    sources = Sources("192.0.2.1, 192.0.2.2")
    assert [sources.towards("wss://example.org/v1/ws") for _ in range(3)] == ["192.0.2.1", "192.0.2.2", "192.0.2.1"]


def test_a_machine_that_loads_itself_does_so_from_many_addresses() -> None:
    sources = Sources("")
    assert {sources.towards("ws://127.0.0.1:8081/v1/ws") for _ in range(100)} == set(LOOPBACK_SOURCES)


@pytest.mark.parametrize("host", ["example.org", "192.0.2.7", "[::1]"])
def test_elsewhere_the_system_chooses_the_address(host: str) -> None:
    assert Sources("").towards(f"ws://{host}:8081/v1/ws") is None
