"""``python -m ws_gateway`` as a process: when it is alive, when it is ready, and what it calls itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from discovery.connect import open_discovery
from nearby.ports import RingState, Role
from tests.support.eventually import eventually
from tests.support.loopback import own_host, own_port
from tests.ws_gateway.test_drain import ENVIRON

WITHIN_S = 20.0
DEAD = "redis://127.0.0.1:1"


@asynccontextmanager
async def gateway(directory: Path, **settings: str) -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
    """Start a gateway whose cache, stream and API are dead, and wait until its admin port answers."""
    port = str(own_port())
    environ = {
        **ENVIRON,
        "PATH": os.environ["PATH"],
        "NEARBY_DISCOVERY": f"file://{directory}/discovery",
        "NEARBY_HOST": own_host(),
        "NEARBY_ADMIN_PORT": port,
        "NEARBY_PORT": "0",
        **settings,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "ws_gateway", env=environ, stdin=DEVNULL)
    try:
        async with httpx.AsyncClient(base_url=f"http://{own_host()}:{port}", trust_env=False) as http:

            async def answers() -> bool:
                try:
                    return (await http.get("/healthz")).is_success
                except httpx.TransportError:
                    return False

            await eventually(answers, WITHIN_S)
            yield process, http
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_it_is_alive_without_a_ring_but_not_ready_and_ends_when_told_to(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (process, http):
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.text) == (503, "no pub/sub ring yet\n")
        assert "nearby_gateway_connections 0.0" in (await http.get("/metrics")).text
        drain = await http.post("/admin/v1/drain", headers={"Authorization": f"Bearer {'a' * 16}"})
        assert drain.status_code == 503
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WITHIN_S):
            assert await process.wait() == 0


async def test_it_is_ready_with_a_ring_although_every_backend_is_dead(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path) as (_, http),
        open_discovery(f"file://{tmp_path}/discovery") as discovery,
    ):
        await discovery.write_ring(RingState(1, {"shard-1": DEAD}), expected=None)

        async def ready() -> bool:
            return (await http.get("/readyz")).is_success

        await eventually(ready, WITHIN_S)
        assert (await http.get("/healthz")).is_success


async def test_it_announces_the_address_at_which_others_reach_it(tmp_path: Path) -> None:
    async with open_discovery(f"file://{tmp_path}/discovery") as discovery:
        await discovery.write_ring(RingState(1, {"shard-1": DEAD}), expected=None)
        settings = {"NEARBY_ADVERTISED_HOST": "10.1.2.3", "NEARBY_GATEWAY_ID": "pod-7"}
        async with gateway(tmp_path, **settings), asyncio.timeout(WITHIN_S):
            async for members in discovery.watch_members(Role.GATEWAY):
                if "pod-7" in members:
                    member = members["pod-7"]
                    break
    assert httpx.URL(member.url).host == httpx.URL(member.admin_url).host == "10.1.2.3"
    assert member.url.startswith("ws://10.1.2.3:")
    assert member.url.endswith("/v1/ws")
