"""docs/runbooks/drain-a-gateway.md, followed."""

from __future__ import annotations

import signal
from pathlib import Path

from nearby_client import NearbyApi
from tests.support.eventually import eventually
from tests.support.light_clients import light_crowd
from tests.support.runbook import following
from tests.support.seeding import seed
from tests.support.stack import running_stack

THREE = ("--api-port", "0", "--gateway-ports", "0,0,0", "--shards", "2", "--ephemeral")
NOTICE_S = "5"
"""Long enough to change one's mind by another command."""


async def test_nobody_is_cut_off_by_a_drain_that_can_be_called_off_and_a_hanging_gateway_can_be_killed(
    tmp_path: Path,
) -> None:
    async with (
        running_stack(tmp_path, {"NEARBY_DRAIN_NOTICE_S": NOTICE_S}, THREE) as stack,
        NearbyApi(stack.api_url) as api,
        following("drain-a-gateway.md", stack) as reader,
    ):
        first = stack.gateways[0]
        tokens = seed(stack.data_dir, 20, 4)
        async with light_crowd(tokens, first.ws_url, api.gateway) as crowd:
            await reader.follow("")
            await reader.follow("Check")
            await reader.type("nearby drain gw-1 --detach --reason 'a mistake'")
            await reader.follow("Roll back")
            assert all(client.is_open for client in crowd.everybody)

            await reader.follow("Act")
            await eventually(crowd.everybody_is_back, within_s=10)
            assert {client.gateways[-1] for client in crowd.everybody} == {"gw-2", "gw-3"}
            assert all(1006 not in client.closes for client in crowd.everybody)
            await reader.follow("Verify")

            hanging = stack.kill("gw-2", signal.SIGSTOP)
            reader.values["GATEWAY"] = "gw-2"
            await reader.follow("")
            await reader.follow("It does not end")
            await stack.restarted("gw-2", hanging)
            await eventually(crowd.everybody_is_back, within_s=20)
