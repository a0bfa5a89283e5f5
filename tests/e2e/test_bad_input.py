"""Bad input over real sockets: the answer that protocol §4 states, and no harm to anybody else."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import websockets

from nearby.codecs import JSON, Codec
from nearby_client import NearbyApi
from tests.support.eventually import eventually
from tests.support.people import Person, befriend, sign_up
from tests.support.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUBPROTOCOLS = [websockets.Subprotocol("nearby.v1.json")]
TEXT, BINARY, CONTINUATION, PING, PONG = 0x1, 0x2, 0x0, 0x9, 0xA


@asynccontextmanager
async def socket_of(stack: Stack, person: Person, **options: Any) -> AsyncIterator[websockets.ClientConnection]:
    headers = {"Authorization": f"Bearer {person.account.access_token}"}
    url = stack.gateways[0].ws_url
    async with websockets.connect(
        url, additional_headers=headers, subprotocols=SUBPROTOCOLS, compression=None, proxy=None, **options
    ) as socket:
        assert json.loads(await socket.recv())["type"] == "welcome"
        yield socket


async def answer(socket: websockets.ClientConnection, text: str) -> Any:
    await socket.send(text)
    async with asyncio.timeout(5):
        return json.loads(await socket.recv())


async def close_code(socket: websockets.ClientConnection) -> int | None:
    async with asyncio.timeout(5):
        await socket.wait_closed()
    return socket.close_code


class RawSocket:
    """A WebSocket made of bytes, to send what no library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def upgraded(cls, stack: Stack, person: Person, codec: Codec = JSON) -> AsyncIterator[RawSocket]:
        parts = urlsplit(stack.gateways[0].ws_url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            key = base64.b64encode(os.urandom(16)).decode()
            writer.write(
                f"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {codec.name}\r\n"
                f"Authorization: Bearer {person.account.access_token}\r\n\r\n".encode()
            )
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101")
            yield cls(reader, writer)
        finally:
            writer.close()

    def send(
        self, opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, announced: int | None = None
    ) -> None:
        """Send one masked frame; ``announced`` is a length that the payload does not have."""
        length = len(payload) if announced is None else announced
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        if length < 126:
            head += bytes([0x80 | length])
        elif length < 65_536:
            head += bytes([0x80 | 126]) + length.to_bytes(2, "big")
        else:
            head += bytes([0x80 | 127]) + length.to_bytes(8, "big")
        self.writer.write(head + bytes(4) + payload)  # a mask of zeros leaves the payload as it is

    async def frame(self) -> tuple[int, bytes]:
        """Return the opcode and the payload of the next frame."""
        async with asyncio.timeout(5):
            first, length = await self.reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2), "big")
            return first & 0xF, await self.reader.readexactly(length)

    async def closed_with(self) -> int:
        """Return the code of the close frame that comes next, other frames passed over."""
        while True:
            opcode, payload = await self.frame()
            if opcode == 0x8:
                return int.from_bytes(payload[:2], "big")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type":"location","lat":91,"lon":0,"seq":5}', "invalid_location"),
        ('{"type":"location","lat":"1","lon":0,"seq":5}', "invalid_location"),
        ('{"type":"location","lat":true,"lon":0,"seq":5}', "invalid_location"),
        ('{"type":"location","lat":1e999,"lon":0,"seq":5}', "invalid_location"),
        ('{"type":"location","lat":1,"lon":0,"seq":5,"recorded_at_ms":1}', "too_old"),
        ('{"type":"location","lat":1,"lon":0,"seq":5,"where":"here"}', "invalid_message"),
        ('{"type":"settings","radius_m":49,"seq":5}', "invalid_message"),
        ('{"type":"subscribe","channel":"loc:somebody","seq":5}', "unknown_type"),
    ],
)
async def test_a_bad_message_gets_its_error_with_the_seq_and_the_connection_goes_on(
    stack: Stack, api: NearbyApi, text: str, code: str
) -> None:
    async with socket_of(stack, await sign_up(api)) as socket:
        error = await answer(socket, text)
        assert (error["type"], error["code"], error.get("seq", 5)) == ("error", code, 5)
        assert (await answer(socket, '{"type":"ping","id":1}')) == {"type": "pong", "id": 1}


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"x"', "{}" * 2, "[" * 5_000, '{"type":NaN}', "\x00"])
async def test_what_is_no_json_object_is_refused(stack: Stack, api: NearbyApi, text: str) -> None:
    async with socket_of(stack, await sign_up(api)) as socket:
        assert (await answer(socket, text))["code"] == "invalid_message"
        assert (await answer(socket, '{"type":"ping","id":1}'))["type"] == "pong"


