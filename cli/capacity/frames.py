"""How many bytes travel, from the very messages that are sent. Pure.

The headers of each frame are those of one TCP segment: updates of different viewers, and of one viewer at different
times, do not share any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nearby.channels import location_channel
from nearby.codecs import JSON, MESSAGE_PACK
from nearby.messages import Ack, FriendEntry, LocationMessage, Update
from nearby.model import UserId
from nearby.record import SIZE_BYTES

TCP_IP_BYTES = 20 + 12 + 20
"""TCP with time stamps, and IPv4."""
TLS_BYTES = 5 + 17
"""A record of TLS 1.3: its header, its type and its tag."""
_LONG_FRAME = 126
_CODECS = {"json": JSON, "msgpack": MESSAGE_PACK}
_USER = UserId("8c1d0a4e-55d2-4c9e-9d0b-0c8f6a1d2e3f")
_NOW_MS = 1_790_000_000_000
_ENTRY = FriendEntry(_USER, 41.8781137, -87.6297982, 1834, _NOW_MS, "exact", 12.5, 1.4, 270.0)
_REPORT = LocationMessage(41.8781137, -87.6297982, 12.5, 1.4, 270.0, _NOW_MS, _NOW_MS, 1834)
_ACK = Ack(1834, _NOW_MS, live=True)
_RESP_BYTES = 32
"""What RESP adds to a PUBLISH and to a message of a channel, about: lengths, line ends, the name of the command."""


@dataclass(frozen=True, slots=True)
class FrameSizes:
    """Bytes on the wire: a friend's entry in a frame of its own, each further one, a report, its acknowledgement.

    ``published``: what goes to a shard and from there to each gateway.
    """

    delivery: int
    entry: int
    report: int
    ack: int
    published: int

    @classmethod
    def of(cls, codec: Literal["json", "msgpack"], *, tls: bool) -> FrameSizes:
        """Return the sizes of typical messages in which everything is told that a phone knows."""
        encode = _CODECS[codec].encode
        headers = TCP_IP_BYTES + (TLS_BYTES if tls else 0)
        one, two = len(encode(Update([_ENTRY]))), len(encode(Update([_ENTRY, _ENTRY])))
        return cls(
            delivery=headers + _framed(one),
            entry=two - one,
            report=headers + _framed(len(encode(_REPORT)), masked=True),
            ack=headers + _framed(len(encode(_ACK))),
            published=TCP_IP_BYTES + _RESP_BYTES + len(location_channel(_USER)) + SIZE_BYTES,
        )


def _framed(payload_bytes: int, *, masked: bool = False) -> int:
    """Return the size of a WebSocket frame (RFC 6455, section 5.2)."""
    return payload_bytes + (2 if payload_bytes < _LONG_FRAME else 4) + (4 if masked else 0)
