"""Gateways that are drained under load (F2): nobody is cut off, nothing is lost (I7, I8)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import picows
import pytest

from discovery.connect import open_discovery
from nearby.close_codes import CloseCode
from nearby.codecs import JSON
from nearby.model import UserId
from nearby.ports import Member, MemberState, Role
from nearby_client import NearbyApi
from tests.support.eventually import eventually
from tests.support.light_clients import LightClient, LightCrowd, fixed, light_crowd
from tests.support.seeding import seed
from tests.support.stack import Gateway, Stack, running_stack

CLIENTS = int(os.environ.get("NEARBY_TEST_DRAIN_CLIENTS", "600"))
RATE_PER_S = int(os.environ.get("NEARBY_TEST_DRAIN_RATE", "100"))
"""The full size: 3000 clients at 300 per second."""
BACK_WITHIN_S = 60
"""From the end of the drain on: at the full size it is the test that is slow."""
THREE = ("--api-port", "0", "--gateway-ports", "0,0,0", "--shards", "2", "--ephemeral")
LIMITS = {"NEARBY_MESSAGE_RATE": "0", "NEARBY_MAX_SPEED_MPS": "0"}
PAIRS = 10
PAIR_INTERVAL_S = 0.1


@asynccontextmanager
async def admin(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {stack.admin_token}", "X-Actor": "test"}
    async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=10) as http:
        yield http


async def drain(stack: Stack, *arguments: str) -> tuple[int, str, str]:
    """Run ``nearby drain`` to its end; return its exit status and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "drain", "--data-dir", str(stack.data_dir), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def members(stack: Stack) -> Mapping[str, Member]:
    async with open_discovery(f"file://{stack.data_dir}/discovery") as discovery:
        return await anext(discovery.watch_members(Role.GATEWAY))


def split(tokens: dict[UserId, str], first: int) -> tuple[dict[UserId, str], dict[UserId, str]]:
    items = list(tokens.items())
    return dict(items[:first]), dict(items[first:])


class SteadyPair:
    """Two friends on gateways that are not drained. ``lost`` are reports of one that the other was not shown."""

    def __init__(self, one: UserId, tokens: tuple[str, str]) -> None:
        self.one_id = one
        self.one, self.other = (LightClient(token) for token in tokens)
        self.sent_count = 0
        self.lost: list[int] = []

    async def connect(self, first_url: str, second_url: str) -> None:
        await self.one.connect(first_url)
        await self.other.connect(second_url)
        self.other.report(41.88, -87.63)

    async def walk(self, start_ms: int) -> None:
        """Report until cancelled, each time waiting until the friend has been shown it, so that nothing may merge."""
        while True:
            self.sent_count += 1
            recorded_at_ms = start_ms + self.sent_count
            self.one.report(41.88 + self.sent_count * 1e-5, -87.63, recorded_at_ms)
            try:
                await eventually(partial(self.other.seen.__contains__, (self.one_id, recorded_at_ms)), within_s=5)
            except AssertionError:
                self.lost.append(recorded_at_ms)
            await asyncio.sleep(PAIR_INTERVAL_S)

    async def leave(self) -> None:
        for client in (self.one, self.other):
            client.close()
            await client.left.wait()


