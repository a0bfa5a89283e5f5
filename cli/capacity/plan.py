"""From a load to numbers of servers. Pure.

Each process is filled to a part of a core, ``utilisation``, and the unevenness of its kind is paid for: the *fullest*
shard and the *busiest* gateway stay below that. How many gateway processes there are decides how often a location is
sent to one, which decides how many there must be, so they are found step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

from cli.capacity import costs
from cli.capacity.balance import Crowd, Spread, fullest_over_mean, gateway_spread, shard_spread
from cli.capacity.constants import Constants
from cli.capacity.costs import SECONDS_PER_DAY, Servers
from cli.capacity.load import Load, NonsenseLoad, Traffic

DAYS_PER_MONTH = 30
COPIES = 3
"""Of each row of the history."""
CELEBRITY_FRIENDS = 5_000
"""What the system allows (``NEARBY_MAX_FRIENDS``)."""
CITY_CROWD = 0.4
"""The part of all people who come together in a rush hour, as in the scenario ``city`` of the load tests."""
MAX_STREAMS = 64
MAX_WRITER_POINTS = 10_000_000
MAX_UNEVENNESS = 1.5
"""What a single celebrity does to a gateway beyond this is shown, and not paid for everywhere."""


@dataclass(frozen=True, slots=True)
class Machines:
    """What one server may take.

    ``utilisation``: the part of a core to fill. ``node_cores``, ``node_disk_bytes``: of one Cassandra node, of whose
    disk half is left to compaction and repair. ``outage_s``: how long the streams hold on without the history store.
    """

    utilisation: float = 0.6
    gateway_connections: int = 10_000
    valkey_bytes: float = 16e9
    valkey_bytes_per_s: float = 1.25e9
    node_cores: int = 16
    node_disk_bytes: float = 4e12
    outage_s: float = 600.0

    def __post_init__(self) -> None:
        if not 0.0 < self.utilisation <= 1.0:
            raise NonsenseLoad("--utilisation", self.utilisation, "more than 0 to 1; 0.6 leaves room for a lost server")


@dataclass(frozen=True, slots=True)
class Role:
    """Servers of one kind: how many, and why not fewer; ``standbys`` come on top.

    ``used`` is what all of them take together at the load, before any headroom.
    """

    name: str
    count: int
    standbys: int
    limit: str
    used: Servers


@dataclass(frozen=True, slots=True)
class HotSpots:
    """The fullest server over the mean. ``ring``: by partitions alone; ``shards`` and ``gateways``: by deliveries.

    ``celebrity_burst_s``: how long one report of a celebrity keeps its shard busy. ``city_factor``: times as many
    deliveries if :data:`CITY_CROWD` of the people are all near each other.
    """

    ring: float
    shards: Spread
    gateways: Spread
    celebrity_burst_s: float
    city_factor: float


@dataclass(frozen=True, slots=True)
class CostDrivers:
    """What is paid for: cores and memory as provided, traffic to clients over a month, disks."""

    cores: float
    memory_bytes: float
    egress_bytes_per_month: float
    disk_bytes: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer."""

    load: Load
    traffic: Traffic
    roles: tuple[Role, ...]
    gateways: costs.Gateways
    hot_spots: HotSpots
    drivers: CostDrivers
    warnings: tuple[str, ...]

    def role(self, name: str) -> Role:
        """Return the servers of one kind."""
        return next(role for role in self.roles if role.name == name)


