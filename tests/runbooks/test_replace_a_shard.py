"""docs/runbooks/replace-a-shard.md, followed where there is no spare."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.runbook import following
from tests.support.stack import ANY_PORTS, running_stack
from tests.support.steady import SETTINGS, steady_crowd
from tests.support.valkey import ValkeyServer


async def test_a_dead_shard_is_replaced_by_hand_and_everybody_sees_everybody_at_once_again(
    tmp_path: Path, valkey_servers: Callable[..., ValkeyServer]
) -> None:
    server, spare = valkey_servers(), valkey_servers()
    arguments = (*ANY_PORTS, "--spares", "0", "--no-restart-shards")
    async with (
        running_stack(tmp_path, SETTINGS, arguments) as stack,
        steady_crowd(stack, 40, 10) as crowd,
        following("replace-a-shard.md", stack, SERVER=server.url, SPARE=spare.url) as reader,
    ):
        await reader.follow("")
        stack.kill("shard-2")
        await reader.follow_until_true("Check", within_s=20)
        await reader.follow("Act")
        await reader.follow("Give a spare")
        await reader.follow_until_true("Verify", within_s=20)

        crowd.forget()
        async with crowd.reporting(40):
            await asyncio.sleep(1)
        await eventually(lambda: crowd.lost() == [], within_s=5)
        assert all(len(client.friends) == 10 for client in crowd.clients.values())
