"""Members, rings and actions as JSON: what every implementation of discovery stores, and what makes a ring good."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from nearby.errors import RingError
from nearby.ports import Member, RingAction, RingState

MAX_ACTIONS = 200
"""How many actions are remembered."""

_ADDRESSES = "unix:///PATH or redis://HOST:PORT"

_log = logging.getLogger(__name__)
_encoder = msgspec.json.Encoder()
_ring_decoder = msgspec.json.Decoder(RingState)
_member_decoder = msgspec.json.Decoder(Member)
_actions_decoder = msgspec.json.Decoder(list[RingAction])


def encode_ring(ring: RingState) -> bytes:
    """Return ``ring`` as the JSON object ``{"epoch", "nodes", "pending", "previous", "spares"}``.

    Raises:
        RingError: ``ring`` must not be used; see :func:`check_ring`.
    """
    check_ring(ring)
    return _encoder.encode(ring)


def decode_ring(data: bytes) -> RingState:
    """Return the ring in ``data``; unknown fields are ignored, since a newer process may have written them.

    Raises:
        RingError: ``data`` is not a ring, or one that must not be used.
    """
    try:
        ring = _ring_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RingError(f"not a ring: {error}") from error
    check_ring(ring)
    return ring


def check_ring(ring: RingState) -> None:
    """Refuse a ring that is empty or malformed, itself or in its pending or previous part.

    Raises:
        RingError: an epoch below 1, no nodes, a nameless slot, an address that is neither ``unix:///PATH``
            nor ``redis://HOST:PORT``, or a spare that is there twice or is a node already.
    """
    if ring.epoch < 1:
        raise RingError(f"epoch {ring.epoch} is below 1")
    _check_nodes("nodes", ring.nodes)
    if ring.pending is not None:
        _check_nodes("pending nodes", ring.pending)
    if ring.previous is not None:
        _check_nodes("previous nodes", ring.previous)
    _check_spares(ring)


def _check_nodes(what: str, nodes: Mapping[str, str]) -> None:
    if not nodes:
        raise RingError(f"no {what}")
    for slot, address in nodes.items():
        if not slot:
            raise RingError(f"a slot without a name among the {what}")
        if not _is_address(address):
            raise RingError(f"slot {slot!r} of the {what} has address {address!r}; allowed: {_ADDRESSES}")


def _check_spares(ring: RingState) -> None:
    for spare in ring.spares:
        if not _is_address(spare):
            raise RingError(f"spare {spare!r} is no address; allowed: {_ADDRESSES}")
    if len(set(ring.spares)) < len(ring.spares):
        raise RingError("a spare is there twice")
    used = set(ring.spares).intersection(ring.nodes.values())
    if used:
        raise RingError(f"spare {min(used)} is a node already")


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    if parts.query or parts.fragment or any(character.isspace() for character in address):
        return False
    if parts.scheme == "unix":
        return not parts.netloc and len(parts.path) > 1
    return (
        parts.scheme == "redis" and bool(parts.hostname) and bool(port) and not parts.path and "@" not in parts.netloc
    )


def encode_member(member: Member) -> bytes:
    """Return ``member`` as one JSON object."""
    return _encoder.encode(member)


def decode_member(data: bytes) -> Member:
    """Return the member in ``data``; unknown fields are ignored.

    Raises:
        msgspec.MsgspecError: ``data`` is not a member.
    """
    return _member_decoder.decode(data)


def encode_actions(actions: Sequence[RingAction]) -> bytes:
    """Return the newest :data:`MAX_ACTIONS` of ``actions``, which are oldest first, as a JSON array."""
    return _encoder.encode(actions[-MAX_ACTIONS:])


def readable_actions(data: bytes | None) -> list[RingAction]:
    """Return the actions in ``data``, oldest first; unknown fields are ignored.

    None where there is no data. What is unreadable is logged and given up: the past of a ring must not stand in
    the way of its repair.
    """
    if not data:
        return []
    try:
        return _actions_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _log.warning("the past actions on the ring are unreadable: %s", error)
        return []
