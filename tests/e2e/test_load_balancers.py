"""The configurations of ``deploy/``, run by the real HAProxy and nginx in front of three gateways."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import picows
import pytest

from nearby.close_codes import CloseCode
from nearby.settings import DrainSettings, LimitSettings, load
from tests.e2e.test_drain import THREE, drain
from tests.support.eventually import eventually
from tests.support.light_clients import LightClient, fixed, light_crowd
from tests.support.load_balancers import DEPLOY, LoadBalancer, running
from tests.support.seeding import seed
from tests.support.stack import running_stack
from ws_gateway.session import PING_DEADLINE_MS, SILENT_INTERVALS

BALANCERS = ["haproxy", "nginx"]
LIMITS = {"NEARBY_MESSAGE_RATE": "0", "NEARBY_MAX_SPEED_MPS": "0"}
NOTICE_S = 5.0


@asynccontextmanager
async def clients_at(url: str, tokens: Sequence[str]) -> AsyncIterator[list[LightClient]]:
    """Connect one client per token, one after another, and close what is left of them at the end."""
    clients = [LightClient(token) for token in tokens]
    try:
        for client in clients:
            await client.connect(url)
        yield clients
    finally:
        await leave(clients)


async def leave(clients: Sequence[LightClient]) -> None:
    for client in clients:
        client.close()
    async with asyncio.timeout(10):
        for client in clients:
            if client.gateways:
                await client.left.wait()


def gateways_of(clients: Sequence[LightClient]) -> Counter[str]:
    return Counter(client.gateways[-1] for client in clients if client.is_open)


async def until_all_are_up(balancer: LoadBalancer) -> None:
    if balancer.name == "haproxy":

        async def all_up() -> bool:
            states = await balancer.states()
            assert set(states.values()) == {"UP"}, states
            return True

        await eventually(all_up, within_s=10)


@pytest.mark.parametrize("name", BALANCERS)
async def test_upgrade_frames_and_rest_pass_and_a_newcomer_goes_to_the_gateway_with_the_fewest_clients(
    name: str, tmp_path: Path
) -> None:
    async with (
        running_stack(tmp_path, LIMITS, THREE) as stack,
        running(name, stack, tmp_path / name) as balancer,
    ):
        await until_all_are_up(balancer)
        tokens = list(seed(stack.data_dir, 44, 2).values())
        async with clients_at(balancer.ws_url, tokens[:30]) as first:
            assert gateways_of(first) == {"gw-1": 10, "gw-2": 10, "gw-3": 10}
            first[0].report(41.88, -87.63)
            first[1].report(41.88, -87.63)
            await eventually(lambda: first[0].seen and first[1].seen)

            await leave([client for client in first if client.gateways == ["gw-2"]])
            async with clients_at(balancer.ws_url, tokens[30:39]) as later:
                assert gateways_of(later) == {"gw-2": 9}
        async with httpx.AsyncClient(trust_env=False, base_url=balancer.url) as http:
            assert (await http.get("/openapi.json")).status_code == 200
            assert (await http.get("/v1/me")).status_code == 401
            for hidden in ("/admin/v1/drain", "/metrics", "/readyz"):
                assert (await http.get(hidden)).status_code == 404


@pytest.mark.parametrize("name", BALANCERS)
async def test_a_draining_gateway_gets_no_newcomer_and_its_clients_come_back_elsewhere_without_an_error(
    name: str, tmp_path: Path
) -> None:
    environ = {**LIMITS, "NEARBY_DRAIN_NOTICE_S": str(NOTICE_S)}
    async with (
        running_stack(tmp_path, environ, THREE) as stack,
        running(name, stack, tmp_path / name) as balancer,
    ):
        await until_all_are_up(balancer)
        seeded = list(seed(stack.data_dir, 60, 2).items())
        residents, newcomers = dict(seeded[:30]), [token for _, token in seeded[30:]]
        async with light_crowd(residents, balancer.ws_url, fixed(balancer.ws_url)) as crowd:
            before = gateways_of(crowd.everybody)
            assert set(before) == {"gw-1", "gw-2", "gw-3"}
            status, _, _ = await drain(stack, "gw-1", "--rate", "10", "--detach")
            assert status == 0
            async with clients_at(balancer.ws_url, newcomers) as admitted:
                assert not any(client.told for client in crowd.everybody), "the notice is not over"
                assert set(gateways_of(admitted)) == {"gw-2", "gw-3"}
                assert all(client.refusals == [] for client in admitted)
                if name == "haproxy":
                    await gone_from_rotation_before_anybody_is_told(balancer, crowd.everybody)
                await stack.says("gw-1 is drained and has ended", within_s=30)
                await eventually(crowd.everybody_is_back, within_s=10)
            assert sum(bool(client.told) for client in crowd.everybody) == before["gw-1"]
            assert set(gateways_of(crowd.everybody)) == {"gw-2", "gw-3"}
            assert all(client.refusals == [] for client in crowd.everybody)
            assert all(CloseCode.ABNORMAL not in client.closes for client in crowd.everybody)


async def gone_from_rotation_before_anybody_is_told(balancer: LoadBalancer, clients: Sequence[LightClient]) -> None:
    async def down() -> bool:
        states = await balancer.states()
        assert states["gw-1"] == "DOWN", states
        return True

    await eventually(down, within_s=NOTICE_S)
    assert not any(client.told for client in clients)
    assert {state for name, state in (await balancer.states()).items() if name != "gw-1"} == {"UP"}


IDLE = {
    "haproxy": ("timeout tunnel 2m", "timeout tunnel {s}s"),
    "nginx": ("proxy_read_timeout 2m", "proxy_read_timeout {s}s"),
}


@pytest.mark.parametrize(
    ("name", "timeout_s", "stays"), [(name, *case) for name in BALANCERS for case in ((6, True), (1, False))]
)
async def test_a_silent_client_stays_as_long_as_the_idle_timeout_is_above_the_ping_interval(
    name: str, timeout_s: int, stays: bool, tmp_path: Path
) -> None:
    """At one second a report, a client is pinged after three seconds of silence, and a sweep."""
    old, new = IDLE[name]
    async with (
        running_stack(tmp_path, {**LIMITS, "NEARBY_REPORT_INTERVAL_S": "1"}, THREE) as stack,
        running(name, stack, tmp_path / name, {old: new.format(s=timeout_s)}) as balancer,
    ):
        (token, *_) = seed(stack.data_dir, 3, 2).values()
        async with clients_at(balancer.ws_url, [token]) as (client,):
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s + 3):
                    await client.left.wait()
            assert client.is_open is stays


@pytest.mark.parametrize("name", BALANCERS)
async def test_the_limit_per_address_counts_the_client_and_not_the_load_balancer_nor_what_a_client_claims(
    name: str, tmp_path: Path
) -> None:
    environ = {**LIMITS, "NEARBY_CONNECT_RATE_PER_ADDRESS": "0.1", "NEARBY_TRUSTED_PROXIES": "127.0.0.1/32"}
    async with (
        running_stack(tmp_path, environ, THREE) as stack,
        running(name, stack, tmp_path / name) as balancer,
    ):
        tokens = list(seed(stack.data_dir, 40, 2).values())
        greedy = [await status_from("127.0.0.2", balancer, token) for token in tokens[:12]]
        # One new connection per ten seconds and gateway, and no second attempt elsewhere.
        assert greedy == [101] * 3 + [429] * 9
        claims = {"X-Forwarded-For": "192.0.2.7"}
        assert await status_from("127.0.0.2", balancer, tokens[12], claims) == 429
        modest = [await status_from(f"127.0.0.{last}", balancer, tokens[last]) for last in range(20, 30)]
        assert modest == [101] * 10, "a client that is refused does not put the gateway out of the rotation"


async def status_from(address: str, balancer: LoadBalancer, token: str, headers: dict[str, str] | None = None) -> int:
    """Connect from ``address``, leave again, and return the status of the upgrade."""
    client = LightClient(token)
    try:
        await client.try_to_connect(balancer.ws_url, headers, local_addr=(address, 0))
    except picows.WSInvalidStatusError as error:
        return int(error.response.status) if error.response else 0
    await leave([client])
    return 101


def seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)(ms|s|m)", text)
    assert match
    return int(match[1]) * {"ms": 0.001, "s": 1, "m": 60}[match[2]]


def test_the_numbers_of_the_configurations_fit_the_defaults_of_the_gateway() -> None:
    limits, draining = load(LimitSettings, {}), load(DrainSettings, {})
    longest_silence_s = SILENT_INTERVALS * limits.report_interval_s + PING_DEADLINE_MS / 1000
    haproxy, nginx = ((DEPLOY / file).read_text() for file in ("haproxy.cfg", "nginx.conf"))
    tunnel = re.search(r"^    timeout tunnel (\S+)$", haproxy, re.MULTILINE)
    assert tunnel
    assert seconds(tunnel[1]) > longest_silence_s
    for directive in ("proxy_read_timeout", "proxy_send_timeout"):
        found = re.search(rf"{directive} (\S+);", nginx)
        assert found
        assert seconds(found[1]) > longest_silence_s
    check = re.search(r"default-server inter (\S+) fall (\d+)", haproxy)
    assert check
    assert seconds(check[1]) * int(check[2]) < draining.notice_s
