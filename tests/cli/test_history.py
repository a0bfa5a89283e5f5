"""``nearby history`` against a real history writer."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from location_history.stream import open_stream
from nearby.model import HistoryPoint, Location, UserId
from tests.location_history.test_process import TOKEN, Place, process
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

ALICE, BOB = (UserId(f"00000000-0000-4000-8000-00000000000{digit}") for digit in "ab")
DAY_MS = 86_400_000
NOON_MS = time.time_ns() // 1_000_000 // DAY_MS * DAY_MS - DAY_MS // 2
LAT, LON = 41.8781136, -87.6297982


async def nearby(*arguments: str, **environ: str) -> tuple[int | None, str, str]:
    """Run ``nearby history`` to its end; return its exit status and what it wrote."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NEARBY_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "history", *arguments),
        env={**clean, "COLUMNS": "160", **environ},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def points(user_id: UserId, count: int, day: int) -> list[HistoryPoint]:
    first_ms = NOON_MS - day * DAY_MS
    return [HistoryPoint(user_id, Location(LAT, LON, first_ms + number)) for number in range(count)]


def day(ago: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime((NOON_MS - ago * DAY_MS) / 1000))


@pytest.fixture
async def data_dir(valkey: ValkeyServer, tmp_path: Path) -> AsyncIterator[str]:
    """Where the ``stack.json`` of a writer is that has stored seven points."""
    place = Place(valkey, tmp_path)
    async with process(place.environ), open_stream(valkey.url, 100_000) as stream:
        member = await place.member()
        assert member is not None
        document = {"history_writer": {"admin_url": member.admin_url}, "admin_token": TOKEN}
        (tmp_path / "stack.json").write_text(json.dumps(document))
        await stream.append_many([*points(ALICE, 3, 0), *points(ALICE, 2, 5), *points(BOB, 2, 0)])

        async def stored() -> bool:
            return await asyncio.to_thread(valkey.command, "XLEN", "history:0") == b":0\r\n"

        await eventually(stored, within_s=20)
        yield str(tmp_path)


async def test_lag_tells_what_waits_and_what_each_writer_does(data_dir: str) -> None:
    async def told() -> bool:
        # A writer looks at the streams every five seconds.
        status, out, err = await nearby("lag", "--data-dir", data_dir, "--json")
        assert (status, err) == (0, "")
        found = json.loads(out)
        [writer] = found["writers"]
        assert writer["streams_count"] == 1
        return bool((found["waiting_count"], found["lost_count"], found["written_count"]) == (0, 0, 7))

    await eventually(told, within_s=40)
    status, out, _ = await nearby("lag", "--data-dir", data_dir)
    assert status == 0
    assert "storing" in out
    assert "0 points wait, the oldest for 0.0 s; 0 were lost" in out


async def test_tail_prints_a_line_for_each_interval(data_dir: str) -> None:
    status, out, err = await nearby("tail", "--data-dir", data_dir, "--interval", "0.2", "--lines", "3")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert re.fullmatch(r"\d\d:\d\d:\d\d  \d+ stored/s, \d+ wait, oldest [\d.]+ s, 0 lost", line)
    status, out, _ = await nearby("tail", "--data-dir", data_dir, "--interval", "0.2", "--lines", "1", "--json")
    assert status == 0
    assert json.loads(out)["written_count"] == 7


async def test_count_tells_the_points_of_a_user_by_day_and_never_where_they_are(data_dir: str) -> None:
    status, out, err = await nearby("count", ALICE, "--data-dir", data_dir, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == {"user_id": ALICE, "total": 5, "days": {day(5): 2, day(0): 3}}
    status, out, _ = await nearby("count", ALICE, "--data-dir", data_dir, "--from", day(5), "--to", day(1))
    assert status == 0
    assert "2 points" in out
    assert "41.87" not in out
    status, out, _ = await nearby("count", str(UserId(ALICE[:-1] + "c")), "--data-dir", data_dir, "--json")
    assert (status, json.loads(out)["total"]) == (0, 0)


async def test_what_is_wrong_is_told_in_one_line(data_dir: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    url = json.loads((Path(data_dir) / "stack.json").read_text())["history_writer"]["admin_url"]
    nowhere = str(tmp_path_factory.mktemp("nowhere"))
    commands = [
        (
            (2, f"error: no stack is ready in {nowhere}; name --data-dir or --writer\n"),
            ("lag", "--data-dir", nowhere),
            {},
        ),
        (
            (2, "error: NEARBY_ADMIN_TOKEN is not set; with --writer it must be\n"),
            ("count", ALICE, "--writer", url),
            {},
        ),
        (
            (2, f"error: the token is not that of {url}\n"),
            ("count", ALICE, "--writer", url),
            {"NEARBY_ADMIN_TOKEN": "somebody's token"},
        ),
        (
            (2, "error: a user is a UUID, and a day looks like 2026-01-31\n"),
            ("count", "alice", "--data-dir", data_dir),
            {},
        ),
        (
            (1, "error: no history writer answers at http://127.0.0.1:1 (ConnectError)\n"),
            ("tail", "--writer", "http://127.0.0.1:1"),
            {},
        ),
    ]
    for expected, arguments, environ in commands:
        status, out, err = await nearby(*arguments, **environ)
        assert (status, err) == expected
        assert out == ""


async def test_migrate_tells_what_it_did(tmp_path: Path) -> None:
    status, out, err = await nearby("migrate", NEARBY_HISTORY_URL=f"sqlite:///{tmp_path}/history.sqlite")
    assert (status, out, err) == (0, "nothing to do: SQLite is upgraded when it is opened\n", "")
    status, out, err = await nearby("migrate", NEARBY_HISTORY_URL="cassandra://127.0.0.1:1/nearby")
    assert (status, out) == (2, "")
    assert err.startswith("error: history is unavailable: ")
    assert err.count("\n") == 1
    status, _, err = await nearby("migrate")
    assert (status, err.startswith("error: NEARBY_HISTORY_URL is not set; allowed: ")) == (2, True)


async def test_help_says_what_the_words_mean() -> None:
    status, out, _ = await nearby("--help")
    assert status == 0
    for word in ("lag", "tail", "count", "migrate", "Examples:"):
        assert word in out
