"""Both codecs carry the same messages; MessagePack that JSON could not say is refused, and nothing else is raised."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearby.codecs import CODECS, JSON, MESSAGE_PACK, Codec
from nearby.messages import (
    AuthMessage,
    BatchMessage,
    ClientMessage,
    Error,
    FriendEntry,
    GoneEntry,
    InvalidMessage,
    LocationMessage,
    LocationPoint,
    PingMessage,
    Pong,
    ResyncMessage,
    ServerMessage,
    SettingsMessage,
    Snapshot,
    Update,
)
from nearby.model import GoneReason, UserId
from tests.nearby.test_messages import FULL_LOCATION, GOLDEN

pack = msgspec.msgpack.encode
GOLDEN_MSGPACK = Path(__file__).parent / "golden_msgpack.json"
"""In hexadecimal digits, by the JSON of the same message."""


def outcome(codec: Codec, data: bytes) -> object:
    """Return what ``data`` is to the server, or the code and the ``seq`` with which it is refused."""
    try:
        message = codec.decode_client(data)
    except InvalidMessage as refused:
        codec.encode(Error(refused.code, refused.detail, refused.seq))
        return refused.code, refused.seq
    if isinstance(message, BatchMessage):
        return message.seq, [point_outcome(codec, point) for point in message.points]
    return message


def point_outcome(codec: Codec, data: msgspec.Raw) -> LocationPoint | str:
    try:
        return codec.decode_point(data)
    except InvalidMessage as refused:
        return refused.code


def refusal(data: bytes) -> object:
    found = outcome(MESSAGE_PACK, data)
    assert isinstance(found, tuple), found
    return found


def location(**changed: Any) -> bytes:
    return pack(FULL_LOCATION | changed)


# ------------------------------------------------------------------------------------- the same in both

_LAT, _LON = st.floats(-90, 90), st.floats(-180, 180)
_MS = st.integers(0, 2**53 - 1)
_POINT: dict[str, Any] = {
    "lat": _LAT,
    "lon": _LON,
    "accuracy_m": st.none() | st.floats(0, 100_000),
    "speed_mps": st.none() | st.floats(0, 500),
    "heading_deg": st.none() | st.floats(0, 360, exclude_max=True),
    "recorded_at_ms": st.none() | _MS,
    "sent_at_ms": st.none() | _MS,
}
_CLIENT_MESSAGES: st.SearchStrategy[ClientMessage] = st.one_of(
    st.builds(LocationMessage, **_POINT, seq=st.none() | _MS),
    st.builds(SettingsMessage, st.floats(50, 50_000)),
    st.just(ResyncMessage()),
    st.builds(PingMessage, st.text(max_size=64) | st.integers(-(2**53) + 1, 2**53 - 1)),
    st.builds(AuthMessage, st.text()),
)
_ENTRIES = st.builds(
    FriendEntry,
    st.text(),
    _LAT,
    _LON,
    st.integers(0, 2**31),
    _MS,
    st.sampled_from(["exact", "approximate"]),
    *3 * [st.none() | st.floats(0, 1e6)],
)
_GONE = st.dictionaries(st.uuids().map(str).map(UserId), st.sampled_from(GoneReason), max_size=20)


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
@given(message=_CLIENT_MESSAGES)
def test_the_server_understands_what_a_client_says(codec: Codec, message: ClientMessage) -> None:
    assert codec.decode_client(codec.encode(message)) == message


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
@given(points=st.lists(st.builds(LocationPoint, **_POINT), min_size=1, max_size=20), seq=_MS)
def test_the_server_understands_a_batch(codec: Codec, points: list[LocationPoint], seq: int) -> None:
    raw = [msgspec.Raw(codec.encode(point)) for point in points]
    assert outcome(codec, codec.encode(BatchMessage(raw, seq))) == (seq, points)


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
@given(friends=st.lists(_ENTRIES, max_size=40), gone=_GONE)
def test_a_frame_of_entries_written_ahead_is_that_of_the_message(
    codec: Codec, friends: list[FriendEntry], gone: dict[UserId, GoneReason]
) -> None:
    entries = []
    for friend in friends:
        fields = {name: value for name, value in msgspec.structs.asdict(friend).items() if value is not None}
        distance_m = fields.pop("distance_m")
        entries.append(codec.encode({**fields, "distance_m": 0})[: -codec.zero_bytes] + codec.ends[distance_m])
    assert codec.decode_server(codec.snapshot(entries)) == Snapshot(friends)
    update = codec.update(entries, gone)
    if not friends and not gone:
        assert update is None
    else:
        assert update is not None
        left = [GoneEntry(user_id, reason.value) for user_id, reason in gone.items()]
        assert codec.decode_server(update) == Update(friends, left)


@pytest.mark.parametrize("length", [0, 15, 16, 65_535, 65_536])
def test_a_map_of_any_size_is_written(length: int) -> None:
    snapshot = msgspec.msgpack.decode(MESSAGE_PACK.snapshot([pack({"distance_m": 70_000})] * length))
    assert snapshot == {"type": "snapshot", "friends": [{"distance_m": 70_000}] * length}


@pytest.mark.parametrize(("message", "data"), GOLDEN, ids=[data[:40] for _, data in GOLDEN])
def test_the_server_says_exactly_this_in_messagepack(message: ServerMessage, data: str) -> None:
    expected = json.loads(GOLDEN_MSGPACK.read_text())[data]
    assert MESSAGE_PACK.encode(message).hex() == expected
    assert MESSAGE_PACK.decode_server(bytes.fromhex(expected)) == message
    assert msgspec.msgpack.decode(bytes.fromhex(expected)) == json.loads(data)


_JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
_FIELDS = st.sampled_from(["type", "seq", "points", "radius_m", "id", "token", *FULL_LOCATION])
_TYPES = st.sampled_from(["location", "batch", "settings", "resync", "ping", "auth", "other"])
_NEARLY_MESSAGES = st.builds(
    lambda fields, kind: fields | {"type": kind}, st.dictionaries(_FIELDS, _JSON_VALUES), _TYPES
)


@settings(max_examples=1_000, deadline=None)
@given(_NEARLY_MESSAGES | _JSON_VALUES | st.builds(lambda changed: FULL_LOCATION | changed, _NEARLY_MESSAGES))
def test_what_one_codec_takes_or_refuses_the_other_does_just_so(value: object) -> None:
    assert outcome(MESSAGE_PACK, pack(value)) == outcome(JSON, json.dumps(value).encode())


# ----------------------------------------------------------------------------------- hostile MessagePack

NAN, INFINITY = float("nan"), float("inf")
NOTHING = ("invalid_message", None)
NOT_SAID = msgspec.msgpack.Ext(5, b"x")


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY, b"1", NOT_SAID, msgspec.msgpack.Ext(-1, b"\1\1\1\1")])
@pytest.mark.parametrize("field", ["lat", "lon", "accuracy_m", "speed_mps", "heading_deg", "recorded_at_ms"])
def test_what_json_has_no_word_for_is_no_location(field: str, value: object) -> None:
    assert refusal(location(**{field: value})) == ("invalid_location", 7)


@pytest.mark.parametrize("value", [NAN, INFINITY, b"1", NOT_SAID, 1.0])
def test_nor_is_it_a_seq(value: object) -> None:
    assert refusal(location(seq=value)) == NOTHING


@pytest.mark.parametrize(
    "point", [{"lat": NAN, "lon": 1}, {"lat": 1, "lon": INFINITY}, {"lat": b"1", "lon": 1}, {1: 2}, NOT_SAID, b"point"]
)
def test_nor_is_it_a_point_of_a_batch(point: object) -> None:
    good = {"lat": 1.0, "lon": 2.0}
    batch = pack({"type": "batch", "points": [point, good], "seq": 3})
    assert outcome(MESSAGE_PACK, batch) == (3, ["invalid_location", LocationPoint(1.0, 2.0)])


@pytest.mark.parametrize(
    ("message", "seq"),
    [
        ({"type": "settings", "radius_m": NAN, "seq": 7}, 7),
        ({"type": "settings", "radius_m": INFINITY}, None),
        ({"type": "ping", "id": b"bytes"}, None),
        ({"type": "ping", "id": NOT_SAID}, None),
        ({"type": "auth", "token": b"token"}, None),
        ({"type": b"resync"}, None),
        ({"type": NOT_SAID, "seq": 7}, 7),
        ({b"type": "resync"}, None),
        ({"type": "resync", 1: 2}, None),
        ({1: 2}, None),
        ({"type": "batch", "points": b"bytes", "seq": 7}, 7),
        (["resync"], None),
        (b"resync", None),
        (NOT_SAID, None),
    ],
)
def test_the_wrong_kind_of_value_is_an_invalid_message(message: object, seq: int | None) -> None:
    assert refusal(pack(message)) == ("invalid_message", seq)


def test_a_type_we_do_not_know_is_told_with_the_seq_whatever_else_is_there() -> None:
    assert refusal(pack({"type": "subscribe", "seq": 3, "to": NOT_SAID})) == ("unknown_type", 3)


def test_of_a_key_given_twice_the_last_counts_as_in_json() -> None:
    twice = b"\x84" + pack("type") + pack("location") + pack("lat") + pack(1) + pack("lon") + pack(2)
    for lat in (3, 91):
        found = outcome(MESSAGE_PACK, twice + pack("lat") + pack(lat))
        assert found == outcome(JSON, b'{"type":"location","lat":1,"lon":2,"lat":%d}' % lat)
    types = b"\x82" + pack("type") + pack("resync") + pack("type") + pack("ping")
    assert outcome(MESSAGE_PACK, types) == outcome(JSON, b'{"type":"resync","type":"ping"}')


def claiming(head: bytes, count_format: str, count: int) -> list[bytes]:
    """Something that claims a huge length: alone, as the points of a batch and as a coordinate."""
    claim = head + struct.pack(count_format, count)
    batch = b"\x82" + pack("type") + pack("batch") + pack("points") + claim
    place = b"\x83" + pack("type") + pack("location") + pack("lon") + pack(1) + pack("lat") + claim
    return [claim, batch, place, b"\x91" * 100 + claim]


@pytest.mark.parametrize(
    "data",
    [
        data
        for head, form, count in [
            (b"\xdd", ">I", 2**32 - 1),  # array
            (b"\xdc", ">H", 2**16 - 1),
            (b"\xdf", ">I", 2**32 - 1),  # map
            (b"\xde", ">H", 2**16 - 1),
            (b"\xdb", ">I", 2**32 - 1),  # text
            (b"\xc6", ">I", 2**32 - 1),  # bytes
            (b"\xc9", ">I", 2**32 - 1),  # extension
        ]
        for data in claiming(head, form, count)
    ],
    ids=bytes.hex,
)
def test_a_length_beyond_the_frame_is_refused_before_any_memory_is_taken(data: bytes) -> None:
    tracemalloc.start()
    try:
        assert refusal(data) == NOTHING
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91" * 16_000,
        b"\x91" * 15_999 + b"\xc0",
        b"\x81\xa1a" * 5_000 + b"\xc0",
        b"\x82" + pack("type") + pack("ping") + pack("id") + b"\x91" * 12_000 + b"\xc0",
        b"\x81\x91\xc0\xc0",  # a list as a key
        b"\x81\xa1\xff\xc0",  # a key that is not UTF-8
        b"\x81" + pack("type") + b"\xa1\xff",
        b"\x82" + pack("type") + pack("ping") + pack("id") + b"\xa3\xed\xa0\x80",  # a surrogate
        pack({"type": "resync"}) + b"\xc0",
        pack({"type": "resync"}) * 2,
        pack({"type": "resync"})[:-1],
        b'{"type":"resync"}',
    ],
    ids=lambda data: data[:12].hex(),
)
def test_what_is_no_message_in_messagepack_is_an_invalid_message(data: bytes) -> None:
    assert refusal(data) == NOTHING


@settings(max_examples=1_000, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    outcome(MESSAGE_PACK, data)


@settings(max_examples=1_000, deadline=None)
@given(st.data())
def test_a_damaged_message_is_a_message_or_refused(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from([location(), pack({"type": "batch", "points": [FULL_LOCATION] * 3})])))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    outcome(MESSAGE_PACK, bytes(whole))


# ---------------------------------------------------------------------------------------------- clients


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
def test_a_client_ignores_fields_and_types_that_are_newer_than_it(codec: Codec) -> None:
    assert codec.decode_server(codec.encode({"type": "pong", "id": 1, "new": {}})) == Pong(1)
    assert codec.decode_server(codec.encode({"type": "weather", "rain": True})) is None


@pytest.mark.parametrize("value", [[], {}, {"type": 1}, {"type": "pong"}, {"type": "snapshot", "friends": 1}])
def test_a_client_refuses_what_is_not_of_this_protocol(value: object) -> None:
    with pytest.raises(msgspec.MsgspecError):
        MESSAGE_PACK.decode_server(pack(value))