async def test_ten_invalid_messages_in_a_row_close_with_4400(stack: Stack, api: NearbyApi) -> None:
    async with socket_of(stack, await sign_up(api)) as socket:
        for _ in range(10):
            await socket.send("{")
        assert await close_code(socket) == 4400


async def test_more_than_the_burst_is_refused_and_ignoring_that_closes_with_4429(stack: Stack, api: NearbyApi) -> None:
    async with socket_of(stack, await sign_up(api)) as socket:
        for _ in range(20 + 51):
            await socket.send('{"type":"ping","id":1}')
        answers = []
        with suppress(websockets.ConnectionClosed):
            while True:
                answers.append(json.loads(await socket.recv()))
        assert socket.close_code == 4429
        assert [reply["type"] for reply in answers[:20]] == ["pong"] * 20
        assert {reply.get("code") for reply in answers[21:]} == {"rate_limited"}
        assert all(reply["retry_after_ms"] > 0 for reply in answers[21:])


async def test_binary_frames_close_with_1003(stack: Stack, api: NearbyApi) -> None:
    async with socket_of(stack, await sign_up(api)) as socket:
        await socket.send(b"{}")
        assert await close_code(socket) == 1003


async def test_a_message_of_more_than_16_kib_closes_with_1009(stack: Stack, api: NearbyApi) -> None:
    async with socket_of(stack, await sign_up(api)) as socket:
        await socket.send(json.dumps({"type": "ping", "id": "x" * 16 * 1024}))
        assert await close_code(socket) == 1009


async def test_before_authentication_4_kib_is_the_limit(stack: Stack) -> None:
    url = stack.gateways[0].ws_url
    async with websockets.connect(url, subprotocols=SUBPROTOCOLS, proxy=None) as socket:
        await socket.send(json.dumps({"type": "auth", "token": "x" * 4096}))
        assert await close_code(socket) == 1009


async def test_a_client_that_does_not_authenticate_is_closed_after_five_seconds(stack: Stack) -> None:
    async with websockets.connect(stack.gateways[0].ws_url, subprotocols=SUBPROTOCOLS, proxy=None) as socket:
        async with asyncio.timeout(8):
            await socket.wait_closed()
        assert socket.close_code == 4401


async def test_the_token_as_the_first_frame_is_as_good_as_in_the_header(stack: Stack, api: NearbyApi) -> None:
    person = await sign_up(api)
    async with websockets.connect(stack.gateways[0].ws_url, subprotocols=SUBPROTOCOLS, proxy=None) as socket:
        refused = await answer(socket, '{"type":"location","lat":1,"lon":1,"seq":1}')
        assert (refused["code"], refused["seq"]) == ("not_authenticated", 1)
        welcome = await answer(socket, json.dumps({"type": "auth", "token": person.account.access_token}))
        assert (welcome["type"], welcome["user_id"]) == ("welcome", person.user_id)


