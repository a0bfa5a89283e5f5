"""S10: the users of ``deploy/redis`` may do what their role does, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from location_cache.redis import open_cache
from location_history.consumer import open_consumer
from location_history.stream import open_stream
from nearby.errors import StoreUnavailable
from nearby.model import HistoryPoint, Location, UserId
from nearby.record import LocationRecord
from nearby.redis_address import parse
from redis_topology.servers import open_client
from tests.support.eventually import eventually
from tests.support.stack import ANY_PORTS, running_stack
from tests.support.steady import steady_crowd
from tests.support.valkey import ValkeyServer
from tests.support.valkey_topologies import NEVER_MS, ClusterValkey

USERS_FILE, SHARD_USERS_FILE = (Path("deploy/redis") / name for name in ("users.acl", "shard-users.acl"))
ROLES = ("gateway", "api", "writer")
FORBIDDEN = [
    "FLUSHALL",
    "CONFIG GET *",
    "KEYS *",
    "SHUTDOWN",
    "REPLICAOF NO ONE",
    "GET other",
    "ACL LIST",
]
ALICE = UserId("00000000-0000-4000-8000-000000000001")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    yield from running_with(USERS_FILE, tmp_path)


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[ValkeyServer]:
    yield from running_with(SHARD_USERS_FILE, tmp_path)


def running_with(file: Path, directory: Path) -> Iterator[ValkeyServer]:
    # A copy, since a server may write to it.
    copy = directory / file.name
    copy.write_text((Path(__file__).parents[2] / file).read_text())
    with closing(ValkeyServer("--aclfile", str(copy))) as started:
        started.start()
        yield started


def url_of(server: ValkeyServer, role: str) -> str:
    return server.url.replace("://", f"://{role}:CHANGE-ME-{role}@")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("command", FORBIDDEN)
async def test_S10_no_process_may_do_what_only_an_operator_does(server: ValkeyServer, role: str, command: str) -> None:
    client: Redis = open_client(parse(url_of(server, role)))
    try:
        with pytest.raises(NoPermissionError):
            await client.execute_command(*command.split())  # type: ignore[no-untyped-call]
    finally:
        await client.aclose()


async def test_S10_a_gateway_and_the_api_use_the_cache_and_the_stream_is_the_writers(server: ValkeyServer) -> None:
    point = HistoryPoint(ALICE, Location(1.0, 2.0, 1_000))
    async with (
        open_cache(url_of(server, "gateway"), 600) as gateway,
        open_cache(url_of(server, "api"), 600) as api,
        open_stream(url_of(server, "gateway"), 1_000) as stream,
        open_stream(url_of(server, "api"), 1_000) as eraser,
        open_consumer(url_of(server, "writer"), "w") as consumer,
    ):
        await gateway.write_many([(ALICE, LocationRecord(0, 1, 1.0, 2.0))])
        assert (await api.read_many([ALICE]))[0] is not None
        assert await api.now_ms() > 0
        await stream.append_many([point])
        assert await consumer.read(10) == []  # makes the group
        entries = await consumer.read(10)
        assert [entry.point.location for entry in entries] == [point.location]
        fence = await eraser.fence(ALICE, 0, 2_000)
        assert not await eraser.passed(fence)
        assert await consumer.fences([ALICE]) == {ALICE: [fence]}
        await consumer.acknowledge(entries)
        assert await eraser.passed(fence)
        await stream.append_many([point], durable=True)
        await eraser.append_many([point], durable=True)
        await consumer.acknowledge(await consumer.read(10))
        assert (await consumer.backlog()).entries_count == 0
    async with open_cache(url_of(server, "writer"), 600) as not_ours:
        with pytest.raises(StoreUnavailable, match="NoPermission"):
            await not_ours.read_many([ALICE])


async def test_S10_nobody_gets_in_without_a_password(server: ValkeyServer) -> None:
    for url in (server.url, url_of(server, "gateway").replace("CHANGE-ME", "guessed")):
        async with open_cache(url, 600) as cache:
            with pytest.raises(StoreUnavailable) as error:
                await cache.read_many([ALICE])
        assert "guessed" not in str(error.value)


def test_S10_a_shard_carries_messages_and_nothing_else(shard: ValkeyServer) -> None:
    assert shard.command("PUBLISH", "loc:x", "1") == b":0\r\n"
    assert shard.command("SUBSCRIBE", "loc:x").startswith(b"*3\r\n$9\r\nsubscribe")
    for words in (*FORBIDDEN, "SET k v", "PUBSUB CHANNELS", "CLIENT LIST"):
        assert shard.command(*words.split()).startswith(b"-NOPERM"), words


async def test_S10_the_whole_stack_works_on_a_cluster_as_these_users(tmp_path: Path) -> None:
    copy = tmp_path / "users.acl"
    text = (Path(__file__).parents[2] / USERS_FILE).read_text()
    # The test itself, which puts the Cluster together, comes in as the default user.
    copy.write_text(
        text.replace("user default off nopass resetkeys resetchannels -@all", "user default on nopass +@all")
    )
    with closing(ClusterValkey("--aclfile", str(copy), noticed_after_ms=NEVER_MS)) as servers:
        servers.start()
        url = servers.url.replace("://", "://gateway:CHANGE-ME-gateway@")
        async with (
            running_stack(tmp_path, arguments=(*ANY_PORTS, "--cache", url)) as stack,
            steady_crowd(stack, 6, 2) as crowd,
            open_cache(servers.url.replace("://", "://api:CHANGE-ME-api@"), 600) as api,
        ):

            async def all_stored() -> bool:
                return None not in await api.read_many(crowd.users)

            await eventually(all_stored, within_s=10)
            assert "CHANGE-ME" not in stack.output
            assert all("CHANGE-ME" not in stack.log(name) for name in ("gw-1", "gw-2", "api"))
