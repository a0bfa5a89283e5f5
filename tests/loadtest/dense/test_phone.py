"""A phone of the dense fleet and gateways of few words, over real sockets."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from loadtest.dense.__main__ import parser
from loadtest.dense.fleet import Fleet
from loadtest.dense.rows import Row
from loadtest.person import Person
from loadtest.scenarios import Schedule
from loadtest.verdict import ACK, ATTEMPT, CONNECT, RECONNECT, SESSION, SOCKET
from nearby.close_codes import CloseCode
from nearby.codecs import CODECS, JSON
from nearby.messages import Ack, LocationMessage, Reconnect, Welcome
from nearby_client import NearbyApi
from tests.support.eventually import eventually

WELCOME = Welcome("c-1", "ann", "gw-1", 0, 30.0, 600.0, 8047.0, 0)
Talk = Callable[[ServerConnection], Awaitable[None]]


class Gateway:
    """Does with the n-th connection what the n-th talk says, with more of them what the last one says.

    Upgrades are refused with ``refusals`` first. ``came_at_s`` are the times of all upgrades.
    """

    def __init__(self, *talks: Talk, refusals: list[Response] | None = None) -> None:
        self.came_at_s: list[float] = []
        self.accepted = 0
        self._talks = talks
        self._refusals = refusals or []

    def on_request(self, _: ServerConnection, request: Request) -> Response | None:
        assert request.headers["Authorization"] == "Bearer token"
        self.came_at_s.append(asyncio.get_running_loop().time())
        return self._refusals.pop(0) if self._refusals else None

    async def talk(self, socket: ServerConnection) -> None:
        self.accepted += 1
        with suppress(ConnectionError):
            await self._talks[min(self.accepted, len(self._talks)) - 1](socket)


async def welcome(socket: ServerConnection) -> None:
    """Welcome somebody, and answer what comes."""
    codec = CODECS[str(socket.subprotocol)]
    await socket.send(codec.encode(WELCOME), text=not codec.binary)
    async for data in socket:
        assert isinstance(data, bytes) is codec.binary
        message = codec.decode_client(data if isinstance(data, bytes) else data.encode())
        assert isinstance(message, LocationMessage)
        await socket.send(codec.encode(Ack(message.seq, message.recorded_at_ms, live=True)), text=not codec.binary)


def close(code: int) -> Talk:
    async def talk(socket: ServerConnection) -> None:
        await socket.send(JSON.encode(WELCOME), text=True)
        await socket.close(code)

    return talk


def say(*messages: bytes) -> Talk:
    async def talk(socket: ServerConnection) -> None:
        for message in messages:
            await socket.send(message, text=True)
        await socket.wait_closed()

    return talk


def port_of(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


@asynccontextmanager
async def fleet_of_one(gateway: Gateway, *arguments: str) -> AsyncIterator[Fleet]:
    """One phone that connects to ``gateway`` for as long as the context lasts."""
    async with (
        serve(
            gateway.talk,
            "127.0.0.1",
            process_request=gateway.on_request,
            subprotocols=[Subprotocol(name) for name in CODECS],
        ) as server,
        NearbyApi("http://127.0.0.1:9") as api,
    ):
        url = f"ws://127.0.0.1:{port_of(server)}/v1/ws"
        options: Namespace = parser().parse_args(["--gateway", url, "--interval", "0.05", *arguments])
        fleet = Fleet([Person("ann", "token")], options, Schedule("steady", 1, 0.0), 100, api)
        running = asyncio.create_task(fleet.run())
        try:
            yield fleet
        finally:
            running.cancel()
            await asyncio.wait([running])
        if not running.cancelled():
            running.result()


def row(fleet: Fleet, name: str) -> Row:
    return fleet.rows.entries.get((name, SOCKET)) or Row(SOCKET, name)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_it_reports_at_each_interval_and_hears_the_answers(codec: str) -> None:
    async with fleet_of_one(Gateway(welcome), "--codec", codec) as fleet:
        await eventually(lambda: row(fleet, ACK).num_requests > 5)
        assert fleet.sockets == 1
        assert row(fleet, CONNECT).num_requests == row(fleet, ATTEMPT).num_requests == 1
    assert fleet.sockets == 0
    assert row(fleet, RECONNECT).num_requests == 0


async def test_it_comes_back_after_a_close() -> None:
    async with fleet_of_one(Gateway(close(CloseCode.SERVICE_RESTART), welcome)) as fleet:
        await eventually(lambda: row(fleet, RECONNECT).num_requests == 1)


async def test_it_follows_a_reconnect_after_the_time_it_names() -> None:
    gateway = Gateway(say(JSON.encode(WELCOME), JSON.encode(Reconnect(1500, "drain"))), welcome)
    async with fleet_of_one(gateway) as fleet:
        await eventually(lambda: row(fleet, RECONNECT).num_requests == 1)
    first_s, second_s = gateway.came_at_s
    assert second_s - first_s >= 1.5


@pytest.mark.parametrize("code", [CloseCode.NOT_ALLOWED, CloseCode.REPLACED, CloseCode.TOKEN_EXPIRED])
async def test_it_stays_away_where_it_is_told_to(code: CloseCode) -> None:
    async with fleet_of_one(Gateway(close(code))) as fleet:
        await eventually(lambda: row(fleet, SESSION).errors == {f"ended with {code.value}": 1})
        assert fleet.sockets == 0


async def test_a_refused_token_ends_the_session() -> None:
    refusals = [Response(HTTPStatus.UNAUTHORIZED, "Unauthorized", Headers())]
    async with fleet_of_one(Gateway(welcome, refusals=refusals)) as fleet:
        await eventually(lambda: row(fleet, SESSION).errors == {"ended with 401": 1})
    assert row(fleet, ATTEMPT).errors == {"HTTP 401": 1}


async def test_a_full_gateway_is_left_alone_for_as_long_as_it_asks() -> None:
    refusals = [Response(HTTPStatus.SERVICE_UNAVAILABLE, "Busy", Headers({"Retry-After": "1", "Content-Length": "0"}))]
    gateway = Gateway(welcome, refusals=refusals)
    async with fleet_of_one(gateway) as fleet:
        await eventually(lambda: row(fleet, CONNECT).num_requests == 1)
    assert row(fleet, ATTEMPT).errors == {"HTTP 503": 1}
    first_s, second_s = gateway.came_at_s
    assert second_s - first_s >= 1


async def test_what_is_not_of_the_protocol_ends_the_connection() -> None:
    async with fleet_of_one(Gateway(say(JSON.encode(WELCOME), b"{}"), welcome)) as fleet:
        await eventually(lambda: row(fleet, RECONNECT).num_requests == 1)


async def test_a_message_of_a_newer_kind_is_passed_over() -> None:
    newer = b'{"type":"of tomorrow"}'
    async with fleet_of_one(Gateway(say(JSON.encode(WELCOME), newer, newer, JSON.encode(Ack(1))))) as fleet:
        await eventually(lambda: row(fleet, ACK).num_requests == 1)
        assert (fleet.sockets, fleet.frames) == (1, 4)


async def test_an_api_that_does_not_answer_is_asked_again() -> None:
    async with fleet_of_one(Gateway(welcome), "--gateway", "") as fleet:
        await eventually(lambda: sum(row.num_failures for row in fleet.rows.rows()) >= 2, within_s=10)
        assert [row.name for row in fleet.rows.rows()] == ["/v1/gateway"]


async def test_an_error_of_the_load_test_itself_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("loadtest.journal.Journal.hear_back", fail)
    with pytest.raises(ZeroDivisionError):
        await run_until_it_fails(Gateway(welcome))


async def run_until_it_fails(gateway: Gateway) -> None:
    async with fleet_of_one(gateway) as fleet:
        await eventually(lambda: fleet.frames > 1)
        await eventually(lambda: fleet.sockets == 0)