@asynccontextmanager
async def steady_pairs(tokens: dict[UserId, str], first: Gateway, second: Gateway) -> AsyncIterator[list[SteadyPair]]:
    """Friends who report to each other across two gateways, until the context ends."""
    items = list(tokens.items())
    # Neighbours in the ring of friendships, and no two pairs beside each other.
    pairs = [SteadyPair(items[4 * index][0], (items[4 * index][1], items[4 * index + 1][1])) for index in range(PAIRS)]
    for pair in pairs:
        await pair.connect(first.ws_url, second.ws_url)
    async with asyncio.TaskGroup() as tasks:
        walks = [tasks.create_task(pair.walk(time.time_ns() // 1_000_000 - 60_000)) for pair in pairs]
        yield pairs
        for walk in walks:
            walk.cancel()
    for pair in pairs:
        await pair.leave()


def report_of(crowd: LightCrowd) -> dict[str, Any]:
    """What a drain did to the clients, to be shown where an assertion fails."""
    clients = crowd.everybody
    told_s = sorted(at_s for client in clients for at_s in client.told_at_s)
    closed_s = sorted(at_s for client in clients for at_s in client.closed_at_s)
    return {
        "told": sum(bool(client.told) for client in clients),
        "abnormal": sum(client.closes.count(CloseCode.ABNORMAL) for client in clients),
        "from_first_told_to_last_gone_s": round(closed_s[-1] - told_s[0], 2) if told_s and closed_s else None,
        "refusals": sum(len(client.refusals) for client in clients),
    }


@pytest.mark.serial
async def test_F2_I8_a_gateway_is_drained_at_the_rate_and_nobody_is_cut_off(tmp_path: Path) -> None:
    async with running_stack(tmp_path, LIMITS, THREE) as stack:
        victim, second, third = stack.gateways
        tokens, steady = split(seed(stack.data_dir, CLIENTS + 4 * PAIRS, 2), CLIENTS)
        async with (
            NearbyApi(stack.api_url) as api,
            steady_pairs(steady, second, third) as pairs,
            light_crowd(tokens, victim.ws_url, api.gateway) as crowd,
        ):
            crowd.forget_refusals()  # of the rush at the beginning
            before = sum(pair.sent_count for pair in pairs)
            status, out, _ = await drain(stack, victim.id, "--rate", str(RATE_PER_S), "--reason", "kernel", "--json")
            (told,) = json.loads(out)
            await eventually(crowd.everybody_is_back, within_s=BACK_WITHIN_S)
            seen = report_of(crowd) | {"steady": sum(pair.sent_count for pair in pairs) - before}
            sys.stdout.write(f"{json.dumps(seen)}\n")

            assert status == 0
            assert (told["state"], told["total"], told["told"], told["left"]) == ("drained", CLIENTS, CLIENTS, 0)
            assert seen["abnormal"] == 0, seen
            assert all(len(client.told) == 1 for client in crowd.everybody)
            assert len({client.told[0].after_ms for client in crowd.everybody}) > CLIENTS / 20
            assert all(client.gateways[0] == victim.id for client in crowd.everybody)
            assert all(client.gateways[-1] != victim.id for client in crowd.everybody)
            expected_s = CLIENTS / RATE_PER_S
            assert 0.8 * expected_s <= seen["from_first_told_to_last_gone_s"] <= 1.2 * expected_s, seen
            assert all(pair.lost == [] for pair in pairs)
            assert seen["steady"] > 20 * PAIRS
        await stack.says(f"{victim.id} is drained and has ended")
        assert "starting it again" not in stack.output
        assert [gateway.id for gateway in stack.gateways] == [second.id, third.id]


async def test_F2_two_gateways_are_both_marked_before_either_sends_a_client_to_the_other(tmp_path: Path) -> None:
    async with running_stack(tmp_path, LIMITS, THREE) as stack:
        first, second, third = stack.gateways
        one_half, other_half = split(seed(stack.data_dir, 100, 2), 50)
        async with (
            NearbyApi(stack.api_url) as api,
            light_crowd(one_half, first.ws_url, api.gateway) as one,
            light_crowd(other_half, second.ws_url, api.gateway) as other,
        ):
            status, _, _ = await drain(stack, first.id, second.id, "--rate", "50")
            assert status == 0
            everybody = one.everybody + other.everybody
            await eventually(lambda: all(client.is_open for client in everybody), within_s=20)
            assert all(len(client.told) == 1 for client in everybody)
            assert {client.gateways[0] for client in everybody} == {first.id, second.id}
            assert {gateway for client in everybody for gateway in client.gateways[1:]} == {third.id}
            assert all(CloseCode.ABNORMAL not in client.closes for client in everybody)


async def test_I8_who_does_not_leave_is_closed_with_1012_after_the_grace(tmp_path: Path) -> None:
    environ = {**LIMITS, "NEARBY_DRAIN_GRACE_S": "2"}
    async with running_stack(tmp_path, environ) as stack:
        victim, other = stack.gateways
        tokens = seed(stack.data_dir, 30, 2)
        async with light_crowd(tokens, victim.ws_url, fixed(other.ws_url), stubborn_every=3) as crowd:
            status, _, _ = await drain(stack, victim.id, "--rate", "30")
            assert status == 0
            stubborn = [client for client in crowd.everybody if client.stubborn]
            assert [client.closes[0] for client in stubborn] == [CloseCode.SERVICE_RESTART] * 10
            stayed_s = [client.closed_at_s[0] - client.told_at_s[0] for client in stubborn]
            assert all(1.9 <= stay_s <= 4 for stay_s in stayed_s), stayed_s
            await eventually(lambda: all(client.is_open for client in crowd.everybody))


async def test_a_drain_is_over_by_its_deadline_whoever_stays(tmp_path: Path) -> None:
    async with running_stack(tmp_path, LIMITS) as stack:
        victim, other = stack.gateways
        tokens = seed(stack.data_dir, 30, 2)
        async with light_crowd(tokens, victim.ws_url, fixed(other.ws_url), stubborn_every=1) as crowd:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            status, _, _ = await drain(stack, victim.id, "--rate", "1", "--deadline", "4s")
            assert status == 0
            assert loop.time() - began_s < 8
            assert all(client.closes[0] == CloseCode.SERVICE_RESTART for client in crowd.everybody)


async def test_a_drain_is_visible_refuses_newcomers_and_is_cancelled_before_the_first_client_is_sent_away(
    tmp_path: Path,
) -> None:
    environ = {**LIMITS, "NEARBY_DRAIN_NOTICE_S": "5"}
    async with running_stack(tmp_path, environ) as stack, admin(stack) as http:
        victim, other = stack.gateways
        tokens = seed(stack.data_dir, 11, 2)
        token = next(iter(tokens.values()))
        drain_url = f"{victim.admin_url}/admin/v1/drain"
        async with light_crowd(tokens, victim.ws_url, fixed(other.ws_url)) as crowd:
            # The notice is a quarter of the deadline at most, so the deadline of `nearby up` will not do.
            orders = {"reason": "kernel", "actor": "ann", "deadline_s": 60}
            answer = await http.post(drain_url, json=orders)
            assert (answer.status_code, answer.json()["state"]) == (202, "notice")
            assert (await members(stack))[victim.id].state is MemberState.DRAINING
            ready = await http.get(f"{victim.admin_url}/readyz")
            assert (ready.status_code, ready.text) == (503, "draining\n")
            with pytest.raises(picows.WSInvalidStatusError) as refused:
                await upgrade(victim, token)
            assert refused.value.response is not None
            assert refused.value.response.status == 503
            assert int(refused.value.response.headers["Retry-After"]) > 0
            again = await http.post(drain_url, json={"rate_per_s": 1, "actor": "ben"})
            assert (again.status_code, again.json()["actor"]) == (200, "ann")
            assert (await http.get(drain_url)).json()["left"] == 11

            status, out, _ = await drain(stack, victim.id, "--cancel")
            assert (status, out) == (0, f"{victim.id}: serving, 11 connected\n")
            assert (await members(stack))[victim.id].state is MemberState.SERVING
            assert (await http.get(f"{victim.admin_url}/readyz")).status_code == 200
            assert all(client.is_open and not client.told for client in crowd.everybody)
            await upgrade(victim, token)


async def test_once_clients_are_sent_away_nobody_can_connect_and_it_is_too_late_to_cancel(tmp_path: Path) -> None:
    async with running_stack(tmp_path, LIMITS) as stack, admin(stack) as http:
        victim, other = stack.gateways
        tokens = seed(stack.data_dir, 11, 2)
        drain_url = f"{victim.admin_url}/admin/v1/drain"
        async with light_crowd(tokens, victim.ws_url, fixed(other.ws_url)) as crowd:
            await http.post(drain_url, json={"deadline_s": 12, "rate_per_s": 1})
            await eventually(lambda: any(client.told for client in crowd.everybody), within_s=10)
            refusal = await http.delete(drain_url)
            assert (refusal.status_code, refusal.json()["code"]) == (409, "too_late")
            status, _, err = await drain(stack, victim.id, "--cancel")
            assert status == 1
            assert "409 too_late: clients have been sent away already" in err
            assert len(err.splitlines()) == 1
            with pytest.raises(ConnectionRefusedError):
                await upgrade(victim, next(iter(tokens.values())))
            stack.kill(victim.id, signal.SIGTERM)  # changes nothing
            await stack.says(f"{victim.id} is drained and has ended", within_s=20)
            assert all(len(client.told) == 1 for client in crowd.everybody)


async def upgrade(gateway: Gateway, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Sec-WebSocket-Protocol": JSON.name}
    transport, _ = await picows.ws_connect(picows.WSListener, gateway.ws_url, extra_headers=headers)
    transport.disconnect()
    await transport.wait_disconnected()


async def test_SIGTERM_drains_and_a_second_one_ends_at_once(tmp_path: Path) -> None:
    environ = {**LIMITS, "NEARBY_DRAIN_RATE": "1", "NEARBY_DRAIN_DEADLINE_S": "60"}
    async with running_stack(tmp_path, environ) as stack:
        victim, other = stack.gateways
        tokens = seed(stack.data_dir, 40, 2)
        async with light_crowd(tokens, victim.ws_url, fixed(other.ws_url)) as crowd:
            stack.kill(victim.id, signal.SIGTERM)
            await eventually(lambda: any(client.told for client in crowd.everybody), within_s=10)
            assert any(client.is_open and not client.told for client in crowd.everybody)
            stack.kill(victim.id, signal.SIGTERM)
            await stack.says(f"{victim.id} is drained and has ended", within_s=3)
            codes = {code for client in crowd.everybody for code in client.closes}
            assert codes <= {CloseCode.NORMAL, CloseCode.SERVICE_RESTART}
            await eventually(
                lambda: all(client.is_open and client.gateways[-1] == other.id for client in crowd.everybody),
                within_s=20,
            )
        assert '"actor"' not in stack.log(victim.id), "a signal is no call of an operator"


async def test_ctrl_c_ends_a_stack_with_clients_within_seconds(tmp_path: Path) -> None:
    async with running_stack(tmp_path, LIMITS) as stack:
        victim, _ = stack.gateways
        tokens = seed(stack.data_dir, 40, 2)
        clients = [LightClient(token) for token in tokens.values()]
        for client in clients:
            await client.connect(victim.ws_url)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        assert await stack.stop(signal.SIGINT) == 0
        assert loop.time() - began_s < 5
        await asyncio.gather(*(client.left.wait() for client in clients))
        assert all(len(client.told) == 1 for client in clients)
        assert all(CloseCode.ABNORMAL not in client.closes for client in clients)


async def test_S7_the_drain_is_on_the_admin_port_alone_with_the_token_and_every_call_is_audited(
    tmp_path: Path,
) -> None:
    async with running_stack(tmp_path) as stack:
        victim, _ = stack.gateways
        url = f"{victim.admin_url}/admin/v1/drain"
        async with httpx.AsyncClient(trust_env=False, headers={"X-Actor": "mallory"}) as anybody:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": stack.admin_token}):
                for method in ("GET", "POST", "DELETE"):
                    answer = await anybody.request(method, url, headers=headers)
                    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            public = victim.ws_url.replace("ws://", "http://").removesuffix("/v1/ws")
            headers = {"Authorization": f"Bearer {stack.admin_token}"}
            for path in ("/admin/v1/drain", "/admin", "/metrics", "/readyz"):
                assert (await anybody.get(f"{public}{path}", headers=headers)).status_code == 404
                assert (await anybody.get(f"{stack.api_url}{path}", headers=headers)).status_code == 404
        async with admin(stack) as http:
            assert (await http.get(url)).json() == {
                "gateway_id": victim.id,
                "state": "serving",
                "left": 0,
                **dict.fromkeys(("actor", "reason", "started_at_ms", "rate_per_s", "deadline_s")),
                **dict.fromkeys(("total", "told", "gone", "eta_s")),
            }
            for bad in ('{"rate_per_s": 0}', '{"phase": "stop"}', '{"now": true}', "[]", "{", '{"deadline_s": -1}'):
                answer = await http.post(url, content=bad)
                assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request"), bad
            assert (await http.post(url, content=b" " * 5_000)).status_code == 413
            marked = await http.post(url, json={"phase": "mark", "actor": "ann", "reason": "line\nbreak"})
            assert (marked.status_code, marked.json()["state"]) == (202, "marked")
        entries = [json.loads(line.partition(" audit ")[2].removeprefix("audit ")) for line in audit_lines(stack)]
        assert all(set(entry) == {"call", "peer", "actor", "reason", "status", "outcome"} for entry in entries)
        assert [entry["status"] for entry in entries] == [401] * 9 + [200] + [400] * 6 + [413, 202]
        assert {entry["actor"] for entry in entries[:9]} == {"mallory"}
        assert entries[-1] == {
            "call": "POST /admin/v1/drain",
            "peer": "127.0.0.1",
            "actor": "ann",
            "reason": "line\nbreak",
            "status": 202,
            "outcome": "marked",
        }
        await eventually(partial(is_draining, stack, victim))


def audit_lines(stack: Stack) -> list[str]:
    return [line for line in stack.log("gw-1").splitlines() if " audit audit " in line]


async def is_draining(stack: Stack, gateway: Gateway) -> bool:
    async with httpx.AsyncClient(trust_env=False) as http:
        return "nearby_gateway_draining 1.0" in (await http.get(f"{gateway.admin_url}/metrics")).text
