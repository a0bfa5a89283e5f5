"""The whole stack on a real ZooKeeper that freezes, loses its quorum and its memory; every update is accounted for."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from kazoo.client import KazooClient

from discovery.zookeeper_discovery import open_zookeeper
from nearby.ports import Role
from nearby.settings import Secret
from tests.support.eventually import eventually
from tests.support.stack import Stack, running_stack
from tests.support.steady import SETTINGS, SteadyCrowd, steady_crowd
from tests.support.zookeeper import ZooKeeperEnsemble, ZooKeeperServer

SESSION_S = 4
ENVIRON = {**SETTINGS, "NEARBY_ZOOKEEPER_SESSION_S": str(SESSION_S)}
ARGUMENTS = ("--api-port", "0", "--gateway-ports", "0,0", "--shards", "2", "--ephemeral")
REGISTERED_WITHIN_S = 5
USERS, FRIENDS, REPORTS_PER_S = 60, 10, 40


@asynccontextmanager
async def crowd_on(stack: Stack) -> AsyncIterator[SteadyCrowd]:
    """A crowd that reports until the end of the context, by when every update must have arrived."""
    async with steady_crowd(stack, USERS, FRIENDS) as crowd:
        reports = asyncio.ensure_future(crowd.report(REPORTS_PER_S))
        try:
            yield crowd
        finally:
            reports.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reports
        await eventually(lambda: crowd.lost() == [], within_s=3)


def zookeeper_arguments(address: str) -> tuple[str, ...]:
    return (*ARGUMENTS, "--zookeeper", address)


def root_of(stack: Stack, address: str) -> str:
    """Return the node under which the stack keeps everything."""
    client = KazooClient(address)
    client.start(timeout=10)
    try:
        (root,) = [name for name in client.get_children("/") if name != "zookeeper"]
        return f"/{root}"
    finally:
        client.stop()
        client.close()


async def registered(address: str, root: str) -> set[str]:
    """Return the ids of the live gateways and API processes."""
    found: set[str] = set()
    async with open_zookeeper(address, root, None, None, 10.0) as discovery:
        for role in (Role.GATEWAY, Role.API):
            async for members in discovery.watch_members(role):
                found |= set(members)
                break
    return found


async def refused_rings(stack: Stack) -> list[float]:
    """Return how many rings each gateway has refused."""
    async with httpx.AsyncClient(trust_env=False) as http:
        texts = [(await http.get(f"{gateway.admin_url}/metrics")).text for gateway in stack.gateways]
    return [
        float(line.split()[1])
        for text in texts
        for line in text.splitlines()
        if line.startswith("nearby_gateway_rings_refused_total ")
    ]


@pytest.mark.serial
async def test_F12_a_frozen_zookeeper_stops_no_traffic_and_members_are_back_five_seconds_after_it_thaws(
    tmp_path: Path, zookeeper_server: ZooKeeperServer
) -> None:
    address = zookeeper_server.address
    async with running_stack(tmp_path, ENVIRON, zookeeper_arguments(address)) as stack:
        root = await asyncio.to_thread(root_of, stack, address)
        everybody = await registered(address, root)
        assert len(everybody) == 3
        async with crowd_on(stack):
            zookeeper_server.freeze()
            await asyncio.sleep(2 * SESSION_S)  # longer than any session lasts
            zookeeper_server.thaw()

            async def all_back() -> bool:
                return await registered(address, root) == everybody

            await eventually(all_back, within_s=REGISTERED_WITHIN_S)


@pytest.mark.serial
async def test_F12_a_gateway_that_restarts_while_the_quorum_is_lost_begins_with_its_saved_ring(
    tmp_path: Path, zookeeper_ensemble: ZooKeeperEnsemble
) -> None:
    address = zookeeper_ensemble.address
    async with running_stack(tmp_path, ENVIRON, zookeeper_arguments(address)) as stack:
        root = await asyncio.to_thread(root_of, stack, address)
        everybody = await registered(address, root)
        async with crowd_on(stack) as crowd:
            cut_off = zookeeper_ensemble.servers[:2]
            for server in cut_off:
                server.kill()
            old = stack.kill("gw-1")
            await stack.restarted("gw-1", old)
            await eventually(lambda: all(client.connected for client in crowd.clients.values()), within_s=35)
            since_s = asyncio.get_running_loop().time()
            await asyncio.sleep(3)
            assert crowd.lost(after_s=since_s + 1, before_s=since_s + 2) == [], "updates through the restarted gateway"
            for server in cut_off:
                server.start(wait=False)
            for server in cut_off:
                await asyncio.to_thread(server.wait_until_serving)

            async def all_back() -> bool:
                return await registered(address, root) == everybody

            await eventually(all_back, within_s=REGISTERED_WITHIN_S)
            crowd.forget()  # what was sent while the gateway was down is in the snapshots that followed


@pytest.mark.parametrize("content", [b"", b"garbage", b'{"epoch":0,"nodes":{"shard-1":"unix:///old"}}'])
async def test_F13_a_ring_node_that_is_emptied_garbled_or_rolled_back_is_refused_and_changes_nothing(
    tmp_path: Path, zookeeper_server: ZooKeeperServer, content: bytes
) -> None:
    address = zookeeper_server.address
    async with running_stack(tmp_path, ENVIRON, zookeeper_arguments(address)) as stack:
        root = await asyncio.to_thread(root_of, stack, address)
        async with crowd_on(stack):
            before = await refused_rings(stack)
            await asyncio.to_thread(meddle, address, root, ring_auth_of(stack), content)

            async def refused() -> bool:
                return all(now > then for now, then in zip(await refused_rings(stack), before, strict=True))

            await eventually(refused, within_s=10)
            await asyncio.sleep(1)  # traffic on the ring of before


def ring_auth_of(stack: Stack) -> Secret:
    secrets = json.loads((stack.data_dir / "secrets.json").read_text())
    return Secret(secrets["NEARBY_ZOOKEEPER_RING_AUTH"])


def meddle(address: str, root: str, auth: Secret, content: bytes) -> None:
    """Overwrite the ring as somebody with the keeper's credentials and clumsy hands would."""
    client = KazooClient(address, auth_data=[("digest", auth.value)])
    client.start(timeout=10)
    try:
        client.set(f"{root}/ring", content)
    finally:
        client.stop()
        client.close()
