"""What an idle connection with forty friends costs the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import websockets

from nearby.model import UserId
from tests.support.eventually import eventually
from tests.support.seeding import seed
from tests.support.stack import Gateway, running_stack

pytestmark = pytest.mark.serial

USERS, FRIENDS = 5_000, 40
LIMIT_BYTES = 20 * 1024
AT_ONCE = 50


def resident_bytes(gateway: Gateway) -> int:
    for line in Path(f"/proc/{gateway.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such process")


@asynccontextmanager
async def connected(gateway: Gateway, tokens: dict[UserId, str]) -> AsyncIterator[None]:
    """Connect every user, report a location each and wait for the snapshot."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def connect(token: str) -> websockets.ClientConnection:
        async with turn:
            socket = await websockets.connect(
                gateway.ws_url,
                additional_headers={"Authorization": f"Bearer {token}"},
                subprotocols=[websockets.Subprotocol("nearby.v1.json")],
                compression=None,
                ping_interval=None,
                proxy=None,
            )
            await socket.send('{"type":"location","lat":41.88,"lon":-87.63}')
            while json.loads(await socket.recv())["type"] != "snapshot":
                pass
            return socket

    async with AsyncExitStack() as sockets:
        for socket in await asyncio.gather(*(connect(token) for token in tokens.values())):
            sockets.push_async_callback(socket.close)
        yield


async def test_five_thousand_idle_connections_with_forty_friends_cost_at_most_20_kb_each(tmp_path: Path) -> None:
    arguments = ("--api-port", "0", "--gateway-ports", "0", "--shards", "2", "--ephemeral")
    async with running_stack(tmp_path, {"NEARBY_CONNECT_RATE": "0"}, arguments) as stack:
        (gateway,) = stack.gateways
        async with connected(gateway, seed(stack.data_dir, 100, FRIENDS)):
            pass  # so that what is imported and allocated once is there before the first measurement
        before = resident_bytes(gateway)
        async with connected(gateway, seed(stack.data_dir, USERS, FRIENDS)):
            each = (resident_bytes(gateway) - before) / USERS
            print(f"{each / 1024:.1f} KB per connection")  # noqa: T201 - shown with -s or on failure
            assert each <= LIMIT_BYTES, f"{each / 1024:.1f} KB per connection"
        await eventually(lambda: resident_bytes(gateway) - before < USERS * LIMIT_BYTES, within_s=10)
