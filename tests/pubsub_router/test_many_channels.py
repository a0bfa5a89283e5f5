"""Two hundred thousand channels on one connection, and the shard restarted under them."""

from __future__ import annotations

import asyncio

import pytest

from tests.pubsub_router.test_router import Recorder, Servers, ring_of, routing
from tests.support.eventually import eventually

pytestmark = pytest.mark.serial

CHANNELS = [b"loc:00000000-0000-4000-8000-%012d" % n for n in range(200_000)]
HEALED_WITHIN_S = 5


async def test_F4_two_hundred_thousand_channels_are_subscribed_again_within_five_seconds(
    valkey_servers: Servers,
) -> None:
    server = valkey_servers()
    heard = Recorder()
    async with routing(ring_of(server), heard) as router:
        shard = router.shards["shard-0"]
        router.subscribe(CHANNELS)
        await eventually(lambda: len(shard.subscriptions.confirmed) == len(CHANNELS), within_s=60)
        server.restart()
        before_s = asyncio.get_running_loop().time()
        await eventually(lambda: len(heard.gaps) == len(CHANNELS), within_s=60)
        took_s = asyncio.get_running_loop().time() - before_s
        assert took_s <= HEALED_WITHIN_S, f"{took_s:.1f} s"
        assert shard.connections_count == 2
        statistics = server.command("INFO", "stats")
        assert b"client_output_buffer_limit_disconnections:0\r\n" in statistics