def plan(load: Load, constants: Constants, machines: Machines, celebrities: float = 1e-5) -> Plan:
    """Return what ``load`` takes.

    Raises:
        NonsenseLoad: ``celebrities``, a share of all people, is none that there can be.
    """
    if not 0.0 <= celebrities <= 0.001:
        raise NonsenseLoad("--celebrities", celebrities, "0 to 0.001 of all people")
    traffic = Traffic.of(load)
    famous = min(CELEBRITY_FRIENDS, load.users - 1)
    cost = constants.gateway
    crowd = Crowd(
        connections=load.connections,
        friends=load.friends,
        celebrities=celebrities,
        celebrity_friends=famous if load.friends else 0,
        own=(cost.report.value + cost.idle.value * load.interval_s) / (cost.message.value + cost.delivery.value),
    )
    processes, limit = _gateway_processes(load, traffic, constants, machines, crowd)
    gateways = costs.gateways(load, traffic, constants, processes)
    shards_used = costs.shards(load, traffic, constants, processes, gateways.messages)
    shards, shards_limit = _valkeys(shards_used, machines, fullest_over_mean)
    roles = (
        Role("gateway", processes, max(1, ceil(processes * 0.02)), limit, _gateway_servers(gateways)),
        Role("pub/sub shard", shards, 1 + shards // 50, shards_limit, shards_used),
        *_stores(load, traffic, constants, machines),
    )
    heard = min(famous * load.friends_connected, load.connections) * constants.valkey.delivery.s
    return Plan(
        load=load,
        traffic=traffic,
        roles=roles,
        gateways=gateways,
        hot_spots=HotSpots(
            ring=fullest_over_mean(shards),
            shards=shard_spread(
                replace(crowd, own=constants.valkey.publish.value / constants.valkey.delivery.value), shards
            ),
            gateways=gateway_spread(crowd, processes),
            celebrity_burst_s=heard,
            city_factor=(CITY_CROWD + (1.0 - CITY_CROWD) * load.near) / load.near if load.near else 1.0,
        ),
        drivers=_drivers(load, roles, gateways, machines),
        warnings=tuple(_warnings(roles, load)),
    )


def _gateway_servers(gateways: costs.Gateways) -> Servers:
    return Servers(gateways.cores, gateways.memory_bytes, gateways.egress_bytes_per_s + gateways.ingress_bytes_per_s)


def _gateway_processes(
    load: Load, traffic: Traffic, constants: Constants, machines: Machines, crowd: Crowd
) -> tuple[int, str]:
    """Return how many gateway processes keep the busiest of them below the utilisation, and what decides."""
    by_sockets = max(1, ceil(traffic.connections / machines.gateway_connections))

    def is_enough(processes: int) -> bool:
        mean = costs.gateways(load, traffic, constants, processes).cores / processes
        return mean * min(MAX_UNEVENNESS, gateway_spread(crowd, processes).middle) <= machines.utilisation

    few, enough = by_sockets - 1, by_sockets
    while not is_enough(enough) and enough < traffic.connections:
        few, enough = enough, 2 * enough
    while enough - few > 1 + enough // 200 and enough > by_sockets:
        middle = (few + enough) // 2
        few, enough = (few, middle) if is_enough(middle) else (middle, enough)
    return enough, "connections" if enough == by_sockets > 1 else "processor"


def _valkeys(
    used: Servers, machines: Machines, unevenness: Callable[[int], float] = lambda count: 1.0
) -> tuple[int, str]:
    """Return how many servers carry ``used``, the fullest of them ``unevenness`` times the mean, and what decides."""
    needs = {
        "processor": used.cores / machines.utilisation,
        "memory": used.memory_bytes / machines.valkey_bytes,
        "network": used.network_bytes_per_s / machines.valkey_bytes_per_s,
    }
    limit = max(needs, key=needs.__getitem__)
    count = max(1, ceil(needs[limit]))
    while count < needs[limit] * unevenness(count):
        count = ceil(needs[limit] * unevenness(count))
    return count, limit


def _stores(load: Load, traffic: Traffic, constants: Constants, machines: Machines) -> list[Role]:
    cache = costs.cache(load, traffic, constants)
    primaries, cache_limit = _valkeys(cache, machines)
    streams = costs.streams(load, traffic, constants, machines.outage_s)
    stream_servers, stream_limit = _valkeys(streams, machines)
    writers = costs.writers(load, traffic, constants)
    by_core = writers.cores / machines.utilisation
    by_points = traffic.reports * load.linger_s / MAX_WRITER_POINTS
    nodes = costs.cassandra(load, traffic, constants, COPIES)
    by_disk = nodes.disk_bytes / (machines.node_disk_bytes / 2)
    by_cores = nodes.cores / (machines.node_cores * machines.utilisation)
    api = costs.api(traffic, constants)
    database = costs.database(load, traffic, constants)
    return [
        Role("location cache", primaries, primaries, cache_limit, cache),
        Role("history stream", stream_servers, stream_servers, stream_limit, streams),
        Role(
            "history writer", max(1, ceil(max(by_core, by_points))), 1, _larger(by_core, by_points, "memory"), writers
        ),
        Role("Cassandra node", max(COPIES, ceil(max(by_disk, by_cores))), 0, _larger(by_cores, by_disk, "disk"), nodes),
        Role("API", max(1, ceil(api.cores / machines.utilisation)), 1, "processor", api),
        Role("PostgreSQL core", max(1, ceil(database.cores / machines.utilisation)), 1, "processor", database),
        Role("ZooKeeper", 3, 0, "quorum", Servers(0.0, 0.0)),
        Role("ring keeper", 1, 1, "election", Servers(0.0, 0.0)),
    ]


def _larger(processor: float, other: float, name: str) -> str:
    return name if other > processor else "processor"


_BYTES_EACH = {
    "API": 200e6,
    "history writer": 200e6,
    "Cassandra node": 64e9,
    "PostgreSQL core": 4e9,
    "ZooKeeper": 2e9,
    "ring keeper": 80e6,
}
"""Provided for each beside what is in ``used``: what the process itself takes, or its caches."""


def _drivers(load: Load, roles: tuple[Role, ...], gateways: costs.Gateways, machines: Machines) -> CostDrivers:
    cores = memory = 0.0
    for role in roles:
        servers = role.count + role.standbys
        cores += servers * (machines.node_cores if role.name == "Cassandra node" else 1)
        memory += role.used.memory_bytes * servers / role.count + servers * _BYTES_EACH.get(role.name, 0.0)
    return CostDrivers(
        cores=cores,
        memory_bytes=memory,
        egress_bytes_per_month=gateways.egress_bytes_per_s / load.peak_to_mean * SECONDS_PER_DAY * DAYS_PER_MONTH,
        disk_bytes=sum(role.used.disk_bytes for role in roles),
    )


def _warnings(roles: tuple[Role, ...], load: Load) -> list[str]:
    by_name = {role.name: role for role in roles}
    warnings = []
    if max(by_name["history stream"].count, by_name["history writer"].count) > MAX_STREAMS:
        warnings.append(f"the history has {MAX_STREAMS} streams at most: spread it over several deployments, or linger")
    if by_name["pub/sub shard"].count > 150:
        warnings.append("the ring was measured with up to 150 shards")
    if by_name["gateway"].count > 5_000:
        warnings.append("ZooKeeper has a session and a node for each gateway: try that many before relying on it")
    if load.linger_s == 0:
        warnings.append("without --linger each point is a statement of its own, the dearest way to store it")
    return warnings
