"""docs/runbooks/reconnect-storm.md, followed after one of two gateways died with everybody on it."""

from __future__ import annotations

from pathlib import Path

from tests.support.eventually import eventually
from tests.support.light_clients import fixed, light_crowd
from tests.support.runbook import Reader, following
from tests.support.seeding import seed
from tests.support.stack import running_stack

CLIENTS, RATE = 60, 10
LIMITS = {"NEARBY_CONNECT_RATE": str(RATE), "NEARBY_CONNECT_BURST": str(RATE)}


async def test_a_storm_is_seen_and_waited_for_and_everybody_is_back_in_the_time_that_the_runbook_says(
    tmp_path: Path,
) -> None:
    async with (
        running_stack(tmp_path, {**LIMITS, "NEARBY_MESSAGE_RATE": "0"}) as stack,
        following("reconnect-storm.md", stack) as reader,
    ):
        first, second = stack.gateways
        async with light_crowd(seed(stack.data_dir, CLIENTS, 4), first.ws_url, fixed(second.ws_url)) as crowd:
            before = stack.kill("gw-1")
            await stack.restarted("gw-1", before)
            await eventually(lambda: sees_the_limiter_at_work(reader), within_s=20)
            await reader.follow("Act")
            await eventually(crowd.everybody_is_back, within_s=CLIENTS / RATE + 30)
            said = await reader.follow("Verify")
            assert f" {CLIENTS} " in said, said


async def sees_the_limiter_at_work(reader: Reader) -> bool:
    return 'reason="gateway_rate"' in await reader.follow("Check")
