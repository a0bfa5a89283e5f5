"""How messages are written on a connection: ``nearby.v1.json`` and ``nearby.v1.msgpack``, one object for each. Pure.

Both carry the same messages (``nearby/messages.py``) under the same checks. A friend's entry is written once for all
viewers, up to the distance, which comes last since each viewer has their own.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from nearby.messages import (
    CLIENT_TYPES,
    SERVER_TYPES,
    ClientMessage,
    InvalidMessage,
    LocationMessage,
    LocationPoint,
    ServerMessage,
)
from nearby.model import MAX_SEQ, GoneReason, UserId

_LOCATION_FIELDS = frozenset({"type", *LocationMessage.__struct_fields__})
_MAX_KEPT_M = 55_000
"""The widest radius of the protocol, and the way out of it."""
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Typed(msgspec.Struct):
    type: str


class _Ends(dict[int, bytes]):
    """Distances as they are written, each once: to write one anew takes four times as long as to look it up."""

    def __init__(self, write: Callable[[int], bytes]) -> None:
        super().__init__()
        self._write = write

    def __missing__(self, distance_m: int) -> bytes:
        written = self._write(distance_m)
        if distance_m < _MAX_KEPT_M:
            self[distance_m] = written
        return written


class Codec(ABC):
    """One way to write the messages.

    ``name`` is the subprotocol; ``binary`` says which frames it goes in. ``encode`` writes a message of either side.

    An entry up to the distance is cut from one whose last field is the distance 0, which takes the last ``zero_bytes``,
    and kept at ``place`` among those of other codecs. ``ends`` gives the distance, metres, as it is written, and
    whatever closes the entry. An update of one entry is ``one``, that entry up to the distance, and what
    ``ends_of_one`` gives.
    """

    name: str
    content_type: str
    binary: bool
    place: int
    zero_bytes: int
    _form: str
    encode: Callable[[object], bytes]
    one: bytes
    ends: Mapping[int, bytes]
    ends_of_one: Mapping[int, bytes]

    def __init__(self, decoder_of: type[msgspec.json.Decoder[Any]] | type[msgspec.msgpack.Decoder[Any]]) -> None:
        self._client_decoder: Callable[[bytes], ClientMessage] = decoder_of(ClientMessage).decode
        self._point_decoder: Callable[[msgspec.Raw], LocationPoint] = decoder_of(LocationPoint).decode
        self._server_decoder: Callable[[bytes], ServerMessage] = decoder_of(ServerMessage).decode
        self._type_decoder: Callable[[bytes], _Typed] = decoder_of(_Typed).decode

    def decode_client(self, data: bytes) -> ClientMessage:
        """Return the client message that ``data`` is.

        Raises:
            InvalidMessage: with the error code of protocol §4 and, where it can be read, the ``seq``.
        """
        try:
            return self._client_decoder(data)
        except _UNREADABLE as error:
            raise self._diagnose(data, str(error)) from error

    def decode_point(self, data: msgspec.Raw) -> LocationPoint:
        """Return one point of a batch.

        Raises:
            InvalidMessage: with code ``invalid_location``.
        """
        try:
            return self._point_decoder(data)
        except _UNREADABLE as error:
            raise InvalidMessage("invalid_location", str(error)) from error

    def decode_server(self, data: bytes) -> ServerMessage | None:
        """Return the server message that ``data`` is, or ``None`` if its type is newer than this library.

        Unknown fields are ignored, as protocol v1 asks of clients.

        Raises:
            msgspec.MsgspecError: not a message of this protocol.
            UnicodeDecodeError: a text in it is not UTF-8.
        """
        try:
            return self._server_decoder(data)
        except msgspec.ValidationError:
            if self._type_decoder(data).type in SERVER_TYPES:
                raise
            return None

    @abstractmethod
    def snapshot(self, friends: Sequence[bytes]) -> bytes:
        """Return a ``snapshot`` of whole entries."""

    @abstractmethod
    def update(self, friends: Sequence[bytes], gone: Mapping[UserId, GoneReason]) -> bytes | None:
        """Return an ``update`` of whole entries and of who has gone, or ``None`` if nothing changed."""

    @abstractmethod
    def _read_loosely(self, data: bytes) -> object:
        """Return ``data`` as far as ``type`` and ``seq`` can be told; raise an error if that cannot be done."""

    def _diagnose(self, data: bytes, problem: str) -> InvalidMessage:
        """Say what is wrong with a message that did not decode. Off the hot path, so it decodes again."""
        try:
            loose = self._read_loosely(data)
        except (ValueError, RecursionError):
            return InvalidMessage("invalid_message", f"not {self._form}")
        if not isinstance(loose, dict):
            return InvalidMessage("invalid_message", f"not {self._form}")
        kind, seq = loose.get("type"), _seq_of(loose.get("seq"))
        if not isinstance(kind, str):
            return InvalidMessage("invalid_message", "`type` is missing or not a string", seq)
        if kind not in CLIENT_TYPES:
            return InvalidMessage("unknown_type", f"unknown type {kind[:32]!r}", seq)
        bad_seq = loose.get("seq") is not None and seq is None
        if kind == "location" and not bad_seq and loose.keys() <= _LOCATION_FIELDS:
            return InvalidMessage("invalid_location", problem, seq)
        return InvalidMessage("invalid_message", problem, seq)


def _seq_of(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEQ:
        return value
    return None


# ------------------------------------------------------------------------------------------------ JSON


class _Json(Codec):
    """One object (RFC 8259) for each message."""

    name = "nearby.v1.json"
    content_type = "application/json"
    binary = False
    place = 0
    zero_bytes = len("0}")
    _form = "a JSON object in UTF-8"

    def __init__(self) -> None:
        super().__init__(msgspec.json.Decoder)
        self.encode = msgspec.json.Encoder().encode
        self.one = b'{"type":"update","friends":['
        self.ends = _Ends(b"%d}".__mod__)
        self.ends_of_one = _Ends(b"%d}]}".__mod__)

    def snapshot(self, friends: Sequence[bytes]) -> bytes:
        return b'{"type":"snapshot","friends":[%b]}' % b",".join(friends)

    def update(self, friends: Sequence[bytes], gone: Mapping[UserId, GoneReason]) -> bytes | None:
        if gone:
            left = b",".join(
                b'{"user_id":"%b","reason":"%b"}' % (user_id.encode(), reason.value.encode())
                for user_id, reason in gone.items()
            )
            if friends:
                return b'{"type":"update","friends":[%b],"gone":[%b]}' % (b",".join(friends), left)
            return b'{"type":"update","gone":[%b]}' % left
        if friends:
            return b'{"type":"update","friends":[%b]}' % b",".join(friends)
        return None

    def _read_loosely(self, data: bytes) -> object:
        """Read even numbers beyond a double, such as 1e999, which msgspec refuses unread."""
        return json.loads(data.decode(), parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


# ----------------------------------------------------------------------------------------- MessagePack


class _MessagePack(Codec):
    """One map with texts as keys for each message (https://github.com/msgpack/msgpack/blob/master/spec.md)."""

    name = "nearby.v1.msgpack"
    content_type = "application/vnd.msgpack"
    binary = True
    place = 1
    zero_bytes = 1
    _form = "a MessagePack map with strings as keys"

    def __init__(self) -> None:
        super().__init__(msgspec.msgpack.Decoder)
        encode = self.encode = msgspec.msgpack.Encoder().encode
        self.ends = self.ends_of_one = _Ends(encode)
        self._loose_decoder = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
        self._snapshot = b"\x82" + encode("type") + encode("snapshot") + encode("friends")
        update = encode("type") + encode("update")
        self._update = b"\x82" + update + encode("friends")
        self.one = self._update + _array_head(1)
        self._update_gone = b"\x82" + update + encode("gone")
        self._update_both = b"\x83" + update + encode("friends")
        self._gone = encode("gone")

    def snapshot(self, friends: Sequence[bytes]) -> bytes:
        return b"%b%b%b" % (self._snapshot, _array_head(len(friends)), b"".join(friends))

    def update(self, friends: Sequence[bytes], gone: Mapping[UserId, GoneReason]) -> bytes | None:
        if gone:
            left = self.encode([{"user_id": user_id, "reason": reason.value} for user_id, reason in gone.items()])
            if friends:
                head = self._update_both + _array_head(len(friends))
                return b"%b%b%b%b" % (head, b"".join(friends), self._gone, left)
            return self._update_gone + left
        if friends:
            return b"%b%b%b" % (self._update, _array_head(len(friends)), b"".join(friends))
        return None

    def _read_loosely(self, data: bytes) -> object:
        """Read ``type`` and ``seq`` alone: whatever else is there may be anything at all."""
        return {name: _plain(value) for name, value in self._loose_decoder.decode(data).items()}


def _array_head(length: int) -> bytes:
    if length < 16:
        return bytes([0x90 | length])
    if length < 1 << 16:
        return b"\xdc" + length.to_bytes(2, "big")
    return b"\xdd" + length.to_bytes(4, "big")


_plain_decoder = msgspec.msgpack.Decoder(int | str | None)


def _plain(value: msgspec.Raw) -> object:
    """Return an integer, a text or ``None`` as it is, and anything else as itself."""
    try:
        return _plain_decoder.decode(value)
    except _UNREADABLE:
        return value


JSON: Final[Codec] = _Json()
MESSAGE_PACK: Final[Codec] = _MessagePack()
CODECS: Final[Mapping[str, Codec]] = {codec.name: codec for codec in (MESSAGE_PACK, JSON)}
"""By name, the shorter one first."""
