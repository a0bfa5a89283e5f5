"""The pods of the dev overlay, run on this machine as the manifests say, with real servers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from nearby.close_codes import CloseCode
from nearby.model import UserId
from nearby.settings import parse_keys
from tests.support.cassandra import CassandraNode
from tests.support.eventually import eventually
from tests.support.light_clients import LightClient, light_crowd
from tests.support.local_cluster.cluster import LocalCluster, StandIns, running_cluster
from tests.support.local_cluster.pod import Pod
from tests.support.local_cluster.translation import Translation
from tests.support.manifests import rendered
from tests.support.postgresql import PostgresServer
from tests.support.seeding import seed_postgresql

CROWD = 60
PAIRS = 4
PAIR_INTERVAL_S = 0.6
"""Within the overlay's own limit of two messages a second."""
SHOWN_WITHIN_S = 5.0
BACK_WITHIN_S = 60.0
FAILOVER_WITHIN_S = 60.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def ws_url(gateway: Pod) -> str:
    return f"ws://{gateway.ip}:8081/v1/ws"


class SteadyPair:
    """Two friends on gateways that are not drained. ``lost`` are reports of one that the other was not shown."""

    def __init__(self, one: UserId, tokens: tuple[str, str]) -> None:
        self.one_id = one
        self.one, self.other = (LightClient(token) for token in tokens)
        self.sent_count = 0
        self.lost: list[int] = []

    async def walk(self) -> None:
        """Report until cancelled, each time waiting until the friend has been shown it."""
        while True:
            recorded_at_ms = now_ms()
            self.sent_count += 1
            self.one.report(41.88 + self.sent_count * 1e-5, -87.63, recorded_at_ms)
            try:
                await eventually(partial(self.other.seen.__contains__, (self.one_id, recorded_at_ms)), SHOWN_WITHIN_S)
            except AssertionError:
                self.lost.append(recorded_at_ms)
            await asyncio.sleep(PAIR_INTERVAL_S)


@asynccontextmanager
async def steady_pairs(tokens: dict[UserId, str], first: Pod, second: Pod) -> AsyncIterator[list[SteadyPair]]:
    items = list(tokens.items())
    # Neighbours in the ring of friendships, and no two pairs beside each other.
    pairs = [SteadyPair(items[4 * index][0], (items[4 * index][1], items[4 * index + 1][1])) for index in range(PAIRS)]
    for pair in pairs:
        await pair.one.connect(ws_url(first))
        await pair.other.connect(ws_url(second))
        pair.other.report(41.88, -87.63)
    async with asyncio.TaskGroup() as tasks:
        walks = [tasks.create_task(pair.walk()) for pair in pairs]
        yield pairs
        for walk in walks:
            walk.cancel()
    for client in (client for pair in pairs for client in (pair.one, pair.other)):
        client.close()
        await client.left.wait()


async def ready_gateway(cluster: LocalCluster, _: str) -> str:
    """Choose as a Service does: any pod that is ready."""

    async def ready() -> list[Pod]:
        return [pod for pod in cluster.of("nearby-gateway") if await pod.ready()]

    return ws_url(random.choice(await eventually(ready, BACK_WITHIN_S)))


def test_names_paths_and_addresses_of_a_pod_are_translated_and_nothing_else() -> None:
    hosts = {"cache-0.cache": "127.1.2.10", "cache": "127.1.2.10", "shard-{n}.shard": "127.1.2.4{n}"}
    here = Translation(hosts, {"/data": Path("/x/data"), "/data/sub": Path("/y")}, "127.1.2.99")
    assert here.text("redis://cache-0.cache:6379,cache:1/cache-1") == "redis://127.1.2.10:6379,127.1.2.10:1/cache-1"
    assert here.text("redis://shard-{n}.shard:6379") == "redis://127.1.2.4{n}:6379"
    assert here.text("bind 0.0.0.0 /data/a /data/sub/b /database /home/data.d") == (
        "bind 127.1.2.99 /x/data/a /y/b /database /home/data.d"
    )


