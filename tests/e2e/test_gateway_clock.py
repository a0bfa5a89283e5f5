"""F19: a gateway whose clock is five minutes ahead, run as a real process on a shifted clock."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.test_clocks_and_stalls import Listener, listening
from tests.support.eventually import eventually
from tests.support.gauges import metrics
from tests.support.loopback import own_host, own_port
from tests.support.seeding import seed
from tests.support.stack import Gateway, Stack, running_stack
from tests.support.valkey import _DIE_WITH_PARENT

AHEAD_S = 300
SLACK_MS = 20_000
"""Generous: what matters is that it is far from five minutes."""

_ON_A_SHIFTED_CLOCK = f"""
import runpy, time
true_ns = time.time_ns
time.time_ns = lambda: true_ns() + {AHEAD_S} * 10**9
time.time = lambda: time.time_ns() / 1e9
runpy.run_module("ws_gateway", run_name="__main__", alter_sys=True)
"""


@asynccontextmanager
async def gateway_ahead(stack: Stack, directory: Path) -> AsyncIterator[Gateway]:
    """Run one more gateway of ``stack`` whose clock is ahead."""
    lines = Path(f"/proc/{stack.gateways[0].pid}/environ").read_text().split("\0")
    admin_port = str(own_port())
    environ = dict(line.split("=", 1) for line in lines if line) | {
        "NEARBY_GATEWAY_ID": "gw-ahead",
        "NEARBY_HOST": own_host(),
        "NEARBY_PORT": str(own_port()),
        "NEARBY_ADMIN_PORT": admin_port,
    }
    log = directory / "gw-ahead.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, sys.executable, "-P", "-c", _ON_A_SHIFTED_CLOCK),
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        await eventually(lambda: " serves ws://" in log.read_text(), within_s=30)
        found = re.search(r"serves (ws://\S+)", log.read_text())
        assert found is not None
        yield Gateway("gw-ahead", found[1], f"http://{own_host()}:{admin_port}", process.pid)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def is_shown(viewer: Listener, lat: float) -> None:
    """Wait until the viewer's last entry is at ``lat``, and see that it is dated as of now."""
    await eventually(lambda: viewer.entries()[-1][1]["lat"] == lat, within_s=10)
    assert abs(viewer.entries()[-1][1]["updated_at_ms"] - now_ms()) < SLACK_MS


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads the settings of a process from /proc")
async def test_F19_I3_who_leaves_a_gateway_that_is_five_minutes_ahead_goes_on_moving_on_the_maps_of_friends(
    tmp_path: Path,
) -> None:
    async with running_stack(tmp_path) as stack, gateway_ahead(stack, tmp_path) as ahead:
        here = stack.gateways[0]
        anna, ben, _ = seed(stack.data_dir, 3, 2).values()
        async with listening(here, anna) as viewer:
            await viewer.report()
            async with listening(ahead, ben) as walker:
                await walker.report(lat=41.881)
                await eventually(viewer.entries, within_s=10)
                await is_shown(viewer, 41.881)
            async with listening(here, ben) as walker:
                await walker.report(lat=41.882)
                await is_shown(viewer, 41.882)
            async with listening(ahead, ben) as walker:
                # A phone whose own clock is right is not taken for one that lives in the past.
                await walker.report(lat=41.883, recorded_at_ms=now_ms(), sent_at_ms=now_ms())
                await is_shown(viewer, 41.883)
            times = [entry["updated_at_ms"] for _, entry in viewer.entries()]
            assert times == sorted(times)
        assert abs((await metrics(ahead))["clock_offset_seconds"] + AHEAD_S) < SLACK_MS / 1000
        assert abs((await metrics(here))["clock_offset_seconds"]) < SLACK_MS / 1000
