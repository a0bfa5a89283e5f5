"""Numbered servers become spares by themselves, and are forgotten once they are gone."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from nearby.errors import SettingsError
from nearby.ports import RingState
from nearby.settings import RingKeeperSettings, load
from pubsub_router.keeper_pool import GONE_AFTER_S, Silence, addresses_to_try
from tests.pubsub_router.test_keeper import REPLACED_WITHIN_S, TOKEN, Place
from tests.pubsub_router.test_keeper import place as place
from tests.support.valkey import ValkeyServer

POOL = "redis://shard-{n}.shards:6379"


def at(*numbers: int) -> list[str]:
    return [POOL.replace("{n}", str(number)) for number in numbers]


def ring(nodes: list[str], spares: list[str]) -> RingState:
    return RingState(1, {f"shard-{n}": address for n, address in enumerate(nodes, 1)}, spares=tuple(spares))


def test_unknown_numbers_are_tried_between_the_known_ones_and_four_beyond() -> None:
    assert addresses_to_try(ring(at(0, 2), at(3)), POOL) == at(1, 4, 5, 6, 7)


def test_addresses_of_other_servers_do_not_count() -> None:
    others = ["redis://10.0.0.1:6379", "redis://shard-x.shards:6379", "redis://shard-9.shards:6380"]
    assert addresses_to_try(ring(others, []), POOL) == at(0, 1, 2, 3)


def test_a_spare_of_the_pool_that_is_silent_for_a_minute_is_over_and_one_that_answers_in_between_is_not() -> None:
    silence, spares = Silence(POOL), [*at(3, 4), "redis://10.0.0.1:6379"]
    assert silence.over_long(spares, at(4), 0.0) == []
    assert silence.over_long(spares, [], 1.0) == []
    assert silence.over_long(spares, at(4), GONE_AFTER_S - 0.1) == []
    assert silence.over_long(spares, [], GONE_AFTER_S) == at(3)
    assert silence.over_long(spares, [], 2 * GONE_AFTER_S - 0.1) == at(3)
    assert silence.over_long(spares, [], 2 * GONE_AFTER_S) == at(3, 4)


@pytest.mark.parametrize("text", ["redis://shard:6379", "shard-{n}:6379", "redis://{n}.{n}:6379"])
def test_a_pool_that_names_no_numbered_servers_is_refused(text: str) -> None:
    environ = {"NEARBY_DISCOVERY": "file:///x", "NEARBY_ADMIN_TOKEN": "a" * 16, "NEARBY_RING_POOL": text}
    with pytest.raises(SettingsError, match="NEARBY_RING_POOL"):
        load(RingKeeperSettings, environ)


async def test_a_server_that_appears_becomes_a_spare_and_so_does_a_replaced_one_that_is_back(
    place: Place, tmp_path: Path
) -> None:
    def name(server: ValkeyServer, number: int) -> str:
        """Give ``server`` the address of ``number``."""
        path = tmp_path / f"s{number}"
        path.symlink_to(server.url.removeprefix("unix://"))
        return f"unix://{path}"

    servers = [place.new_server() for _ in range(3)]
    nodes = {f"shard-{number + 1}": name(servers[number], number) for number in range(2)}
    await place.discovery.write_ring(RingState(1, nodes), expected=None)
    gw = await place.user("gw-1")
    await place.keeper(NEARBY_RING_POOL=f"unix://{tmp_path}/s{{n}}")

    third = name(servers[2], 2)
    await place.ring_becomes(lambda ring: ring.spares == (third,))
    servers[0].kill()
    await gw.says(cannot_reach="shard-1")
    await place.ring_becomes(lambda ring: ring.nodes["shard-1"] == third and not ring.spares, REPLACED_WITHIN_S)
    servers[0].start()
    await place.ring_becomes(lambda ring: ring.spares == (nodes["shard-1"],))
    actions = [action.reason for action in await place.history("spares", "replace", "spares")]
    assert actions[0] == f"{third} answers"


async def test_the_first_ring_is_begun_once_and_the_rest_of_the_pool_are_spares(place: Place, tmp_path: Path) -> None:
    servers = [place.new_server() for _ in range(3)]
    for number, server in enumerate(servers):
        (tmp_path / f"s{number}").symlink_to(server.url.removeprefix("unix://"))
    urls = [f"unix://{tmp_path}/s{number}" for number in range(3)]
    keeper = await place.keeper(NEARBY_RING_POOL=f"unix://{tmp_path}/s{{n}}")
    command = ("-m", "cli", "ring", "init", "--keeper", str(keeper.http.base_url), "--add", urls[0], "--add", urls[1])
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env=os.environ | {"NEARBY_ADMIN_TOKEN": TOKEN}, stdout=PIPE
        )
        out, _ = await process.communicate()
        assert (process.returncode, out) == (0, b"Ring 1 has 2 shards.\n")
    ring = await place.ring_becomes(lambda ring: bool(ring.spares))
    assert (dict(ring.nodes), ring.spares) == ({"shard-1": urls[0], "shard-2": urls[1]}, (urls[2],))
    await place.history("resize", "spares")
