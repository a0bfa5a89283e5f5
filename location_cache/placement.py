"""Which key a user's record has, and which keys may travel in one run of a script. Pure.

In a Cluster the keys of one script must lie in one hash slot. So users are dealt to :data:`BUCKETS` buckets by the
hash of their id, and the keys of a bucket share a hash tag and with it a slot (docs/adr/0007). The tags are chosen so
that the slots lie evenly spaced, one in each :data:`BUCKETS`-th part of the Cluster's range: primaries that hold ranges
of equal size hold as many buckets as each other, or one more.

Invariant: positions of one user stand in their order, in one group or in groups in their order.
"""

from __future__ import annotations

import functools
import itertools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nearby.model import UserId
from redis_topology.slots import SLOTS, slot_of

BUCKETS = 64


@dataclass(frozen=True, slots=True)
class Group:
    """Keys for one run of a script, and the positions of their users in what was asked."""

    keys: list[bytes]
    positions: list[int]


Placement = Callable[[Sequence[UserId], int], list[Group]]
"""Splits users into groups of a given size at most."""


def together(user_ids: Sequence[UserId], size: int) -> list[Group]:
    """Group users where one server holds every key."""
    return [
        Group(
            [b"loc:" + user_id.encode() for user_id in user_ids[start : start + size]],
            list(range(start, min(start + size, len(user_ids)))),
        )
        for start in range(0, len(user_ids), size)
    ]


def clustered(user_ids: Sequence[UserId], size: int) -> list[Group]:
    """Group users by their bucket."""
    prefixes = _prefixes()
    filling: dict[int, Group] = {}
    groups: list[Group] = []
    for position, user_id in enumerate(user_ids):
        encoded = user_id.encode()
        bucket = zlib.crc32(encoded) % BUCKETS
        group = filling.get(bucket)
        if group is None or len(group.keys) == size:
            group = filling[bucket] = Group([], [])
            groups.append(group)
        group.keys.append(prefixes[bucket] + encoded)
        group.positions.append(position)
    return groups


@functools.cache
def _prefixes() -> list[bytes]:
    """Return what keys begin with, by bucket."""
    width = SLOTS // BUCKETS
    found: dict[int, bytes] = {}
    for number in itertools.count():
        tag = b"%d" % number
        found.setdefault(slot_of(tag) // width, tag)
        if len(found) == BUCKETS:
            return [b"loc:{%b}" % found[bucket] for bucket in range(BUCKETS)]
    raise AssertionError
