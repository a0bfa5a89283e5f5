"""The few commands of the Redis protocol that pub/sub needs, encoded. Pure.

Source: the RESP specification, https://redis.io/docs/latest/develop/reference/protocol-spec/. Replies are parsed by
hiredis. Protocol 3 lets one connection subscribe and publish at the same time; with protocol 2 it would take two.
"""

from __future__ import annotations

from collections.abc import Sequence


def command(*words: bytes) -> bytes:
    """Return one command, an array of bulk strings."""
    return b"*%d\r\n%b" % (len(words), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words]))


def publish(channel: bytes, payload: bytes) -> bytes:
    """Return ``PUBLISH channel payload``, in one formatting step because it is on the hot path."""
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(channel), channel, len(payload), payload)


def subscribe(channels: Sequence[bytes]) -> bytes:
    """Return ``SUBSCRIBE`` for all of ``channels``."""
    return command(b"SUBSCRIBE", *channels)


def unsubscribe(channels: Sequence[bytes]) -> bytes:
    """Return ``UNSUBSCRIBE`` for all of ``channels``."""
    return command(b"UNSUBSCRIBE", *channels)


HELLO = command(b"HELLO", b"3")
