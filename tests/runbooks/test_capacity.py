"""docs/runbooks/capacity.md, followed on a stack with people on it."""

from __future__ import annotations

from pathlib import Path

from tests.support.runbook import following
from tests.support.stack import running_stack
from tests.support.steady import SETTINGS, steady_crowd


async def test_every_process_has_its_numbers_beside_the_limits_of_the_page(tmp_path: Path) -> None:
    async with (
        running_stack(tmp_path, SETTINGS) as stack,
        steady_crowd(stack, 12, 4) as crowd,
        following("capacity.md", stack) as reader,
        crowd.reporting(20),
    ):
        said = await reader.follow("Check")
        assert "gw-1: 6 connections" in said
        assert "gw-2: 6 connections" in said
        assert all(str(pid) in said for name, pid in stack.pids.items() if not name.startswith(("spare", "keeper")))
        await reader.follow("Act")
        await reader.follow("Verify")
