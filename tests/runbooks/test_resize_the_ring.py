"""docs/runbooks/resize-the-ring.md, followed under load."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.gauges import metrics
from tests.support.runbook import following
from tests.support.stack import Stack, running_stack
from tests.support.steady import SETTINGS, steady_crowd
from tests.support.valkey import ValkeyServer

USERS, FRIENDS, REPORTS_PER_S = 40, 10, 40


async def test_a_shard_comes_and_goes_without_a_lost_update_and_a_ruined_ring_is_written_again(
    tmp_path: Path, valkey_servers: Callable[..., ValkeyServer]
) -> None:
    server = valkey_servers()
    async with (
        running_stack(tmp_path, SETTINGS) as stack,
        following("resize-the-ring.md", stack, SERVER=server.url) as reader,
    ):
        await reader.follow("")
        async with steady_crowd(stack, USERS, FRIENDS) as crowd:
            async with crowd.reporting(REPORTS_PER_S):
                for section in ("Check", "Act", "Verify", "Roll back"):
                    await reader.follow(section)
            await eventually(lambda: crowd.lost() == [], within_s=5)

            ring = stack.data_dir / "discovery" / "ring.json"
            good = ring.read_bytes()
            ring.write_bytes(b"garbage")
            await eventually(lambda: refused(stack), within_s=5)
            async with crowd.reporting(REPORTS_PER_S):
                await reader.follow("A ring was refused")
            await eventually(lambda: crowd.lost() == [], within_s=5)
            assert ring.read_bytes() == good

        stack.kill("gw-2", signal.SIGSTOP)
        try:
            await reader.type(f"nearby ring resize --detach --add {server.url} --reason 'more users'")
            await reader.follow("It does not end")
        finally:
            stack.kill("gw-2", signal.SIGCONT)


async def refused(stack: Stack) -> bool:
    return all([(await metrics(gateway))["rings_refused_total"] > 0 for gateway in stack.gateways])
