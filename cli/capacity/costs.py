"""What a load takes of each part, whatever the number of servers: processor time, memory, bytes on the wire. Pure.

Only one thing depends on how many gateway processes there are: in how many of them a user's friends are. A location
goes from its shard to each of those once.
"""

from __future__ import annotations

from dataclasses import dataclass

from cli.capacity.constants import Constants
from cli.capacity.frames import FrameSizes
from cli.capacity.load import CACHE_TTL_S, Load, Traffic

SECONDS_PER_DAY = 86_400
ROWS_PER_STATEMENT = 10
"""So many points of a user and day make a statement of their own; fewer wait for the linger's end."""


@dataclass(frozen=True, slots=True)
class Gateways:
    """All gateway processes together: cores, bytes of memory, bytes/s to and from clients, messages/s from shards."""

    cores: float
    memory_bytes: float
    egress_bytes_per_s: float
    ingress_bytes_per_s: float
    frames_per_s: float
    messages: float


@dataclass(frozen=True, slots=True)
class Servers:
    """Servers of one kind, all of them together; ``network_bytes_per_s`` in and out, within the data centre."""

    cores: float
    memory_bytes: float
    network_bytes_per_s: float = 0.0
    disk_bytes: float = 0.0


def gateways_reached(audience: float, processes: int) -> float:
    """Return in how many of ``processes`` gateway processes ``audience`` viewers are, spread at random."""
    nobody: float = (1.0 - 1.0 / processes) ** audience
    return processes * (1.0 - nobody)


def wake_ups(reports: float, wake_s: float) -> float:
    """Return how many wake-ups ``reports`` a second of one process cost: each its own if they are few.

    At most ``1 / wake_s`` a second, when there is always something to do.
    """
    return reports / (1.0 + reports * wake_s)


def gateways(
    load: Load, traffic: Traffic, constants: Constants, processes: int, updates: float | None = None
) -> Gateways:
    """Return what ``processes`` gateway processes take.

    ``updates``: frames a second in which the entries travel. By default as many as there can be, which a gateway with
    headroom sends: one for each delivery, and one for the user's own report, which renews all distances.
    """
    cost, sizes = constants.gateway, FrameSizes.of(load.codec, tls=load.tls)
    messages = traffic.publishes * gateways_reached(traffic.audience, processes)
    entries = traffic.deliveries + traffic.own_entries
    if updates is None:
        updates = traffic.deliveries + min(traffic.reports, traffic.own_entries)
    cores = (
        processes * cost.process.s
        + traffic.connections * cost.idle.s
        + traffic.reports * cost.report.s
        + processes * wake_ups(traffic.reports / processes, cost.wake_s.value) * cost.wake.s
        + messages * cost.message.s
        + updates * cost.delivery.s
        + (entries - updates + traffic.unseen) * cost.entry.s
        + traffic.connects * cost.connect.s
    )
    friends_here = processes * load.users * _some_here(load, processes)
    memory = (
        processes * cost.base_bytes.value
        + traffic.connections * (cost.connection.value + load.friends * cost.subscription.value)
        + friends_here * cost.friend.value
    )
    snapshots = traffic.connects * traffic.audience * load.near  # entries, in a frame for each connect
    egress = (
        (updates + traffic.connects) * (sizes.delivery - sizes.entry)
        + (entries + snapshots) * sizes.entry
        + traffic.reports * sizes.ack
    )
    return Gateways(
        cores=cores,
        memory_bytes=memory,
        egress_bytes_per_s=egress,
        ingress_bytes_per_s=traffic.reports * sizes.report,
        frames_per_s=updates + traffic.connects + traffic.reports,
        messages=messages,
    )


def _some_here(load: Load, processes: int) -> float:
    """Return the share of all users of whom one connected friend, or more, is at a given gateway process."""
    here = load.connected / processes
    return 1.0 - (1.0 - here) ** load.friends


def shards(load: Load, traffic: Traffic, constants: Constants, processes: int, messages: float) -> Servers:
    """Return what the pub/sub shards take together, evenly loaded."""
    cost, sizes = constants.valkey, FrameSizes.of(load.codec, tls=load.tls)
    watched = processes * load.users * _some_here(load, processes)  # pairs of a channel and a gateway
    return Servers(
        cores=traffic.publishes * cost.publish.s
        + messages * cost.delivery.s
        + traffic.connects * load.friends * 2 * cost.subscribe.s,  # and unsubscribe
        memory_bytes=watched * cost.subscription.value,
        network_bytes_per_s=(traffic.publishes + messages) * sizes.published,
    )


def cache(load: Load, traffic: Traffic, constants: Constants) -> Servers:
    """Return what the primaries of the location cache take together."""
    cost, sizes = constants.valkey, FrameSizes.of(load.codec, tls=load.tls)
    entries = min(load.users, traffic.connections + traffic.connects * CACHE_TTL_S)
    reads = traffic.connects * (load.friends + 1)
    return Servers(
        cores=traffic.reports * cost.cache_write.s + reads * cost.cache_read.s,
        memory_bytes=entries * cost.cache_entry.value,
        network_bytes_per_s=(2 * traffic.reports + reads) * sizes.published,
    )


def streams(load: Load, traffic: Traffic, constants: Constants, outage_s: float) -> Servers:
    """Return what the history streams take together, with room for ``outage_s`` seconds without the store."""
    cost, sizes = constants.valkey, FrameSizes.of(load.codec, tls=load.tls)
    return Servers(
        cores=traffic.reports * (cost.stream_append.s + cost.stream_take.s),
        memory_bytes=traffic.reports * (load.linger_s + outage_s) * cost.stream_point.value,
        network_bytes_per_s=3 * traffic.reports * sizes.published,
    )


def rows_per_statement(load: Load) -> float:
    """Return how many points the history writer stores at once."""
    return max(1.0, min(ROWS_PER_STATEMENT, load.linger_s / load.interval_s))


def writers(load: Load, traffic: Traffic, constants: Constants) -> Servers:
    """Return what the history writers take together."""
    cost = constants.history
    rows = rows_per_statement(load)
    return Servers(
        cores=traffic.reports * (cost.writer_row.s + cost.writer_statement.s / rows),
        memory_bytes=traffic.reports * load.linger_s * cost.writer_point.value,
    )


def cassandra(load: Load, traffic: Traffic, constants: Constants, copies: int) -> Servers:
    """Return what the nodes take together, each row written by ``copies`` of them."""
    cost = constants.history
    rows = traffic.reports * copies
    kept = rows / load.peak_to_mean * load.retention_days * SECONDS_PER_DAY
    return Servers(
        cores=rows * (cost.node_row.s + cost.node_statement.s / rows_per_statement(load)),
        memory_bytes=0.0,
        disk_bytes=kept * cost.row_bytes.value,
    )


def api(traffic: Traffic, constants: Constants) -> Servers:
    """Return what the API processes take together."""
    cost = constants.api
    return Servers(traffic.rest * cost.request.s + traffic.connects * cost.friend_list.s, 0.0)


def database(load: Load, traffic: Traffic, constants: Constants) -> Servers:
    """Return what the user database takes."""
    cost = constants.api
    return Servers(
        cores=traffic.rest * cost.query.s + traffic.connects * cost.list_query.s,
        memory_bytes=0.0,
        disk_bytes=load.users * (cost.user_bytes.value + load.friends * cost.friendship_bytes.value),
    )
