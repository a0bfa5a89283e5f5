"""``nearby.v1.msgpack`` over the whole stack: who writes so sees and is told what everybody else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import websockets

from nearby.codecs import JSON, MESSAGE_PACK, Codec
from nearby.messages import Pong, Snapshot
from nearby_client import NearbyApi
from tests.e2e.test_bad_input import BINARY, CONTINUATION, PING, PONG, TEXT, RawSocket, close_code
from tests.e2e.test_friends_on_the_map import FAR, HERE, NORTH_200_M, two_friends
from tests.support.eventually import eventually
from tests.support.people import Person, sign_up
from tests.support.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
PING_7 = pack({"type": "ping", "id": 7})


@asynccontextmanager
async def socket_of(stack: Stack, person: Person | None, *offered: str) -> AsyncIterator[websockets.ClientConnection]:
    """Connect a socket of ``person``, or of nobody yet."""
    headers = {} if person is None else {"Authorization": f"Bearer {person.account.access_token}"}
    async with websockets.connect(
        stack.gateways[0].ws_url,
        additional_headers=headers,
        subprotocols=[websockets.Subprotocol(name) for name in offered or [MESSAGE_PACK.name]],
        compression=None,
        proxy=None,
    ) as socket:
        yield socket


async def answer(socket: websockets.ClientConnection, data: bytes) -> Any:
    await socket.send(data)
    return await told(socket)


async def told(socket: websockets.ClientConnection) -> Any:
    async with asyncio.timeout(5):
        frame = await socket.recv()
    assert isinstance(frame, bytes)
    return unpack(frame)


@pytest.mark.parametrize(
    ("annas", "bens"), [(MESSAGE_PACK, JSON), (MESSAGE_PACK, MESSAGE_PACK)], ids=["with JSON", "among themselves"]
)
async def test_friends_on_two_gateways_see_each_other_whatever_each_of_them_writes(
    stack: Stack, api: NearbyApi, annas: Codec, bens: Codec
) -> None:
    anna, ben = await two_friends(api)
    one, other = (gateway.ws_url for gateway in stack.gateways)
    async with anna.online(one, [annas]), ben.online(other, [bens]):
        anna.client.report(*HERE, accuracy_m=8)
        ben.client.report(*NORTH_200_M, speed_mps=1.5, heading_deg=90)
        await eventually(lambda: anna.map == {ben.user_id: 200} and ben.map == {anna.user_id: 200})
        assert await anna.account.nearby() == list(anna.client.friends.values())
        assert await ben.account.nearby() == list(ben.client.friends.values())
        snapshots = count_of(anna, Snapshot)
        anna.client.resync()
        await eventually(lambda: count_of(anna, Snapshot) > snapshots)
        assert anna.map == {ben.user_id: 200}
        ben.client.report(*FAR)
        ben.client.report(*FAR)  # a jump is believed at the second fix
        await eventually(lambda: not anna.map and not ben.map)
        assert [entry.reason for entry in anna.gone] == ["out_of_range"]
        assert [entry.reason for entry in ben.gone] == ["out_of_range"]


async def test_two_devices_of_one_gateway_are_shown_the_same_in_both_codecs(stack: Stack, api: NearbyApi) -> None:
    anna, ben = await two_friends(api)
    twin = Person(anna.user_id, anna.account)
    url = stack.gateways[0].ws_url
    async with anna.online(url, [MESSAGE_PACK]), twin.online(url, [JSON]), ben.online(url):
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M, accuracy_m=12.3, speed_mps=1.5, heading_deg=359.99)
        await eventually(lambda: anna.map == twin.map == {ben.user_id: 200})
        assert anna.client.friends == twin.client.friends


def count_of(person: Person, kind: type) -> int:
    return sum(isinstance(event, kind) for event in person.events)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["nearby.v1.msgpack"], "nearby.v1.msgpack"),
        (["nearby.v1.msgpack", "nearby.v1.json"], "nearby.v1.msgpack"),
        (["nearby.v1.json", "nearby.v1.msgpack"], "nearby.v1.json"),
        (["nearby.v2.msgpack", "nearby.v1.msgpack", "nearby.v1.json"], "nearby.v1.msgpack"),
        (["nearby.v2", "nearby.v1.json"], "nearby.v1.json"),
    ],
    ids=", ".join,
)
async def test_the_first_subprotocol_that_the_gateway_knows_is_chosen(
    stack: Stack, api: NearbyApi, offered: list[str], chosen: str
) -> None:
    async with socket_of(stack, await sign_up(api), *offered) as socket:
        assert socket.subprotocol == chosen
        welcome = await socket.recv(decode=False)
        codec = MESSAGE_PACK if chosen == MESSAGE_PACK.name else JSON
        await socket.send(codec.encode({"type": "ping", "id": 7}), text=not codec.binary)
        assert type(codec.decode_server(welcome)).__name__ == "Welcome"
        assert codec.decode_server(await socket.recv(decode=False)) == Pong(7)


@pytest.mark.parametrize(
    "frames",
    [
        [(TEXT, b'{"type":"resync"}', True)],
        [(TEXT, PING_7, True)],
        [(TEXT, b'{"type":', False)],
        [(BINARY, PING_7[:3], False), (TEXT, PING_7[3:], True)],
    ],
)
async def test_text_frames_close_with_1003(stack: Stack, api: NearbyApi, frames: list[tuple[int, bytes, bool]]) -> None:
    async with RawSocket.upgraded(stack, await sign_up(api), MESSAGE_PACK) as socket:
        for opcode, payload, fin in frames:
            socket.send(opcode, payload, fin=fin)
        assert await socket.closed_with() == 1003


async def test_fragments_are_put_together_and_control_frames_may_come_between(stack: Stack, api: NearbyApi) -> None:
    async with RawSocket.upgraded(stack, await sign_up(api), MESSAGE_PACK) as socket:
        socket.send(BINARY, PING_7[:4], fin=False)
        socket.send(PING, b"between")
        socket.send(CONTINUATION, PING_7[4:])
        welcome, pong, reply = [await socket.frame() for _ in range(3)]
        assert (welcome[0], unpack(welcome[1])["type"]) == (BINARY, "welcome")
        assert pong == (PONG, b"between")
        assert (reply[0], unpack(reply[1])) == (BINARY, {"type": "pong", "id": 7})


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "location", "lat": 91, "lon": 0, "seq": 5}, "invalid_location"),
        ({"type": "location", "lat": float("nan"), "lon": 0, "seq": 5}, "invalid_location"),
        ({"type": "location", "lat": b"1", "lon": 0, "seq": 5}, "invalid_location"),
        ({"type": "location", "lat": 1, "lon": 0, "seq": 5, "recorded_at_ms": 1}, "too_old"),
        ({"type": "location", "lat": 1, "lon": 0, "seq": 5, "where": "here"}, "invalid_message"),
        ({"type": "batch", "points": [{"lat": 1, "lon": 0}] * 101, "seq": 5}, "too_many_points"),
        ({"type": "subscribe", "channel": "loc:somebody", "seq": 5}, "unknown_type"),
    ],
)
async def test_a_bad_message_gets_its_error_with_the_seq_and_the_connection_goes_on(
    stack: Stack, api: NearbyApi, message: dict[str, Any], code: str
) -> None:
    async with socket_of(stack, await sign_up(api)) as socket:
        assert (await told(socket))["type"] == "welcome"
        error = await answer(socket, pack(message))
        assert (error["type"], error["code"], error["seq"]) == ("error", code, 5)
        assert await answer(socket, PING_7) == {"type": "pong", "id": 7}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91" * 16_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x82\xa4type\xa5batch\xa6points\xdd\xff\xff\xff\xff",
        b"\xc7\xff\x05",
        b"\x81\xa4type\xa1\xff",
        b'{"type":"resync"}',
        PING_7 * 2,
    ],
    ids=lambda data: data[:12].hex(),
)
async def test_what_is_no_message_is_refused_and_the_connection_goes_on(
    stack: Stack, api: NearbyApi, data: bytes
) -> None:
    async with socket_of(stack, await sign_up(api)) as socket:
        assert (await told(socket))["type"] == "welcome"
        assert (await answer(socket, data))["code"] == "invalid_message"
        assert (await answer(socket, PING_7))["type"] == "pong"


async def test_ten_invalid_messages_in_a_row_close_with_4400(stack: Stack, api: NearbyApi) -> None:
    async with socket_of(stack, await sign_up(api)) as socket:
        for _ in range(10):
            await socket.send(b"\xc1")
        assert await close_code(socket) == 4400


async def test_a_message_of_more_than_16_kib_closes_with_1009(stack: Stack, api: NearbyApi) -> None:
    async with socket_of(stack, await sign_up(api)) as socket:
        await socket.send(pack({"type": "ping", "id": "x" * 16 * 1024}))
        assert await close_code(socket) == 1009


async def test_before_authentication_4_kib_is_the_limit(stack: Stack) -> None:
    async with socket_of(stack, None) as socket:
        await socket.send(pack({"type": "auth", "token": "x" * 4096}))
        assert await close_code(socket) == 1009


async def test_the_token_may_come_in_the_first_frame(stack: Stack, api: NearbyApi) -> None:
    person = await sign_up(api)
    async with socket_of(stack, None) as socket:
        refused = await answer(socket, pack({"type": "location", "lat": 1, "lon": 1, "seq": 1}))
        assert (refused["code"], refused["seq"]) == ("not_authenticated", 1)
        welcome = await answer(socket, pack({"type": "auth", "token": person.account.access_token}))
        assert (welcome["type"], welcome["user_id"]) == ("welcome", person.user_id)
