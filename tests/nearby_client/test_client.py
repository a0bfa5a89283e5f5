from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nearby.codecs import CODECS, JSON, MESSAGE_PACK, Codec
from nearby.messages import (
    Ack,
    AuthOk,
    Error,
    FriendsChanged,
    GoneEntry,
    Pong,
    Reconnect,
    Snapshot,
    TokenExpiring,
    Update,
)
from nearby_client import ApiError, Connected, Disconnected, Event, NearbyClient, SessionEnded
from tests.nearby_client.scripted_gateway import (
    LongestJitter,
    Pauses,
    Peer,
    ScriptedGateway,
    friend,
    scripted_gateway,
    until,
    welcome,
)
from tests.support.eventually import eventually

NO_API = "http://127.0.0.1:1"


@pytest.fixture(params=CODECS)
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedGateway]:
    async with scripted_gateway([request.param]) as gateway:
        yield gateway


def client_of(gateway: ScriptedGateway, token: Any = "t-1", **options: Any) -> NearbyClient:
    defaults: dict[str, Any] = {"url": gateway.url, "sleep": Pauses(), "rng": LongestJitter()}
    return NearbyClient(NO_API, token, **(defaults | options))


async def welcomed(gateway: ScriptedGateway, client: NearbyClient) -> Peer:
    peer = await gateway.next_peer()
    await peer.send(welcome())
    await until(client, Connected)
    return peer


class Tokens:
    """Hands out t-1, t-2, …, noting what was refused."""

    def __init__(self) -> None:
        self.refused: list[str | None] = []

    async def __call__(self, refused: str | None) -> str:
        self.refused.append(refused)
        return f"t-{len(self.refused)}"


async def test_the_token_goes_into_the_header_and_the_subprotocol_is_asked_for_without_compression(
    gateway: ScriptedGateway,
) -> None:
    async with client_of(gateway, "secret") as client:
        await welcomed(gateway, client)
    headers = gateway.upgrades[0].headers
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Sec-WebSocket-Protocol"] == "nearby.v1.msgpack, nearby.v1.json"
    assert "Sec-WebSocket-Extensions" not in headers
    assert "secret" not in gateway.upgrades[0].path


@pytest.mark.parametrize(
    ("known", "codecs", "chosen"),
    [
        ([MESSAGE_PACK.name, JSON.name], None, MESSAGE_PACK),
        ([JSON.name], None, JSON),
        ([JSON.name, "nearby.v2"], None, JSON),
        ([MESSAGE_PACK.name, JSON.name], [JSON], JSON),
    ],
)
async def test_the_codec_is_the_shortest_that_both_sides_know_unless_the_app_chooses(
    known: list[str], codecs: list[Codec] | None, chosen: Codec
) -> None:
    options = {} if codecs is None else {"codecs": codecs}
    async with scripted_gateway(known) as gateway, client_of(gateway, **options) as client:
        peer = await welcomed(gateway, client)
        assert peer.codec is chosen
        assert client.ping("x")
        assert await peer.receive() == {"type": "ping", "id": "x"}
        await peer.send(Pong("x"))
        assert await until(client, Pong) == Pong("x")


async def test_a_gateway_that_knows_none_of_the_codecs_is_tried_again() -> None:
    async with scripted_gateway(["nearby.v2"]) as gateway, client_of(gateway) as client:
        assert (await until(client, Disconnected)).code in (None, 400)


async def test_events_come_in_order_and_the_map_follows_them(gateway: ScriptedGateway) -> None:
    async with client_of(gateway) as client:
        peer = await welcomed(gateway, client)
        await peer.send(Snapshot([friend("ada", 1)]))
        await until(client, Snapshot)
        assert set(client.friends) == {"ada"}
        await peer.send(Update(friends=[friend("bob", 2)], gone=[GoneEntry("ada", "out_of_range")]))
        await until(client, Update)
        assert set(client.friends) == {"bob"}
        await peer.send(FriendsChanged(added=[], removed=["bob"]), Error("rate_limited", "slow down"))
        assert (await until(client, FriendsChanged)).removed == ["bob"]
        assert (await until(client, Error)).code == "rate_limited"


async def test_messages_and_fields_newer_than_this_library_are_ignored(gateway: ScriptedGateway) -> None:
    async with client_of(gateway) as client:
        peer = await welcomed(gateway, client)
        await peer.send({"type": "weather", "rain": True}, {"type": "pong", "id": 7, "novel": [1]})
        assert await until(client, Pong) == Pong(7)


async def test_a_message_that_breaks_the_protocol_costs_the_connection_and_not_the_client(
    gateway: ScriptedGateway,
) -> None:
    async with client_of(gateway) as client:
        peer = await welcomed(gateway, client)
        await peer.send({"type": "snapshot", "friends": "all of them"})
        await until(client, Disconnected)
        await welcomed(gateway, client)