@pytest.mark.xdist_group("cassandra")
async def test_the_dev_overlay_runs_here_a_drained_pod_loses_no_update_and_the_cache_fails_over(
    tmp_path: Path, shared_cassandra: CassandraNode, shared_postgresql: PostgresServer
) -> None:
    database_url = shared_postgresql.url(shared_postgresql.create_database())
    stand_ins = StandIns(shared_cassandra.address, database_url)
    async with running_cluster(rendered("dev"), stand_ins, tmp_path) as cluster:
        await the_third_shard_becomes_a_spare(cluster)
        keys = parse_keys(cluster.secrets["nearby-tokens"]["token-keys"])
        tokens = await seed_postgresql(database_url, keys, CROWD + 4 * PAIRS, 2)
        items = list(tokens.items())
        crowd_tokens, steady_tokens = dict(items[:CROWD]), dict(items[CROWD:])
        victim, second = cluster.of("nearby-gateway")
        third = cluster.start_pod(victim.workload, 2)  # as a roll-out does: one more before one less
        await eventually(third.ready, 30)
        choose = partial(ready_gateway, cluster)
        async with (
            steady_pairs(steady_tokens, second, third) as pairs,
            light_crowd(crowd_tokens, ws_url(victim), choose) as crowd,
        ):
            crowd.forget_refusals()
            assert await victim.delete() == 0
            await eventually(crowd.everybody_is_back, BACK_WITHIN_S)
            clients = crowd.everybody
            assert all(len(client.told) == 1 for client in clients)
            assert all(CloseCode.ABNORMAL not in client.closes for client in clients)
            assert {client.gateways[0] for client in clients} == {victim.name}
            assert victim.name not in {name for client in clients for name in client.gateways[1:]}
            await everybody_sees_their_neighbour(crowd.everybody, list(crowd_tokens))
            assert all(pair.lost == [] for pair in pairs)
            assert all(pair.sent_count > 5 for pair in pairs)
        assert [pod.restart_count for name in ("nearby-gateway", "nearby-shard") for pod in cluster.of(name)] == [0] * 6
        await reports_reach_the_history(cluster, *items[0])
        await the_cache_survives_its_primary(cluster)


async def the_third_shard_becomes_a_spare(cluster: LocalCluster) -> None:
    (keeper,) = cluster.of("nearby-ring-keeper")
    shards = [f"redis://{shard.ip}:6379" for shard in cluster.of("nearby-shard")]
    headers = {"Authorization": f"Bearer {cluster.secrets['nearby-tokens']['admin-token']}"}
    async with httpx.AsyncClient(base_url=f"http://{keeper.ip}:9080", headers=headers, trust_env=False) as http:

        async def is_spare() -> bool:
            ring = (await http.get("/admin/v1/ring")).json()
            assert [shard["address"] for shard in ring["shards"]] == shards[:2]
            return [spare["address"] for spare in ring["spares"] if spare["answers"]] == shards[2:]

        await eventually(is_spare, 30)


async def everybody_sees_their_neighbour(clients: list[LightClient], users: list[UserId]) -> None:
    """A report of each, made after all have moved, reaches the friend beside them."""
    at_ms = now_ms()
    for client in clients:
        client.report(41.88, -87.63, at_ms)
    for user, friend in zip(users, clients[1:], strict=False):
        await eventually(partial(friend.seen.__contains__, (user, at_ms)), SHOWN_WITHIN_S)


async def reports_reach_the_history(cluster: LocalCluster, user: UserId, token: str) -> None:
    """What was reported to a gateway comes out of Cassandra, by way of the stream and the writer."""
    (api,) = cluster.of("nearby-api")
    async with httpx.AsyncClient(base_url=f"http://{api.ip}:8080", trust_env=False) as http:

        async def has_points() -> bool:
            answer = await http.get("/v1/me/history", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200, answer.text
            return bool(answer.json()["items"])

        await eventually(has_points, 30)


async def the_cache_survives_its_primary(cluster: LocalCluster) -> None:
    """The Sentinels promote the standby, and a primary that comes back with its volume follows it."""
    primary, standby = cluster.of("nearby-cache")
    password = cluster.secrets["nearby-cache-passwords"]["operator"]

    async def told(server: Pod) -> dict[str, object]:
        async with Redis(host=server.ip, username="operator", password=password, socket_timeout=2) as redis:
            try:
                replication: dict[str, object] = await redis.info("replication")
            except RedisError:
                return {}
            return replication

    async def is_promoted() -> bool:
        return (await told(standby)).get("role") == "master"

    async def follows_the_other() -> bool:
        replication = await told(primary)
        return (replication.get("master_host"), replication.get("master_link_status")) == (standby.ip, "up")

    assert [(await told(server))["role"] for server in (primary, standby)] == ["master", "slave"]
    primary.kill()
    await eventually(is_promoted, FAILOVER_WITHIN_S)
    cluster.start_pod(primary.workload, 0)
    await eventually(follows_the_other, FAILOVER_WITHIN_S)
    for gateway in cluster.of("nearby-gateway")[1:]:
        assert await gateway.ready()
