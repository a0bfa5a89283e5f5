"""``nearby simulate`` against a whole stack: a crowd that must see all it should, and recorded walkers replayed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.serial

TRACKS = Path(__file__).parents[3] / "shared" / "data" / "beijing_day.csv"
P99_LIMIT_MS = 250


async def simulate(stack: Stack, *arguments: str) -> Any:
    """Return the summary of a run; its exit status must be 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "simulate", "--data-dir", str(stack.data_dir), "--json", "--quiet", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(300):
        out, errors = await process.communicate()
    assert process.returncode == 0, f"{out.decode()}\n{errors.decode()}"
    return json.loads(out)


async def test_a_crowd_sees_all_it_should_and_soon(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        crowd = ("--users", "80", "--friends", "14", "--interval", "1", "--seconds", "10")
        summary = await simulate(stack, *crowd)
    assert summary["connected"] == summary["people"] == 80
    assert summary["errors"] == summary["violations"] == {}
    assert summary["wrong_distances"] == 0
    assert summary["deliveries"] > 5_000
    assert summary["latency_ms"]["p99"] <= P99_LIMIT_MS


async def test_replayed_walkers_enter_and_leave_in_the_order_that_brute_force_gives(tmp_path: Path) -> None:
    if not TRACKS.exists():
        pytest.skip(f"the recorded tracks are not here: {TRACKS.name} is for research use and not in the repository")
    environ = {"NEARBY_MAX_SPEED_MPS": "0", "NEARBY_MESSAGE_RATE": "0"}
    async with running_stack(tmp_path, environ) as stack:
        replay = ("--tracks", str(TRACKS), "--friends", "10", "--speedup", "1000", "--hours", "9-11")
        summary = await simulate(stack, *replay)
    assert summary["wrong_distances"] == 0
    assert summary["replay"]["mismatches"] == summary["replay"]["unconfirmed"] == 0
    assert summary["replay"]["transitions"] > 50