async def test_reports_carry_growing_seq_and_time_and_are_acknowledged(gateway: ScriptedGateway) -> None:
    async with client_of(gateway, clock=lambda: 5_000) as client:
        peer = await welcomed(gateway, client)
        assert client.report(41.88, -87.63, accuracy_m=8) == 1
        assert client.report(41.89, -87.63, recorded_at_ms=77_000) == 2
        first, second = await peer.receive(), await peer.receive()
        assert {name: value for name, value in first.items() if value is not None} == {
            "type": "location",
            "lat": 41.88,
            "lon": -87.63,
            "accuracy_m": 8,
            "recorded_at_ms": 5_000,
            "sent_at_ms": 5_000,
            "seq": 1,
        }
        assert (second["seq"], second["recorded_at_ms"]) == (2, 77_000)
        await peer.send(Ack(seq=1, recorded_at_ms=5_000, live=True))
        assert (await until(client, Ack)).live is True


async def test_two_reports_within_a_millisecond_get_different_times(gateway: ScriptedGateway) -> None:
    async with client_of(gateway, clock=lambda: 5_000) as client:
        peer = await welcomed(gateway, client)
        client.report(1, 1)
        client.report(2, 2)
        assert [(await peer.receive())["recorded_at_ms"] for _ in range(2)] == [5_000, 5_001]


async def test_of_reports_made_without_a_connection_only_the_newest_is_sent(gateway: ScriptedGateway) -> None:
    async with client_of(gateway) as client:
        client.report(1, 1)
        client.report(2, 2)
        peer = await welcomed(gateway, client)
        client.ping("end")
        assert [(await peer.receive()).get("lat") for _ in range(2)] == [2, None]


async def test_the_last_location_and_the_radius_are_sent_again_after_a_reconnect(gateway: ScriptedGateway) -> None:
    async with client_of(gateway) as client:
        peer = await welcomed(gateway, client)
        client.set_radius(500)
        seq = client.report(3, 4, recorded_at_ms=1_234)
        await peer.receive()
        await peer.receive()
        await peer.close(1012)
        again = await welcomed(gateway, client)
        settings, location = await again.receive(), await again.receive()
        assert settings == {"type": "settings", "radius_m": 500}
        assert (location["lat"], location["recorded_at_ms"], location["seq"]) == (3, 1_234, seq)


async def test_the_map_stays_while_away_and_the_next_snapshot_replaces_it(gateway: ScriptedGateway) -> None:
    async with client_of(gateway) as client:
        peer = await welcomed(gateway, client)
        await peer.send(Snapshot([friend("ada", 1)]))
        await until(client, Snapshot)
        await peer.close(1012)
        peer = await welcomed(gateway, client)
        assert set(client.friends) == {"ada"}
        await peer.send(Snapshot([friend("bob", 2)]))
        await until(client, Snapshot)
        assert set(client.friends) == {"bob"}


@pytest.mark.parametrize("code", [1001, 1012, 1013, 4408, 4410, 4413, 4500])
async def test_a_passing_end_is_followed_by_a_reconnect_with_jitter(gateway: ScriptedGateway, code: int) -> None:
    pauses = Pauses()
    async with client_of(gateway, sleep=pauses) as client:
        peer = await welcomed(gateway, client)
        await peer.close(code, "why")
        assert await until(client, Disconnected) == Disconnected(code, "why", 0.5)
        assert not client.connected
        await welcomed(gateway, client)
        assert pauses.taken_s == [0.5]


async def test_a_connection_cut_without_a_close_frame_is_taken_up_again(gateway: ScriptedGateway) -> None:
    async with client_of(gateway) as client:
        peer = await welcomed(gateway, client)
        peer.socket.transport.abort()
        assert (await until(client, Disconnected)).code == 1006
        await welcomed(gateway, client)


async def test_the_bound_of_the_jitter_doubles_until_a_welcome_and_then_begins_again(
    gateway: ScriptedGateway,
) -> None:
    pauses = Pauses()
    gateway.refusals = [500, 500, 500]
    async with client_of(gateway, sleep=pauses) as client:
        peer = await gateway.next_peer()
        await peer.close(1013)
        peer = await welcomed(gateway, client)
        await peer.close(1013)
        await welcomed(gateway, client)
    retry_after_s = 7
    assert pauses.taken_s == [0.5 + retry_after_s, 1 + retry_after_s, 2 + retry_after_s, 4, 0.5]


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1009, 4400, 4403, 4409])
async def test_a_final_close_code_ends_the_events_with_an_error_that_carries_it(
    gateway: ScriptedGateway, code: int
) -> None:
    async with client_of(gateway) as client:
        peer = await welcomed(gateway, client)
        await peer.close(code, "final")
        with pytest.raises(SessionEnded) as caught:
            await until(client, Connected)
        assert (caught.value.code, caught.value.reason) == (code, "final")
    assert len(gateway.upgrades) == 1


async def test_an_ignored_rate_limit_costs_a_minute(gateway: ScriptedGateway) -> None:
    pauses = Pauses()
    async with client_of(gateway, sleep=pauses) as client:
        await (await welcomed(gateway, client)).close(4429)
        await welcomed(gateway, client)
    assert pauses.taken_s == [60.5]


