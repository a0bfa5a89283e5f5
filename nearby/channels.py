"""Names of the pub/sub channels. Bytes, because that is what the wire of the pub/sub servers carries.

A client never names a channel: the gateway derives each from the friend graph (security S3).
"""

from __future__ import annotations

from nearby.model import UserId

_LOCATION = b"loc:"
_CONTROL = b"ctl:"
_PROBE = b"probe:"
_APPROXIMATE = b":approx"


def location_channel(user_id: UserId) -> bytes:
    """Return the channel that carries the exact location records of ``user_id``."""
    return _LOCATION + user_id.encode()


def approximate_channel(user_id: UserId) -> bytes:
    """Return the channel that carries the approximate location records of ``user_id``, and never an exact one."""
    return _LOCATION + user_id.encode() + _APPROXIMATE


def control_channel(user_id: UserId) -> bytes:
    """Return the channel that carries changes of the social graph that concern ``user_id``."""
    return _CONTROL + user_id.encode()


def probe_channel(member: str) -> bytes:
    """Return the channel on which ``member`` probes its own connection to a shard."""
    return _PROBE + member.encode()


def is_location(channel: bytes) -> bool:
    """Whether ``channel`` carries location records, exact or approximate."""
    return channel.startswith(_LOCATION)


def is_approximate(channel: bytes) -> bool:
    """Whether ``channel`` carries approximate location records."""
    return channel.endswith(_APPROXIMATE)


def user_of(channel: bytes) -> UserId:
    """Return the user of a location or control channel."""
    return UserId(channel[4:].removesuffix(_APPROXIMATE).decode())
