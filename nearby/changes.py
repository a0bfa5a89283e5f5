"""Changes of the social graph as gateways hear of them: on control channels, and again in the change feed.

Both ways carry the same message, and it says everything that is needed to enforce it, so that a removal
holds even if the API dies right after answering. ``sequence`` is the row of the change feed: whoever applies
changes ignores one that is not newer than what they know of the same object, so each may arrive twice and
out of order.
"""

from __future__ import annotations

import msgspec

from nearby.model import UserId
from nearby.sharing import EXACT, NO_LIMITS, Limits, TierPlan


class FriendshipChanged(msgspec.Struct, frozen=True, omit_defaults=True, tag="friendship", tag_field="kind"):
    """``user_id`` and ``friend_id`` became friends or ceased to be, or one shows themselves otherwise to the other.

    It tells all that is true of the two at that moment: whether each of them shares at all and within which limits,
    and how exactly each lets the other see them.
    """

    sequence: int
    user_id: UserId
    friend_id: UserId
    friends: bool
    user_sharing: bool
    friend_sharing: bool
    user_limits: Limits = NO_LIMITS
    friend_limits: Limits = NO_LIMITS
    user_shows: TierPlan = EXACT
    friend_shows: TierPlan = EXACT


class SharingChanged(msgspec.Struct, frozen=True, omit_defaults=True, tag="sharing", tag_field="kind"):
    """``user_id`` paused or resumed sharing with everyone, or set other limits for everyone."""

    sequence: int
    user_id: UserId
    sharing: bool
    limits: Limits = NO_LIMITS


class TokensRevoked(msgspec.Struct, frozen=True, tag="tokens_revoked", tag_field="kind"):
    """Access tokens of ``user_id`` issued before ``valid_from_ms`` are no longer good."""

    sequence: int
    user_id: UserId
    valid_from_ms: int


class HistoryRetentionChanged(msgspec.Struct, frozen=True, tag="history_retention", tag_field="kind"):
    """The points of ``user_id`` are kept for ``retention_s`` seconds; 0: not at all, null: as long as by default."""

    sequence: int
    user_id: UserId
    retention_s: int | None


class Unreadable(msgspec.Struct, frozen=True, tag="unreadable", tag_field="kind"):
    """A change of a kind that only newer processes know. It keeps its place in the feed, which goes on behind it."""

    sequence: int


Change = FriendshipChanged | SharingChanged | TokensRevoked | HistoryRetentionChanged | Unreadable


class _Row(msgspec.Struct):
    sequence: int


_encoder = msgspec.json.Encoder()
_row_decoder = msgspec.json.Decoder(_Row)
_decoder: msgspec.json.Decoder[Change] = msgspec.json.Decoder(Change)


def encode(change: Change) -> bytes:
    """Return ``change`` as JSON."""
    return _encoder.encode(change)


def decode(data: bytes | str) -> Change:
    """Return the change in ``data``.

    Raises:
        msgspec.MsgspecError: ``data`` is not a change of a kind we know.
    """
    return _decoder.decode(data)


def decode_row(data: bytes | str | msgspec.Raw, sequence: int | None = None) -> Change:
    """Return the change in ``data``, a row of the feed, under ``sequence`` if the row itself does not tell.

    What is of a kind that we do not know comes as :class:`Unreadable`.

    Raises:
        msgspec.MsgspecError: ``data`` is not even a row.
    """
    try:
        change = _decoder.decode(data)
    except msgspec.ValidationError:
        change = Unreadable(_row_decoder.decode(data).sequence)
    return change if sequence is None else msgspec.structs.replace(change, sequence=sequence)


def concerns(change: Change) -> tuple[UserId, ...]:
    """Return the users named in ``change``; friends of a user who pauses are not among them."""
    match change:
        case FriendshipChanged():
            return change.user_id, change.friend_id
        case SharingChanged() | TokensRevoked() | HistoryRetentionChanged():
            return (change.user_id,)
        case Unreadable():
            return ()
