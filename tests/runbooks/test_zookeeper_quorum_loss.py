"""docs/runbooks/zookeeper-quorum-loss.md, followed with a real ensemble of which two servers die."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.runbook import Reader, following
from tests.support.stack import ANY_PORTS, running_stack
from tests.support.steady import SETTINGS, steady_crowd
from tests.support.zookeeper import ZooKeeperEnsemble

ENVIRON = {**SETTINGS, "NEARBY_ZOOKEEPER_SESSION_S": "4"}


async def test_traffic_goes_on_without_a_quorum_and_everything_is_as_before_once_it_is_back(
    tmp_path: Path, zookeeper_ensemble: ZooKeeperEnsemble
) -> None:
    address = zookeeper_ensemble.address
    async with (
        running_stack(tmp_path, ENVIRON, (*ANY_PORTS, "--zookeeper", address)) as stack,
        steady_crowd(stack, 20, 6) as crowd,
        following("zookeeper-quorum-loss.md", stack, SERVERS=address) as reader,
    ):
        await reader.follow("")
        assert "does not serve" not in await reader.follow("Check")
        cut_off = zookeeper_ensemble.servers[:2]
        async with crowd.reporting(20):
            for server in cut_off:
                server.kill()
            await eventually(lambda: says_that_nobody_serves(reader), within_s=30)
            for server in cut_off:
                server.start(wait=False)
            for server in cut_off:
                await asyncio.to_thread(server.wait_until_serving)
            await reader.follow_until_true("Verify", within_s=30)
        await eventually(lambda: crowd.lost() == [], within_s=5)


async def says_that_nobody_serves(reader: Reader) -> bool:
    """Whether neither the dead servers nor the one left alone serve, and so the keeper does not know the ring."""
    said = await reader.follow("Check")
    assert said.count("does not serve") == 3, said
    return "the keeper does not know the ring" in said
