"""What a phone catches up on after a tunnel: acknowledged once it is safe, and never shown as where it is now."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx
import pytest

from nearby_client import NearbyApi
from tests.support.device import device_of
from tests.support.eventually import eventually
from tests.support.people import Person, befriend, sign_up
from tests.support.stack import ANY_PORTS, Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

HERE, TUNNEL = (41.880, -87.630), (41.885, -87.630)
POINTS = 100
ON_DISK = tuple(argument for argument in ANY_PORTS if argument != "--ephemeral")


def walk(now_ms: int) -> list[dict[str, float]]:
    """Return points of the last minutes, the oldest first."""
    return [
        {"lat": TUNNEL[0] + index / 1e5, "lon": TUNNEL[1], "recorded_at_ms": now_ms - (POINTS - index) * 1_000}
        for index in range(POINTS)
    ]


async def history_of(stack: Stack, person: Person) -> list[int]:
    """Return the instants of the person's history, the oldest first."""
    headers = {"Authorization": f"Bearer {person.account.access_token}"}
    everything = {"limit": 1000, "to_ms": time.time_ns() // 1_000_000 + 60_000}
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{stack.api_url}/v1/me/history", params=everything, headers=headers)
    assert answer.status_code == 200
    return [item["recorded_at_ms"] for item in reversed(answer.json()["items"])]


async def test_I4_an_acknowledged_batch_survives_the_death_of_the_stream_and_of_the_gateway(tmp_path: Path) -> None:
    async with running_stack(tmp_path, arguments=ON_DISK) as stack, NearbyApi(stack.api_url) as api:
        anna = await sign_up(api)
        points = walk(time.time_ns() // 1_000_000)
        stack.kill("writer-1", signal.SIGSTOP)
        try:
            async with device_of(anna, stack.gateways[0]) as phone:
                ack = await phone.catch_up(points)
                old = {name: stack.kill(name) for name in ("cache", "gw-1")}
            assert (ack["stored"], ack["rejected"]) == (POINTS, [])
            assert await history_of(stack, anna) == []
            for name, pid in old.items():
                await stack.restarted(name, pid)
        finally:
            stack.kill("writer-1", signal.SIGCONT)

        async def all_are_there_once() -> bool:
            assert await history_of(stack, anna) == [point["recorded_at_ms"] for point in points]
            return True

        await eventually(all_are_there_once, within_s=30)


async def test_late_points_fill_the_history_and_never_move_the_live_dot(stack: Stack, api: NearbyApi) -> None:
    anna, ben = await sign_up(api), await sign_up(api)
    await befriend(anna, ben)
    async with ben.online(stack.gateways[1].ws_url), device_of(anna, stack.gateways[0]) as phone:
        ben.client.report(*HERE)
        now_ms = time.time_ns() // 1_000_000
        assert (await phone.report(HERE, recorded_at_ms=now_ms))["live"]
        await eventually(lambda: ben.map == {anna.user_id: 0})
        shown = len(ben.entries)
        # Some were recorded after the live location: a batch is history all the same.
        points = walk(now_ms + 30_000)
        assert (await phone.catch_up(points))["stored"] == POINTS
        assert not (await phone.report(TUNNEL, recorded_at_ms=now_ms - 10_500))["live"]
        times = {*(point["recorded_at_ms"] for point in points), now_ms, now_ms - 10_500}

        async def all_are_there() -> bool:
            assert await history_of(stack, anna) == sorted(times)
            return True

        await eventually(all_are_there)
        # What comes next is the next thing that Ben is shown.
        assert (await phone.report(HERE, recorded_at_ms=now_ms + 1))["live"]
        await eventually(lambda: len(ben.entries) > shown)
        assert {entry.updated_at_ms for entry in ben.entries[shown:]} == {now_ms + 1}
        assert ben.map == {anna.user_id: 0}


async def test_points_that_cannot_be_are_named_and_the_others_stored(stack: Stack, api: NearbyApi) -> None:
    anna = await sign_up(api)
    now_ms = time.time_ns() // 1_000_000
    async with device_of(anna, stack.gateways[0]) as phone:
        ack = await phone.catch_up(
            [
                {"lat": 91, "lon": 0},
                {"lat": 1, "lon": 2, "recorded_at_ms": now_ms},
                {"lat": 1, "lon": 2, "recorded_at_ms": now_ms - 8 * 86_400_000},
            ]
        )
    assert ack["stored"] == 1
    assert ack["rejected"] == [{"index": 0, "code": "invalid_location"}, {"index": 2, "code": "too_old"}]

    async def is_there() -> bool:
        return await history_of(stack, anna) == [now_ms]

    await eventually(is_there)
