"""Clocks that are wrong, tokens that end, and a gateway that stood still (F3, F19, F22)."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import websockets

from nearby.codecs import JSON
from nearby_client import NearbyApi
from tests.support.eventually import eventually
from tests.support.gauges import metrics
from tests.support.people import PASSWORD, sign_up
from tests.support.seeding import seed
from tests.support.stack import Gateway, running_stack

TTL_S, FROZEN_S = 6, 11
DAY_MS = 86_400_000


class Listener:
    """A socket that keeps every message with the moment in which it came, Unix milliseconds."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.heard: list[tuple[int, dict[str, Any]]] = []

    async def listen(self) -> None:
        with suppress(websockets.ConnectionClosed):
            async for text in self.socket:
                self.heard.append((time.time_ns() // 1_000_000, json.loads(text)))

    async def report(self, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": "location", "lat": 41.88, "lon": -87.63, **fields}))

    def has_map(self) -> bool:
        """Whether the gateway has loaded the friends and said so with a snapshot."""
        return any(message["type"] == "snapshot" for _, message in self.heard)

    def entries(self, since: int = 0) -> list[tuple[int, dict[str, Any]]]:
        return [(at_ms, entry) for at_ms, message in self.heard[since:] for entry in message.get("friends", ())]

    def gone(self) -> list[str]:
        return [entry["reason"] for _, message in self.heard for entry in message.get("gone", ())]


@asynccontextmanager
async def listening(gateway: Gateway, token: str) -> AsyncIterator[Listener]:
    async with websockets.connect(
        gateway.ws_url,
        additional_headers={"Authorization": f"Bearer {token}"},
        subprotocols=[websockets.Subprotocol(JSON.name)],
        compression=None,
        ping_interval=None,
        proxy=None,
    ) as socket:
        listener = Listener(socket)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(listener.listen())
            yield listener
            task.cancel()


async def test_F3_a_gateway_that_stood_still_delivers_nothing_that_has_expired_meanwhile(tmp_path: Path) -> None:
    environ = {"NEARBY_INACTIVE_AFTER_S": str(TTL_S), "NEARBY_REPORT_INTERVAL_S": "2"}
    async with running_stack(tmp_path, environ) as stack:
        frozen, other = stack.gateways
        anna, ben, cleo = seed(stack.data_dir, 3, 2).values()
        async with listening(frozen, anna) as viewer, listening(other, ben) as silent, listening(other, cleo) as lively:
            for each in (viewer, silent, lively):
                await each.report()
            await eventually(lambda: len({entry["user_id"] for _, entry in viewer.entries()}) == 2)
            stack.kill(frozen.id, signal.SIGSTOP)
            try:
                await silent.report(lat=41.881)  # lies in the frozen gateway's buffers, and expires there
                for _ in range(FROZEN_S):
                    await asyncio.sleep(1)
                    await lively.report(lat=41.882)
                known = len(viewer.heard)
            finally:
                stack.kill(frozen.id, signal.SIGCONT)
            await eventually(lambda: viewer.entries(known), within_s=10)
            await eventually(lambda: viewer.gone() == ["inactive"], within_s=10)
            ages_s = [(at_ms - entry["updated_at_ms"]) / 1000 for at_ms, entry in viewer.entries(known)]
            assert max(ages_s) <= TTL_S
            assert (await metrics(frozen))["stalls_total"] == 1


async def test_F3_a_client_that_went_away_while_the_gateway_stood_still_is_closed(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        gateway = stack.gateways[0]
        anna, ben, _ = seed(stack.data_dir, 3, 2).values()
        async with listening(gateway, anna) as stays, listening(gateway, ben) as leaves:
            await stays.report()
            await leaves.report()
            await eventually(lambda: stays.has_map() and leaves.has_map())
            stack.kill(gateway.id, signal.SIGSTOP)
            leaves.socket.transport.abort()
            await asyncio.sleep(6)
            stack.kill(gateway.id, signal.SIGCONT)
            await eventually(lambda: _connections(gateway, 1), within_s=15)
            assert stays.socket.close_code is None


async def _connections(gateway: Gateway, count: int) -> bool:
    return (await metrics(gateway))["connections"] == count


async def test_F19_a_device_a_day_off_is_shown_and_its_time_never_goes_back(tmp_path: Path) -> None:
    async with running_stack(tmp_path, {"NEARBY_MESSAGE_RATE": "0"}) as stack:
        here, there = stack.gateways
        anna, ben, _ = seed(stack.data_dir, 3, 2).values()
        async with listening(here, anna) as viewer, listening(there, ben) as walker:
            await viewer.report()
            for error_ms in (DAY_MS, -DAY_MS, 0, DAY_MS):
                before = len(viewer.entries())
                device_ms = time.time_ns() // 1_000_000 + error_ms
                await walker.report(lat=41.88 + before / 10_000, sent_at_ms=device_ms, recorded_at_ms=device_ms)
                await eventually(lambda before=before: len(viewer.entries()) > before)  # type: ignore[misc]
            times = [entry["updated_at_ms"] for _, entry in viewer.entries()]
            assert times == sorted(times)
            assert all(abs(at_ms - entry["updated_at_ms"]) < 2_000 for at_ms, entry in viewer.entries())


async def test_F22_a_log_out_ends_the_live_sockets_of_every_gateway_within_five_seconds(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack, NearbyApi(stack.api_url) as api:
        anna = await sign_up(api)
        token = anna.account.access_token
        assert token is not None
        async with listening(stack.gateways[0], token) as one, listening(stack.gateways[1], token) as two:
            await eventually(lambda: one.heard and two.heard)
            async with httpx.AsyncClient(trust_env=False) as http:
                headers = {"Authorization": f"Bearer {token}"}
                assert (await http.delete(f"{stack.api_url}/v1/tokens", headers=headers)).status_code == 204
            async with asyncio.timeout(5):
                await asyncio.gather(one.socket.wait_closed(), two.socket.wait_closed())
            assert {one.socket.close_code, two.socket.close_code} == {4403}


async def test_F22_a_ban_ends_the_live_sockets_of_every_gateway_within_five_seconds_and_lasts(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack, NearbyApi(stack.api_url) as api:
        anna = await sign_up(api)
        token = anna.account.access_token
        assert token is not None
        admin = {"Authorization": f"Bearer {stack.admin_token}", "X-Reason": "spam", "X-Actor": "op"}
        path = f"/admin/v1/users/{anna.user_id}/ban"
        async with (
            listening(stack.gateways[0], token) as one,
            listening(stack.gateways[1], token) as two,
            httpx.AsyncClient(base_url=stack.api_admin_url, trust_env=False) as http,
            httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as public,
        ):
            await eventually(lambda: one.heard and two.heard)
            mine = {"Authorization": f"Bearer {token}"}
            log_in = {"handle": (await public.get("/v1/me", headers=mine)).json()["handle"], "password": PASSWORD}
            assert (await http.post(path)).status_code == 401
            assert (await http.post(path, headers={**admin, "X-Reason": ""})).status_code == 422
            assert (await public.post(path, headers=admin)).status_code == 404
            assert (await http.post(path, headers=admin)).status_code == 204
            async with asyncio.timeout(5):
                await asyncio.gather(one.socket.wait_closed(), two.socket.wait_closed())
            assert {one.socket.close_code, two.socket.close_code} == {4403}
            assert (await public.get("/v1/me", headers=mine)).status_code == 401
            refused = await public.post("/v1/tokens", json=log_in)
            assert (refused.status_code, refused.json()["code"]) == (403, "banned")
            assert (await http.delete(path, headers=admin)).status_code == 204
            assert (await public.post("/v1/tokens", json=log_in)).status_code == 200
            logged = stack.log("api").splitlines()
            lines = [json.loads(line.partition("audit audit ")[2]) for line in logged if "audit audit {" in line]
        assert [line["outcome"] for line in lines] == ["unauthorized", "invalid_request", "banned", "lifted"]
        assert {(line["actor"], line["reason"]) for line in lines[2:]} == {("op", "spam")}


async def test_F22_a_socket_ends_with_its_token_on_every_gateway(tmp_path: Path) -> None:
    async with (
        running_stack(tmp_path, {"NEARBY_ACCESS_TOKEN_LIFETIME_S": "10"}) as stack,
        NearbyApi(stack.api_url) as api,
    ):
        anna = await sign_up(api)
        token = anna.account.access_token
        assert token is not None
        async with listening(stack.gateways[0], token) as one, listening(stack.gateways[1], token) as two:
            async with asyncio.timeout(14):
                await asyncio.gather(one.socket.wait_closed(), two.socket.wait_closed())
            now_ms = time.time_ns() // 1_000_000
            assert {one.socket.close_code, two.socket.close_code} == {4401}
            welcome = one.heard[0][1]
            assert -100 <= now_ms - welcome["expires_at_ms"] <= 2_500
