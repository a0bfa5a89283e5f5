"""Nothing is left of connections that have gone (I6), and nothing private is in the logs (S11)."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import websockets

from nearby.codecs import JSON
from tests.support.eventually import eventually
from tests.support.gauges import descriptor_count, metrics, resident_bytes
from tests.support.seeding import seed
from tests.support.stack import Gateway, running_stack

pytestmark = pytest.mark.serial

CYCLES = int(os.environ.get("NEARBY_TEST_CYCLES", "4000"))
AT_ONCE = 25
STORES = 20
LEFT_BYTES = 12 << 20
LAT, LON = "41.8812345", "-87.6254321"
SETTINGS = {"NEARBY_CONNECT_RATE": "0", "NEARBY_MAX_SPEED_MPS": "0"}
ARGUMENTS = ("--api-port", "0", "--gateway-ports", "0", "--shards", "2", "--ephemeral")


async def cycle(gateway: Gateway, tokens: Sequence[str], count: int) -> None:
    """Connect and go ``count`` times: after a snapshot, without a word, or without a close frame."""
    todo = iter(range(count))

    async def one_after_another() -> None:
        for index in todo:
            async with websockets.connect(
                gateway.ws_url,
                additional_headers={"Authorization": f"Bearer {tokens[index % len(tokens)]}"},
                subprotocols=[websockets.Subprotocol(JSON.name)],
                compression=None,
                ping_interval=None,
                proxy=None,
            ) as socket:
                if index % 3 == 0:
                    await socket.send(f'{{"type":"location","lat":{LAT},"lon":{LON}}}')
                    while json.loads(await socket.recv())["type"] != "snapshot":
                        pass
                elif index % 3 == 1:
                    socket.transport.abort()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(one_after_another())


async def is_quiet(gateway: Gateway) -> bool:
    now = await metrics(gateway)
    return now["connections"] == now["channels"] == now["outbox_viewers"] == 0


def private_in(text: str, tokens: Sequence[str]) -> list[str]:
    """Return what of the test's coordinates and tokens, or of any token, stands in ``text``."""
    found = [private for private in (LAT, LON, *(token.rsplit(".", 1)[1] for token in tokens)) if private in text]
    return found + re.findall(r"eyJ[\w-]{10,}\.[\w-]{10,}\.", text)


async def test_I6_nothing_is_left_after_thousands_of_connections(tmp_path: Path) -> None:
    async with running_stack(tmp_path, SETTINGS, ARGUMENTS) as stack:
        (gateway,) = stack.gateways
        tokens = list(seed(stack.data_dir, 100, 10).values())
        await cycle(gateway, tokens, 1_000)
        await eventually(lambda: is_quiet(gateway), within_s=15)
        descriptors, before = descriptor_count(gateway), resident_bytes(gateway)
        await cycle(gateway, tokens, CYCLES)
        await eventually(lambda: is_quiet(gateway), within_s=15)
        left = resident_bytes(gateway) - before
        print(f"after {CYCLES} connections: {left / 2**20:+.1f} MB")  # noqa: T201 - shown with -s or on failure
        assert descriptor_count(gateway) <= descriptors + STORES
        assert left <= LEFT_BYTES


@pytest.mark.parametrize(("level", "processes"), [("info", None), ("debug", {"gw-1.log", "writer-1.log"})])
async def test_S11_no_token_and_no_place_is_in_a_log(tmp_path: Path, level: str, processes: set[str] | None) -> None:
    """Every process at the default level; of the gateway also all that it can be made to say."""
    async with running_stack(tmp_path, {**SETTINGS, "NEARBY_LOG_LEVEL": level}, ARGUMENTS) as stack:
        (gateway,) = stack.gateways
        tokens = list(seed(stack.data_dir, 20, 4).values())
        await cycle(gateway, tokens, 60)
        await eventually(lambda: is_quiet(gateway), within_s=15)
        logs = {path.name: path.read_text() for path in (stack.data_dir / "logs").iterdir()}
        scanned = {name: text for name, text in logs.items() if processes is None or name in processes}
        assert scanned["gw-1.log"]
        assert {name: private_in(text, tokens) for name, text in scanned.items()} == {name: [] for name in scanned}