async def test_an_expired_token_is_renewed_and_the_client_comes_back(gateway: ScriptedGateway) -> None:
    tokens = Tokens()
    async with client_of(gateway, tokens) as client:
        await (await welcomed(gateway, client)).close(4401)
        again = await welcomed(gateway, client)
        assert again.token == "t-2"
    assert tokens.refused == [None, "t-1"]


async def test_an_expired_token_that_cannot_be_renewed_ends_the_session(gateway: ScriptedGateway) -> None:
    async with client_of(gateway, "t-1") as client:
        await (await welcomed(gateway, client)).close(4401, "expired")
        with pytest.raises(SessionEnded) as caught:
            await until(client, Connected)
    assert caught.value.code == 4401


async def test_a_token_refused_on_the_upgrade_is_renewed_once_and_then_given_up(gateway: ScriptedGateway) -> None:
    gateway.refusals = [401, 401]
    tokens = Tokens()
    async with client_of(gateway, tokens) as client:
        with pytest.raises(SessionEnded) as caught:
            await until(client, Connected)
    assert caught.value.code == 401
    assert tokens.refused == [None, "t-1"]


async def test_a_provider_that_the_api_refuses_ends_the_session(gateway: ScriptedGateway) -> None:
    async def revoked(refused: str | None) -> str:
        raise ApiError(401, "token_revoked", "log in again")

    async with client_of(gateway, revoked) as client:
        with pytest.raises(SessionEnded) as caught:
            await until(client, Connected)
    assert (caught.value.code, caught.value.reason) == (401, "token_revoked")


async def test_a_token_about_to_expire_is_renewed_in_band(gateway: ScriptedGateway) -> None:
    tokens = Tokens()
    async with client_of(gateway, tokens) as client:
        peer = await welcomed(gateway, client)
        await peer.send(TokenExpiring(9_000))
        assert await peer.receive() == {"type": "auth", "token": "t-2"}
        await peer.send(AuthOk(99_000))
        assert (await until(client, AuthOk)).expires_at_ms == 99_000
    assert tokens.refused == [None, "t-1"]
    assert len(gateway.upgrades) == 1


async def test_a_reconnect_message_is_obeyed_close_first_then_the_announced_pause_then_the_named_url(
    gateway: ScriptedGateway,
) -> None:
    pauses = Pauses()
    async with scripted_gateway() as other, client_of(gateway, sleep=pauses) as client:
        peer = await welcomed(gateway, client)
        await peer.send(Reconnect(after_ms=2_500, reason="drain", url=other.url))
        assert await peer.closed_with() == 1000
        await welcomed(other, client)
        assert pauses.taken_s == [2.5]


async def test_a_reconnect_message_without_url_asks_for_a_gateway_anew(gateway: ScriptedGateway) -> None:
    async with client_of(gateway) as client:
        peer = await welcomed(gateway, client)
        await peer.send(Reconnect(after_ms=10, reason="rebalance"))
        event = await until(client, Disconnected)
        assert event == Disconnected(1000, "rebalance", 0.01)
        await welcomed(gateway, client)


async def test_an_app_that_reads_no_events_loses_the_oldest_and_keeps_the_map(gateway: ScriptedGateway) -> None:
    async with client_of(gateway) as client:
        peer = await welcomed(gateway, client)
        for number in range(1, 1_101):
            await peer.send(Update(friends=[friend("ada", number)]))
        await peer.send(Pong("end"))
        await eventually(lambda: client.dropped_events == 101, within_s=5)
        assert client.friends["ada"].updated_at_ms == 1_100
        first = await until(client, Update)
        assert first.friends[0].updated_at_ms == 102


async def test_a_callback_takes_the_place_of_the_events(gateway: ScriptedGateway) -> None:
    seen: list[Event] = []
    done = asyncio.Event()

    def on_event(event: Event) -> None:
        seen.append(event)
        if isinstance(event, Pong):
            done.set()

    async with client_of(gateway, on_event=on_event):
        peer = await gateway.next_peer()
        await peer.send(welcome(), Update(friends=[friend("ada", 1)]), Pong("end"))
        async with asyncio.timeout(5):
            await done.wait()
    assert [type(event) for event in seen] == [Connected, Update, Pong]


async def test_an_error_in_the_callback_reaches_the_app(gateway: ScriptedGateway) -> None:
    def on_event(event: Event) -> None:
        raise LookupError("a bug of the app")

    async def app() -> None:
        async with client_of(gateway, on_event=on_event):
            await (await gateway.next_peer()).send(welcome())
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(app(), 5)
    assert caught.group_contains(LookupError)


async def test_an_error_of_the_body_comes_out_as_it_is(gateway: ScriptedGateway) -> None:
    with pytest.raises(LookupError):
        async with client_of(gateway):
            raise LookupError


async def test_leaving_closes_the_connection_orderly_and_ends_the_events(gateway: ScriptedGateway) -> None:
    client = client_of(gateway)
    async with client:
        peer = await welcomed(gateway, client)
    assert await peer.closed_with() == 1000
    assert [event async for event in client.events()] == []
    await client.aclose()
