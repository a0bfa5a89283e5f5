"""Placement on the ring: even, the same for ever, and stable when shards come and go."""

from __future__ import annotations

from collections import Counter
from hashlib import md5

import pytest
from uhashring import HashRing

from nearby.ring import PARTITIONS, VIRTUAL_NODES, Ring, partition_of


def ring_of(count: int, epoch: int = 1) -> Ring:
    return Ring.of(epoch, {f"shard-{n}": f"redis://10.0.0.{n}:6379" for n in range(1, count + 1)})


def test_golden_vectors_pin_the_placement_across_versions() -> None:
    ring = ring_of(3)
    channels = [b"loc:00000000-0000-4000-8000-%012d" % n for n in range(6)]
    assert [partition_of(channel) for channel in channels] == [36664, 49070, 60948, 56962, 19233, 31671]
    assert [ring.slot_of(channel) for channel in channels] == [
        "shard-1",
        "shard-3",
        "shard-1",
        "shard-1",
        "shard-3",
        "shard-2",
    ]


def test_the_table_is_what_uhashring_says_of_partitions_that_stand_evenly_spaced() -> None:
    ring = ring_of(5)

    def position(key: str) -> int:
        return int(key) << 112 if key.isdigit() else int.from_bytes(md5(key.encode()).digest())

    reference = HashRing(nodes=list(ring.slots), vnodes=VIRTUAL_NODES, hash_fn=position)
    for partition in range(0, PARTITIONS, 7):
        assert ring.slots[ring.table[partition]] == reference.get_node(str(partition))


@pytest.mark.parametrize("count", [1, 3, 4, 8, 16, 36, 75, 100, 128, 150])
def test_the_fullest_shard_carries_at_most_a_fifth_more_than_the_mean(count: int) -> None:
    counts = ring_of(count).partition_counts()
    assert sum(counts.values()) == PARTITIONS
    assert max(counts.values()) <= 1.2 * PARTITIONS / count


def test_adding_a_shard_moves_partitions_to_it_alone() -> None:
    before, after = ring_of(3), ring_of(4)
    moved = 0
    for partition in range(PARTITIONS):
        old, new = before.slots[before.table[partition]], after.slots[after.table[partition]]
        if old != new:
            moved += 1
            assert new == "shard-4"
    assert 0.8 / 4 <= moved / PARTITIONS <= 1.2 / 4


def test_a_new_address_moves_nothing() -> None:
    nodes = {"a": "redis://one:1", "b": "redis://two:2"}
    assert Ring.of(1, nodes).table == Ring.of(2, {**nodes, "a": "redis://three:3"}).table


@pytest.mark.parametrize("count", [3, 36, 150])
def test_a_million_channels_are_spread_as_evenly_as_the_partitions(count: int) -> None:
    ring = ring_of(count)
    counts = Counter(ring.slot_of(b"loc:%036x" % n) for n in range(1_000_000))
    assert max(counts.values()) <= 1.2 * 1_000_000 / count
