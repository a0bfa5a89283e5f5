"""What each thing was measured to cost: the figures of the model, all in one place, to be measured anew and put here.

Costs are CPU time on a shared virtual machine with two cores, of which each process had as much as it asked for.
`docs/capacity.md` tells how each was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

CHECK = "python -m benchmarks.capacity_check"
PUBLISHED = f"{CHECK} --published 10000"
VALKEY = "python -m benchmarks.valkey_costs"
WRITER = "python -m benchmarks.history_writer"
API = "python -m benchmarks.social_api"
BENCHMARKS = "python -m benchmarks"
ENTRIES = "python -m benchmarks.entry_memory"
ESTIMATE = "estimated"
DATE = "2026-11-21"

Unit = Literal["µs", "µs/s", "s", "bytes"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A ``value`` in ``unit``, ``what`` costs it, and the ``source``: the command that measured it."""

    value: float
    unit: Unit
    what: str
    source: str
    date: str = DATE

    @property
    def s(self) -> float:
        """Seconds, of a constant in microseconds."""
        return self.value / 1e6


@dataclass(frozen=True, slots=True)
class GatewayConstants:
    """A gateway process. ``wake`` counts while it is mostly idle: under load one wake-up does for many reports."""

    process: Constant
    idle: Constant
    report: Constant
    wake: Constant
    wake_s: Constant
    message: Constant
    delivery: Constant
    entry: Constant
    connect: Constant
    base_bytes: Constant
    connection: Constant
    subscription: Constant
    friend: Constant


@dataclass(frozen=True, slots=True)
class ValkeyConstants:
    """Valkey servers: pub/sub shards, the location cache, the history stream."""

    publish: Constant
    delivery: Constant
    subscribe: Constant
    subscription: Constant
    cache_write: Constant
    cache_read: Constant
    cache_entry: Constant
    stream_append: Constant
    stream_take: Constant
    stream_point: Constant


@dataclass(frozen=True, slots=True)
class HistoryConstants:
    """History writers and Cassandra nodes. Each row costs something, and each statement, which has one or more."""

    writer_row: Constant
    writer_statement: Constant
    writer_point: Constant
    node_row: Constant
    node_statement: Constant
    row_bytes: Constant


@dataclass(frozen=True, slots=True)
class ApiConstants:
    """API processes and the user database."""

    request: Constant
    friend_list: Constant
    query: Constant
    list_query: Constant
    user_bytes: Constant
    friendship_bytes: Constant


@dataclass(frozen=True, slots=True)
class Constants:
    """All of them."""

    gateway: GatewayConstants
    valkey: ValkeyConstants
    history: HistoryConstants
    api: ApiConstants


def _gateway(message: float, delivery: float, entry: float, source: str, merged_source: str) -> GatewayConstants:
    return GatewayConstants(
        process=Constant(12_000, "µs/s", "a gateway process without connections", CHECK),
        idle=Constant(5, "µs/s", "a connection that does nothing", CHECK),
        report=Constant(40, "µs", "a report: decoded, checked, to cache, stream and shard, answered", CHECK),
        wake=Constant(
            1_200, "µs", "waking up for a report and for what follows from it, if there is nothing else", CHECK
        ),
        wake_s=Constant(0.008, "s", "reports that are closer together than this share their wake-ups", CHECK),
        message=Constant(message, "µs", "a location from a shard, for all who watch it here", source),
        delivery=Constant(delivery, "µs", "a friend's entry in a frame of its own", source),
        entry=Constant(
            entry, "µs", "a further entry in a frame, or a comparison of which nothing comes", merged_source
        ),
        connect=Constant(600, "µs", "upgrade, token, friend list, 40 subscriptions, snapshot", BENCHMARKS),
        base_bytes=Constant(80e6, "bytes", "a gateway process without connections", CHECK),
        connection=Constant(18_000, "bytes", "a connection without friends", CHECK),
        subscription=Constant(60, "bytes", "a friend of a connection", CHECK),
        friend=Constant(1_650, "bytes", "a friend who is watched at a gateway process, by however many", ENTRIES),
    )


_VALKEY = ValkeyConstants(
    publish=Constant(4.0, "µs", "a PUBLISH", VALKEY),
    delivery=Constant(1.6, "µs", "a message to one gateway process", VALKEY),
    subscribe=Constant(0.8, "µs", "a channel that is subscribed, or unsubscribed", VALKEY),
    subscription=Constant(36, "bytes", "a channel of one gateway process, with the 40th part of the channel", VALKEY),
    cache_write=Constant(19.5, "µs", "a location written if it is newer", VALKEY),
    cache_read=Constant(2.4, "µs", "a location read, of forty in one call", VALKEY),
    cache_entry=Constant(91, "bytes", "a location in the cache", VALKEY),
    stream_append=Constant(9.0, "µs", "a point appended", VALKEY),
    stream_take=Constant(4.0, "µs", "a point read by a writer, acknowledged and deleted", WRITER),
    stream_point=Constant(75, "bytes", "a point that waits", VALKEY),
)
_HISTORY = HistoryConstants(
    # 95 µs in a statement of its own, 19.8 µs as one of ten: w + s = 95, w + s / 10 = 19.8.
    writer_row=Constant(11.4, "µs", "a row of a statement", WRITER),
    writer_statement=Constant(83.6, "µs", "a statement", WRITER),
    writer_point=Constant(1_000, "bytes", "a point that lingers in a writer", "docs/configuration.md"),
    # What the driver alone leaves over of two cores: 174 µs for one row, 25 µs as one of ten.
    node_row=Constant(8.4, "µs", "a row of a statement, at each of its copies", WRITER),
    node_statement=Constant(165.6, "µs", "a statement, at each of its copies", WRITER),
    row_bytes=Constant(40, "bytes", "a row on disk, compressed, in one copy", ESTIMATE),
)
_API = ApiConstants(
    request=Constant(466, "µs", "a page of 40 friends over REST, as one request of many kinds", API),
    friend_list=Constant(98, "µs", "a friend list of 40 for a gateway", API),
    query=Constant(100, "µs", "what the database takes for that page, no more than this", API),
    list_query=Constant(60, "µs", "what the database takes for that list, no more than this", API),
    user_bytes=Constant(600, "bytes", "a user with their indexes", ESTIMATE),
    friendship_bytes=Constant(250, "bytes", "a friendship, on one of its two sides, with its indexes", ESTIMATE),
)
COMPILED = Constants(_gateway(9.0, 4.7, 0.85, PUBLISHED, BENCHMARKS), _VALKEY, _HISTORY, _API)
"""Gateways from the wheel, whose fan-out is compiled."""
INTERPRETED = Constants(_gateway(12.0, 8.0, 2.5, ESTIMATE, ESTIMATE), _VALKEY, _HISTORY, _API)
"""Gateways of a checkout, or of a wheel that was built without a C compiler."""


def measured(constants: Constants) -> Iterator[tuple[str, Constant]]:
    """Yield every constant with its name, ``gateway.report`` and so on."""
    for part in fields(constants):
        group = getattr(constants, part.name)
        for one in fields(group):
            yield f"{part.name}.{one.name}", getattr(group, one.name)
