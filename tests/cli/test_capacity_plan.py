"""From a load to servers: what grows with what, and what stays below its bound."""

from __future__ import annotations

import pytest

from cli.capacity.constants import COMPILED, INTERPRETED
from cli.capacity.costs import gateways_reached
from cli.capacity.frames import FrameSizes
from cli.capacity.load import Load, NonsenseLoad
from cli.capacity.plan import COPIES, Machines, Plan, plan

MACHINES = Machines()


def answer(load: Load, machines: Machines = MACHINES) -> Plan:
    return plan(load, COMPILED, machines)


def counts(plan: Plan) -> dict[str, int]:
    return {role.name: role.count for role in plan.roles}


@pytest.mark.parametrize("users", [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000])
def test_at_every_size_the_busiest_servers_keep_their_headroom(users: int) -> None:
    found = answer(Load(users=users))
    gateways, shards = found.role("gateway"), found.role("pub/sub shard")
    # Within the grain at which the number of gateways is searched.
    assert found.hot_spots.gateways.middle * gateways.used.cores / gateways.count <= 1.02 * MACHINES.utilisation
    assert found.hot_spots.ring * shards.used.cores / shards.count <= MACHINES.utilisation
    assert found.traffic.connections / gateways.count <= MACHINES.gateway_connections


def test_a_town_needs_one_of_each_and_a_history_of_three_copies() -> None:
    found = counts(answer(Load(users=10_000)))
    assert found["Cassandra node"] == COPIES
    assert found["gateway"] == found["pub/sub shard"] == found["location cache"] == found["history writer"] == 1


def test_more_users_never_need_fewer_servers() -> None:
    sizes = [counts(answer(Load(users=users))) for users in (10_000, 300_000, 3_000_000, 30_000_000, 100_000_000)]
    for name in sizes[0]:
        assert [size[name] for size in sizes] == sorted(size[name] for size in sizes)


def test_reports_twice_as_often_need_about_twice_the_gateways() -> None:
    slow, fast = (answer(Load(interval_s=interval_s)).role("gateway").count for interval_s in (10.0, 5.0))
    assert 1.5 < fast / slow < 2.5  # fewer people on each are less even


def test_idle_people_are_bounded_by_connections() -> None:
    gateways = answer(Load(friends=0, interval_s=200.0)).role("gateway")
    assert (gateways.count, gateways.limit) == (1_000, "connections")


def test_a_bound_of_connections_is_kept() -> None:
    gateways = answer(Load(friends=0, interval_s=200.0), Machines(gateway_connections=2_000)).role("gateway")
    assert gateways.count == 5_000


def test_gateways_that_are_not_compiled_are_more() -> None:
    load = Load(users=10_000_000, interval_s=5.0)
    assert (
        plan(load, INTERPRETED, MACHINES).role("gateway").count > plan(load, COMPILED, MACHINES).role("gateway").count
    )


def test_messagepack_saves_traffic_and_tls_adds_to_it() -> None:
    egress = {
        name: answer(load).gateways.egress_bytes_per_s
        for name, load in {
            "json": Load(users=100_000),
            "msgpack": Load(users=100_000, codec="msgpack"),
            "tls": Load(users=100_000, tls=True),
        }.items()
    }
    assert egress["msgpack"] < egress["json"] < egress["tls"]


def test_an_update_of_one_friend_is_as_long_as_its_frame() -> None:
    json, packed = FrameSizes.of("json", tls=False), FrameSizes.of("msgpack", tls=False)
    assert 150 < json.entry < 250
    assert packed.entry < json.entry < json.delivery


def test_a_location_goes_to_each_gateway_once() -> None:
    assert gateways_reached(40, 1) == 1
    assert gateways_reached(1, 10) == pytest.approx(1)
    assert 39.9 < gateways_reached(40, 100_000) < 40


def test_lingering_points_store_more_cheaply() -> None:
    single, gathered = answer(Load(linger_s=0.0)), answer(Load(linger_s=300.0))
    assert single.role("history writer").used.cores > 4 * gathered.role("history writer").used.cores
    assert any("--linger" in warning for warning in single.warnings)


def test_disks_grow_with_retention_and_shrink_with_the_peak() -> None:
    disk = {days: answer(Load(retention_days=days)).role("Cassandra node").used.disk_bytes for days in (30.0, 90.0)}
    assert disk[90.0] == pytest.approx(3 * disk[30.0])
    halved = answer(Load(peak_to_mean=2.0)).role("Cassandra node").used.disk_bytes
    assert halved == pytest.approx(disk[90.0] / 2)


def test_a_city_that_meets_sees_more_of_each_other() -> None:
    assert answer(Load(users=100_000)).hot_spots.city_factor == 1.0
    assert answer(Load(users=100_000, area_km=30.0)).hot_spots.city_factor > 2


@pytest.mark.parametrize("utilisation", [0.0, -1.0, 1.1, float("nan")])
def test_a_part_of_a_core_that_there_is_not_is_refused(utilisation: float) -> None:
    with pytest.raises(NonsenseLoad, match="--utilisation"):
        Machines(utilisation=utilisation)


def test_more_celebrities_than_there_can_be_are_refused() -> None:
    with pytest.raises(NonsenseLoad, match="--celebrities"):
        plan(Load(), COMPILED, MACHINES, celebrities=0.5)
