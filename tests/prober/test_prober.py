"""The prober on a real stack: what it measures, and what a frozen shard does to it."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from nearby.channels import location_channel
from nearby.model import UserId
from nearby.ring import Ring
from nearby_client import NearbyApi
from prober.app import PER_GATEWAY
from prober.friends import enrol
from prober.gateways import resolved
from tests.support.eventually import eventually
from tests.support.prober import PASSWORD, running_prober
from tests.support.stack import Stack, running_stack

ARGUMENTS = ("--api-port", "0", "--gateway-ports", "0,0", "--shards", "2", "--spares", "0", "--ephemeral")
WITHIN_S = 30.0
Samples = Counter[str]


async def samples(address: str) -> Samples:
    """Return the prober's samples by name and labels; nothing while it does not answer."""
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(f"http://{address}/metrics")).text
    except httpx.TransportError:
        return Counter()
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("nearby_prober_"))
    return Counter({name: float(value) for name, value in pairs})


def late(found: Samples, pairs: list[tuple[str, str]]) -> float:
    """Return how many locations took longer than 2 s to be seen."""
    total = 0.0
    for sender, viewer in pairs:
        labels = f'from="{sender}",to="{viewer}"'
        total += found[f"nearby_prober_seen_seconds_count{{{labels}}}"]
        total -= found[f'nearby_prober_seen_seconds_bucket{{from="{sender}",le="2.0",to="{viewer}"}}']
    return total


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    # Friends who are overdue are read from the cache after one and a half report intervals.
    async with running_stack(tmp_path, {"NEARBY_REPORT_INTERVAL_S": "4"}, ARGUMENTS) as running:
        yield running


async def test_each_pair_of_gateways_is_probed_and_a_frozen_shard_shows(stack: Stack, tmp_path: Path) -> None:
    gateways = [urlsplit(gateway.ws_url).netloc for gateway in stack.gateways]
    pairs = [(sender, viewer) for sender in gateways for viewer in gateways]
    async with running_prober(stack, tmp_path / "prober.log") as address:

        async def everybody_is_seen() -> bool:
            found = await samples(address)
            seen = (f'nearby_prober_probes_total{{from="{one}",outcome="seen",to="{to}"}}' for one, to in pairs)
            return all(found[name] > 0 for name in seen)

        await eventually(everybody_is_seen, WITHIN_S)
        before = await samples(address)
        assert [before[f'nearby_prober_connected{{gateway="{gateway}"}}'] for gateway in gateways] == [1, 1]
        assert late(before, pairs) == 0

        shard = await _busiest_shard(stack)
        stack.kill(shard, signal.SIGSTOP)
        try:

            async def it_shows() -> bool:
                return late(await samples(address), pairs) >= 3

            await eventually(it_shows, WITHIN_S)
            lost = [name for name, value in (await samples(address)).items() if 'outcome="lost"' in name and value]
            assert lost == [], "what a dead shard does not carry comes from the cache"
        finally:
            stack.kill(shard, signal.SIGCONT)


async def test_a_gateway_that_is_gone_shows_as_not_connected(stack: Stack, tmp_path: Path) -> None:
    here, there = (urlsplit(gateway.ws_url).netloc for gateway in stack.gateways)
    async with running_prober(stack, tmp_path / "prober.log") as address:

        async def connected() -> list[float]:
            found = await samples(address)
            return [found[f'nearby_prober_connected{{gateway="{each}"}}'] for each in (here, there)]

        async def are(wanted: list[float]) -> bool:
            return await connected() == wanted

        await eventually(lambda: are([1, 1]), WITHIN_S)
        stack.kill("gw-2", signal.SIGSTOP)  # killed, it would be started again
        try:
            await eventually(lambda: are([1, 0]), 60)
        finally:
            stack.kill("gw-2", signal.SIGCONT)
        await eventually(lambda: are([1, 1]), 60)


async def test_friends_are_enrolled_once(stack: Stack) -> None:
    async with NearbyApi(stack.api_url) as api:
        first = await enrol(api, "probing", PASSWORD, 3)
        again = await enrol(api, "probing", PASSWORD, 3)
        assert [friend.user_id for friend in first] == [friend.user_id for friend in again]
        assert [len(await friend.account.friends()) for friend in again] == [2, 2, 2]


async def test_each_address_of_a_name_is_a_gateway_and_a_name_under_tls_is_one() -> None:
    assert await resolved(["ws://127.0.0.1:9/v1/ws", "ws://127.0.0.1:9/v1/ws", "wss://localhost/v1/ws"]) == [
        "ws://127.0.0.1:9/v1/ws",
        "wss://localhost/v1/ws",
    ]
    [unknown] = await resolved(["ws://no-such-name.invalid:9/v1/ws"])
    assert unknown == "ws://no-such-name.invalid:9/v1/ws"


async def _busiest_shard(stack: Stack) -> str:
    """Return the shard that carries most of the synthetic friends."""
    ring = Ring.of(1, stack.shard_urls)
    async with NearbyApi(stack.api_url) as api:
        friends = await enrol(api, "nearby_prober", PASSWORD, PER_GATEWAY * len(stack.gateways))
    carried = Counter(ring.slot_of(location_channel(UserId(friend.user_id))) for friend in friends)
    return carried.most_common(1)[0][0]
