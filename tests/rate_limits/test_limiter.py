from __future__ import annotations

import asyncio

import pytest

from nearby.errors import StoreUnavailable
from rate_limits.limiter import PAUSE_S, open_limiter
from rate_limits.local import LocalBuckets
from rate_limits.policy import Policy
from rate_limits.redis import TIMEOUT_S, open_redis_buckets
from tests.conftest import ValkeyServers
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

HOUR = Policy("hour", 5, 3_600)
NO_LIMIT = Policy("none", 0, 60)
PATIENT_S = 60
"""Where the server is there, it is not to be given up because this machine is busy."""


class HeldSeconds:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


async def test_processes_share_one_bucket_and_decide_as_one_alone_would(valkey: ValkeyServer) -> None:
    alone = LocalBuckets()
    async with (
        open_limiter(valkey.url, HeldSeconds(), PATIENT_S) as one,
        open_limiter(valkey.url, HeldSeconds(), PATIENT_S) as other,
    ):
        for number in range(7):
            shared = await (one, other)[number % 2].take(HOUR, "ann")
            expected = alone.take(HOUR, "ann", 0.0)
            assert shared is not None
            assert (shared.allowed, shared.remaining) == (expected.allowed, expected.remaining)
            if not shared.allowed:
                # As long as the test took, the wait is shorter.
                assert expected.retry_after_s - 60 < shared.retry_after_s <= expected.retry_after_s
        bob = await other.take(HOUR, "bob")
        assert bob is not None
        assert bob.allowed


async def test_many_at_once_travel_together_and_each_gets_its_own_answer(valkey: ValkeyServer) -> None:
    async with open_limiter(valkey.url, HeldSeconds(), PATIENT_S) as limiter:
        subjects = [f"user-{number % 50}" for number in range(500)]
        decisions = await asyncio.gather(*(limiter.take(HOUR, subject) for subject in subjects))
    assert sum(decision is not None and decision.allowed for decision in decisions) == 50 * HOUR.quota


async def test_every_key_ends_by_itself(valkey: ValkeyServer) -> None:
    async with open_redis_buckets(valkey.url, PATIENT_S) as buckets:
        await buckets.take(HOUR, "ann")
    ttl_ms = int(valkey.command("PTTL", "rate:hour:ann")[1:].split(b"\r\n")[0])
    assert 0 < ttl_ms <= 3_600_000 // HOUR.quota


async def test_quota_zero_is_no_limit(valkey: ValkeyServer) -> None:
    async with open_limiter(valkey.url, HeldSeconds(), PATIENT_S) as limiter:
        assert await limiter.take(NO_LIMIT, "ann") is None
    assert valkey.command("DBSIZE") == b":0\r\n"


async def test_without_a_server_to_share_by_a_process_limits_alone() -> None:
    async with open_limiter("", HeldSeconds()) as limiter:
        allowed = [decision.allowed for _ in range(6) if (decision := await limiter.take(HOUR, "ann"))]
    assert allowed == [True] * 5 + [False]
    assert limiter.unshared_count == 0


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_while_the_server_is_away_each_process_limits_alone_and_then_shares_again(
    valkey_servers: ValkeyServers, fault: str
) -> None:
    server, clock = valkey_servers(), HeldSeconds()
    async with open_limiter(server.url, clock) as limiter:
        await limiter.take(HOUR, "ann")
        server.kill() if fault == "killed" else server.freeze()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        allowed = [decision.allowed for _ in range(6) if (decision := await limiter.take(HOUR, "ann"))]
        assert allowed == [True] * 5 + [False]
        assert limiter.unshared_count == 6
        # One of them waited for the server, not all; far more than that is only this machine's load.
        assert loop.time() - began_s < 6 * TIMEOUT_S + 20
        server.start() if fault == "killed" else server.thaw()

        async def shares() -> bool:
            clock.now_s += PAUSE_S
            before = limiter.unshared_count
            await limiter.take(HOUR, "bob")
            return limiter.unshared_count == before

        await eventually(shares, within_s=30)


async def test_the_shared_buckets_say_when_they_cannot_be_reached(valkey_servers: ValkeyServers) -> None:
    server = valkey_servers()
    server.kill()
    async with open_redis_buckets(server.url) as buckets:
        with pytest.raises(StoreUnavailable, match="rate_limits"):
            await buckets.take(HOUR, "ann")
