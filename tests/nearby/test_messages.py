"""Messages in JSON: what is taken, what is refused and how, and what the server says byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearby.codecs import JSON
from nearby.messages import (
    Ack,
    AuthMessage,
    AuthOk,
    BatchMessage,
    ClientMessage,
    Error,
    FriendEntry,
    FriendsChanged,
    GoneEntry,
    InvalidMessage,
    LocationMessage,
    LocationPoint,
    PingMessage,
    Pong,
    Reconnect,
    RejectedPoint,
    ResyncMessage,
    ServerMessage,
    SettingsMessage,
    Snapshot,
    TokenExpiring,
    Update,
    Welcome,
)

MAX_SEQ = 2**53 - 1
FULL_LOCATION: dict[str, Any] = {
    "type": "location",
    "lat": 37.5665,
    "lon": 126.978,
    "accuracy_m": 8,
    "speed_mps": 1.5,
    "heading_deg": 90,
    "recorded_at_ms": 1_795_237_200_120,
    "sent_at_ms": 1_795_237_200_125,
    "seq": 7,
}


encode = JSON.encode
decode_point: Callable[[msgspec.Raw], LocationPoint] = JSON.decode_point


def decode_client(data: bytes | str) -> ClientMessage:
    return JSON.decode_client(data.encode() if isinstance(data, str) else data)


def decode_server(data: str) -> ServerMessage | None:
    return JSON.decode_server(data.encode())


def refusal(data: bytes | str) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as refused:
        decode_client(data)
    # What is told to the client can be told.
    encode(Error(refused.value.code, refused.value.detail, refused.value.seq))
    return refused.value


def location(**changed: Any) -> str:
    return json.dumps(FULL_LOCATION | changed)


def location_with(field: str, literal: str) -> str:
    """A location in which ``field`` has a value that Python would not write."""
    return location(**{field: "@"}).replace('"@"', literal)


# ----------------------------------------------------------------------------------------- taken


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            json.dumps(FULL_LOCATION),
            LocationMessage(37.5665, 126.978, 8, 1.5, 90, 1_795_237_200_120, 1_795_237_200_125, 7),
        ),
        ('{"type":"location","lat":-90,"lon":180}', LocationMessage(-90, 180)),
        ('{"lat":90.0,"lon":-180.0,"type":"location","seq":0}', LocationMessage(90, -180, seq=0)),
        ('{"type":"settings","radius_m":50}', SettingsMessage(50)),
        ('{"type":"settings","radius_m":50000.0}', SettingsMessage(50_000)),
        ('{"type":"resync"}', ResyncMessage()),
        ('{"type":"ping","id":"a"}', PingMessage("a")),
        ('{"type":"ping","id":-3}', PingMessage(-3)),
        ('{"type":"auth","token":"t"}', AuthMessage("t")),
        (' { "type" : "resync" } ', ResyncMessage()),
        (b'{"type":"ping","id":"\xc3\xbc"}', PingMessage("ü")),
    ],
)
def test_a_good_message_is_taken(data: bytes | str, expected: ClientMessage) -> None:
    assert decode_client(data) == expected


def test_limits_are_inclusive_where_the_protocol_says_so() -> None:
    at_limits = {"accuracy_m": 100_000, "speed_mps": 500, "heading_deg": 0, "recorded_at_ms": 0, "seq": MAX_SEQ}
    assert isinstance(decode_client(location(**at_limits)), LocationMessage)
    assert isinstance(decode_client(location(accuracy_m=0, speed_mps=0, heading_deg=359.999)), LocationMessage)


def test_points_of_a_batch_are_judged_one_by_one() -> None:
    batch = decode_client('{"type":"batch","points":[{"lat":1,"lon":2},{"lat":91,"lon":2},3],"seq":4}')
    assert isinstance(batch, BatchMessage)
    assert batch.seq == 4
    assert decode_point(batch.points[0]).lat == 1
    for bad in batch.points[1:]:
        with pytest.raises(InvalidMessage) as refused:
            decode_point(bad)
        assert refused.value.code == "invalid_location"


@pytest.mark.parametrize(
    "point",
    [
        "{}",
        '{"lat":1}',
        '{"lat":"1","lon":2}',
        '{"lat":true,"lon":2}',
        '{"lat":1e999,"lon":2}',
        '{"lat":1,"lon":180.01}',
        '{"lat":1,"lon":2,"seq":1}',
        '{"lat":1,"lon":2,"type":"location"}',
        '{"lat":1,"lon":2,"heading_deg":360}',
        '{"lat":1,"lon":2,"recorded_at_ms":1.5}',
        "null",
        '"point"',
        "[1,2]",
    ],
)
def test_a_bad_point_of_a_batch_is_an_invalid_location(point: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        decode_point(msgspec.Raw(point.encode()))
    assert refused.value.code == "invalid_location"


# --------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize("literal", ["1e999", "-1e999", '"37.5"', "true", "null", "[]", "{}", "181", "-181", "1e308"])
@pytest.mark.parametrize("field", ["lat", "lon"])
def test_a_coordinate_that_is_no_number_in_range_is_an_invalid_location(field: str, literal: str) -> None:
    refused = refusal(location_with(field, literal))
    assert (refused.code, refused.seq) == ("invalid_location", 7)


@pytest.mark.parametrize(
    ("field", "literal"),
    [
        ("accuracy_m", "-0.1"),
        ("accuracy_m", "100000.1"),
        ("accuracy_m", '"8"'),
        ("speed_mps", "-1"),
        ("speed_mps", "500.1"),
        ("speed_mps", "false"),
        ("heading_deg", "360"),
        ("heading_deg", "-1"),
        ("heading_deg", "1e999"),
        ("recorded_at_ms", "-1"),
        ("recorded_at_ms", "1.5"),
        ("recorded_at_ms", '"2026-11-21"'),
        ("recorded_at_ms", "9007199254740992"),
        ("sent_at_ms", "true"),
    ],
)
def test_another_field_of_a_location_out_of_range_is_an_invalid_location(field: str, literal: str) -> None:
    refused = refusal(location_with(field, literal))
    assert (refused.code, refused.seq) == ("invalid_location", 7)
    assert field in refused.detail or "1e999" in literal


@pytest.mark.parametrize("literal", ["90.0000001", "-90.0000001"])
def test_a_latitude_beyond_a_pole_is_an_invalid_location(literal: str) -> None:
    assert refusal(location_with("lat", literal)).code == "invalid_location"


@pytest.mark.parametrize("missing", ["lat", "lon"])
def test_a_location_without_a_coordinate_is_invalid(missing: str) -> None:
    message = {field: value for field, value in FULL_LOCATION.items() if field != missing}
    refused = refusal(json.dumps(message))
    assert (refused.code, refused.seq) == ("invalid_location", 7)


@pytest.mark.parametrize("literal", ["-1", "9007199254740992", "1.5", '"1"', "true", "[]"])
def test_a_bad_seq_is_an_invalid_message_without_a_seq(literal: str) -> None:
    refused = refusal(location_with("seq", literal))
    assert (refused.code, refused.seq) == ("invalid_message", None)


@pytest.mark.parametrize(
    ("data", "seq"),
    [
        (location(color="red"), 7),
        (location(lat=91, color="red"), 7),
        ('{"type":"resync","why":1}', None),
        ('{"type":"resync","seq":3}', 3),
        ('{"type":"batch","points":[],"seq":2}', 2),
        ('{"type":"batch","seq":2}', 2),
        ('{"type":"batch","points":{},"seq":2}', 2),
        ('{"type":"batch","points":[1],"seq":-2}', None),
        ('{"type":"batch","points":[1],"more":1,"seq":5}', 5),
        ('{"type":"settings"}', None),
        ('{"type":"settings","radius_m":49.9}', None),
        ('{"type":"settings","radius_m":50001}', None),
        ('{"type":"settings","radius_m":"100"}', None),
        ('{"type":"settings","radius_m":true}', None),
        ('{"type":"settings","radius_m":1e999}', None),
        ('{"type":"settings","radius_m":null}', None),
        ('{"type":"ping"}', None),
        ('{"type":"ping","id":1.5}', None),
        ('{"type":"ping","id":null}', None),
        ('{"type":"ping","id":true}', None),
        ('{"type":"ping","id":{}}', None),
        ('{"type":"ping","id":9007199254740992}', None),
        (json.dumps({"type": "ping", "id": "x" * 65}), None),
        ('{"type":"ping","id":"\\ud800"}', None),
        ('{"type":"auth"}', None),
        ('{"type":"auth","token":1}', None),
        ("{}", None),
        ('{"seq":9}', 9),
        ('{"type":null}', None),
        ('{"type":7,"seq":9}', 9),
        ('{"type":["location"]}', None),
    ],
)
def test_a_message_of_the_wrong_shape_is_an_invalid_message(data: str, seq: int | None) -> None:
    refused = refusal(data)
    assert (refused.code, refused.seq) == ("invalid_message", seq)


@pytest.mark.parametrize(
    "data",
    [
        "",
        " ",
        "null",
        "1",
        '"location"',
        "[]",
        '[{"type":"resync"}]',
        "{",
        '{"type":"resync"',
        '{"type":"resync"}}',
        '{"type":"resync"}{"type":"resync"}',
        "{'type':'resync'}",
        '{"type":"resync",}',
        '{type:"resync"}',
        location_with("lat", "NaN"),
        location_with("lat", "Infinity"),
        location_with("lat", "-Infinity"),
        location_with("lat", "0x10"),
        location_with("lat", "+1"),
        location_with("lat", "01"),
        '{"type":"ping","id":"\x00"}',
        "\ufeff" + '{"type":"resync"}',
        b'{"type":"ping","id":"\xff"}',
        b'{"type":"ping","id":"\xed\xa0\x80"}',
        b"\xff\xfe{\x00}\x00",
        '{"type":"resync"}'.encode("utf-16"),
        b"\x00",
        "[" * 16_000,
        '{"a":' * 3_000,
        '{"type":"ping","id":' + "[" * 8_000 + "]" * 8_000 + "}",
    ],
)
def test_what_is_no_json_object_in_utf8_is_an_invalid_message(data: bytes | str) -> None:
    refused = refusal(data)
    assert (refused.code, refused.seq) == ("invalid_message", None)


@pytest.mark.parametrize("kind", ["subscribe", "Location", "welcome", "", "x" * 10_000, "\\ud800", "ü"])
def test_a_type_we_do_not_know_is_told_shortly(kind: str) -> None:
    refused = refusal(f'{{"type":"{kind}","seq":3}}')
    assert (refused.code, refused.seq) == ("unknown_type", 3)
    assert len(refused.detail) < 100


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
_FIELDS = st.sampled_from(["type", "seq", "points", "radius_m", "id", "token", *FULL_LOCATION])
_TYPES = st.sampled_from(["location", "batch", "settings", "resync", "ping", "auth", "other"])
_NEARLY_MESSAGES = st.builds(lambda fields, kind: fields | {"type": kind}, st.dictionaries(_FIELDS, _JSON), _TYPES)


def _code_of(decode: Callable[[], object]) -> str | None:
    """The code with which it is refused, ``None`` if it is taken; anything else it raises is a defect."""
    try:
        decode()
    except InvalidMessage as refused:
        encode(Error(refused.code, refused.detail, refused.seq))
        return refused.code
    return None


def _only_invalid_message_is_raised(data: bytes | str) -> None:
    code = _code_of(partial(decode_client, data))
    assert code in {None, "invalid_message", "invalid_location", "unknown_type"}
    if code is None and isinstance(batch := decode_client(data), BatchMessage):
        assert {_code_of(partial(decode_point, point)) for point in batch.points} <= {
            None,
            "invalid_location",
        }


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes | str) -> None:
    _only_invalid_message_is_raised(data)


@settings(max_examples=1_000, deadline=None)
@given(_NEARLY_MESSAGES)
def test_anything_like_a_message_is_a_message_or_refused(message: dict[str, Any]) -> None:
    _only_invalid_message_is_raised(json.dumps(message))


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_damaged_message_is_a_message_or_refused(data: st.DataObject) -> None:
    whole = bytearray(json.dumps(FULL_LOCATION).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    _only_invalid_message_is_raised(bytes(whole))


# ---------------------------------------------------------------------------------------- server

ALICE = "00000000-0000-4000-8000-000000000001"
FRIEND = FriendEntry(ALICE, 37.57, 126.983, 590, 1_795_237_188_000, "exact")
GOLDEN: list[tuple[ServerMessage, str]] = [
    (
        Welcome("c-7f3a", ALICE, "gw-1", 1_795_237_200_123, 30.0, 600.0, 8047.0, 1_795_240_800_000),
        f'{{"type":"welcome","connection_id":"c-7f3a","user_id":"{ALICE}","gateway_id":"gw-1",'
        '"server_time_ms":1795237200123,"report_interval_s":30.0,"inactive_after_s":600.0,"radius_m":8047.0,'
        '"expires_at_ms":1795240800000}',
    ),
    (Snapshot([]), '{"type":"snapshot","friends":[]}'),
    (
        Snapshot([FRIEND]),
        f'{{"type":"snapshot","friends":[{{"user_id":"{ALICE}","lat":37.57,"lon":126.983,"distance_m":590,'
        '"updated_at_ms":1795237188000,"precision":"exact"}]}',
    ),
    (
        Update([FriendEntry(ALICE, 1.0, 2.0, 0, 3, "approximate", 8.0, 0.0, 90.5)]),
        f'{{"type":"update","friends":[{{"user_id":"{ALICE}","lat":1.0,"lon":2.0,"distance_m":0,"updated_at_ms":3,'
        '"precision":"approximate","accuracy_m":8.0,"speed_mps":0.0,"heading_deg":90.5}]}',
    ),
    (
        Update(gone=[GoneEntry(ALICE, "out_of_range")]),
        f'{{"type":"update","gone":[{{"user_id":"{ALICE}","reason":"out_of_range"}}]}}',
    ),
    (
        Ack(1, 1_795_237_200_120, live=True),
        '{"type":"ack","seq":1,"recorded_at_ms":1795237200120,"live":true}',
    ),
    (Ack(recorded_at_ms=5, live=False), '{"type":"ack","recorded_at_ms":5,"live":false}'),
    (
        Ack(2, stored=1, rejected=[RejectedPoint(1, "invalid_location")]),
        '{"type":"ack","seq":2,"stored":1,"rejected":[{"index":1,"code":"invalid_location"}]}',
    ),
    (Ack(2, stored=0, rejected=[]), '{"type":"ack","seq":2,"stored":0,"rejected":[]}'),
    (FriendsChanged([ALICE], []), f'{{"type":"friends_changed","added":["{ALICE}"],"removed":[]}}'),
    (Reconnect(1_500, "drain"), '{"type":"reconnect","after_ms":1500,"reason":"drain"}'),
    (
        Reconnect(0, "drain", "ws://other"),
        '{"type":"reconnect","after_ms":0,"reason":"drain","url":"ws://other"}',
    ),
    (TokenExpiring(5), '{"type":"token_expiring","expires_at_ms":5}'),
    (Error("too_old", "why"), '{"type":"error","code":"too_old","detail":"why"}'),
    (
        Error("rate_limited", "slow down", 0, 500),
        '{"type":"error","code":"rate_limited","detail":"slow down","seq":0,"retry_after_ms":500}',
    ),
    (Pong("a"), '{"type":"pong","id":"a"}'),
    (Pong(0), '{"type":"pong","id":0}'),
    (AuthOk(5), '{"type":"auth_ok","expires_at_ms":5}'),
]


@pytest.mark.parametrize(("message", "expected"), GOLDEN)
def test_the_server_says_exactly_this(message: ServerMessage, expected: str) -> None:
    assert encode(message).decode() == expected


@pytest.mark.parametrize(("message", "data"), GOLDEN)
def test_a_client_understands_what_the_server_says(message: ServerMessage, data: str) -> None:
    assert decode_server(data) == message


def test_every_server_message_has_its_golden_bytes() -> None:
    assert {type(message) for message, _ in GOLDEN} == set(ServerMessage.__args__)


def test_a_client_ignores_fields_and_types_that_are_newer_than_it() -> None:
    assert decode_server('{"type":"pong","id":1,"new":{}}') == Pong(1)
    assert decode_server('{"type":"weather","rain":true}') is None


@pytest.mark.parametrize("data", ["", "[]", "{}", '{"type":1}', '{"type":"pong"}', '{"type":"snapshot","friends":1}'])
def test_a_client_refuses_what_is_not_of_this_protocol(data: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_server(data)


@pytest.mark.parametrize(
    "message",
    [LocationMessage(1.0, 2.0), SettingsMessage(50), ResyncMessage(), PingMessage(1), AuthMessage("t")],
)
def test_a_client_message_is_understood_by_the_server(message: ClientMessage) -> None:
    assert decode_client(encode(message)) == message
