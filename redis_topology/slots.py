"""The hash slots of a Cluster. Pure."""

from __future__ import annotations

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

SLOTS = REDIS_CLUSTER_HASH_SLOTS


def slot_of(key: bytes) -> int:
    """Return the hash slot of ``key``: of what stands in its first braces, if anything does."""
    return key_slot(key)