async def test_the_sixth_connection_of_a_user_replaces_the_oldest(stack: Stack, api: NearbyApi) -> None:
    person = await sign_up(api)
    async with AsyncExitStack() as sockets:
        oldest, second, *_ = [await sockets.enter_async_context(socket_of(stack, person)) for _ in range(6)]
        assert await close_code(oldest) == 4409
        assert (await answer(second, '{"type":"ping","id":1}'))["type"] == "pong"


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({"Authorization": "Bearer nonsense"}, "/v1/ws", 401),
        ({"Authorization": "Basic YTpi"}, "/v1/ws", 401),
        ({"Origin": "https://app.example.com.evil"}, "/v1/ws", 403),
        ({"Origin": "null"}, "/v1/ws", 403),
        ({}, "/v1/elsewhere", 404),
        ({}, "/v1/ws?token=x", 400),
        ({}, "/v1/ws?Access_Token=", 400),
    ],
)
async def test_an_upgrade_that_is_not_allowed_gets_an_http_error_and_no_socket(
    stack: Stack, headers: dict[str, str], path: str, status: int
) -> None:
    url = stack.gateways[0].ws_url.replace("/v1/ws", path)
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(url, additional_headers=headers, subprotocols=SUBPROTOCOLS, proxy=None)
    assert refused.value.response.status_code == status


async def test_an_unknown_subprotocol_is_refused_with_400(stack: Stack) -> None:
    for offered in (None, [websockets.Subprotocol("nearby.v9.json")]):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(stack.gateways[0].ws_url, subprotocols=offered, proxy=None)
        assert refused.value.response.status_code == 400


async def test_fragments_are_put_together_and_control_frames_may_come_between(stack: Stack, api: NearbyApi) -> None:
    async with RawSocket.upgraded(stack, await sign_up(api)) as socket:
        socket.send(TEXT, b'{"type":"ping",', fin=False)
        socket.send(PING, b"between")
        socket.send(CONTINUATION, b'"id":', fin=False)
        socket.send(CONTINUATION, b"7}")
        frames = [await socket.frame() for _ in range(3)]
        assert json.loads(frames[0][1])["type"] == "welcome"
        assert frames[1] == (PONG, b"between")
        assert json.loads(frames[2][1]) == {"type": "pong", "id": 7}


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([(CONTINUATION, b"x", {})], 1002),
        ([(TEXT, b"{", {"fin": False}), (TEXT, b"}", {})], 1002),
        ([(TEXT, b"{}", {"rsv": 4})], 1002),
        ([(0x3, b"x", {})], 1002),
        ([(PING, b"x" * 126, {})], 1002),
        ([(PING, b"x", {"fin": False})], 1002),
        ([(TEXT, b"\xff\xfe", {})], 1007),
        ([(TEXT, b'{"type":"ping","id":"\xc3\x28"}', {})], 1007),
        ([(TEXT, b"", {"announced": 1 << 30})], 1009),
        ([(TEXT, b"x" * 9_000, {"fin": False}), (CONTINUATION, b"x" * 9_000, {})], 1009),
    ],
)
async def test_a_broken_frame_closes_with_the_code_of_rfc_6455(
    stack: Stack, api: NearbyApi, frames: list[tuple[int, bytes, dict[str, Any]]], code: int
) -> None:
    async with RawSocket.upgraded(stack, await sign_up(api)) as socket:
        for opcode, payload, options in frames:
            socket.send(opcode, payload, **options)
        assert await socket.closed_with() == code


async def test_nothing_of_this_harms_the_others(stack: Stack, api: NearbyApi) -> None:
    anna, ben, rude = await sign_up(api), await sign_up(api), await sign_up(api)
    await befriend(anna, ben)
    url = stack.gateways[0].ws_url
    pids = stack.pids
    async with anna.online(url), ben.online(url):
        anna.client.report(41.88, -87.63)
        for attempt in range(20):
            async with RawSocket.upgraded(stack, rude) as socket:
                socket.send(attempt % 16, os.urandom(50 * attempt), rsv=attempt % 8, fin=attempt % 3 > 0)
                socket.writer.write(os.urandom(500))
            ben.client.report(41.88, -87.63 + attempt / 10_000)
        await eventually(lambda: anna.map == {ben.user_id: round(19 / 10_000 * 82_791)})
    assert stack.pids == pids
