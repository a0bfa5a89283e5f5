"""One user on two devices, on one gateway and on two (F20)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from nearby.geo import distance_m
from nearby_client import NearbyApi
from tests.support.device import Device, device_of
from tests.support.eventually import eventually
from tests.support.people import Person, befriend, sign_up
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOME, STREET = (41.880, -87.630), (41.885, -87.630)
WAY_M = round(distance_m(*HOME, *STREET))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Devices that report as they are asked, from places too far apart for one device in that time."""
    environ = {"NEARBY_MESSAGE_RATE": "0", "NEARBY_MAX_SPEED_MPS": "0"}
    async with running_stack(tmp_path_factory.mktemp("devices"), environ) as running:
        yield running


async def two_friends(api: NearbyApi) -> tuple[Person, Person]:
    anna, ben = await sign_up(api), await sign_up(api)
    await befriend(anna, ben)
    return anna, ben


@pytest.mark.parametrize("tablet_on", [0, 1], ids=["on one gateway", "on two gateways"])
async def test_F20_friends_see_one_device_and_no_flapping(stack: Stack, api: NearbyApi, tablet_on: int) -> None:
    anna, ben = await two_friends(api)
    here, there = stack.gateways[0], stack.gateways[tablet_on]
    async with ben.online(stack.gateways[1].ws_url), device_of(anna, here) as phone, device_of(anna, there) as tablet:
        ben.client.report(*HOME)
        assert (await tablet.report(HOME))["live"]
        assert (await phone.report(STREET))["live"]  # it has just come
        await eventually(lambda: ben.map == {anna.user_id: WAY_M})
        # The tablet's gateway hears of the phone, and its map follows.
        await eventually(lambda: _shows(tablet, ben, WAY_M))
        acks = []
        for step in range(6):
            acks.append((await tablet.report(HOME))["live"])
            acks.append((await phone.report((STREET[0] + step / 100_000, STREET[1])))["live"])
        assert acks == [False, True] * 6
        shown = [entry.distance_m for entry in ben.entries]
        assert 0 not in shown[shown.index(WAY_M) :]


async def _shows(device: Device, friend: Person, metres: int) -> bool:
    await device.resync()
    return device.shown == {friend.user_id: metres}


@pytest.mark.parametrize("tablet_on", [0, 1], ids=["on one gateway", "on two gateways"])
async def test_F20_a_clearly_more_accurate_device_takes_over(stack: Stack, api: NearbyApi, tablet_on: int) -> None:
    anna, ben = await two_friends(api)
    here, there = stack.gateways[0], stack.gateways[tablet_on]
    async with ben.online(stack.gateways[1].ws_url), device_of(anna, here) as phone, device_of(anna, there) as tablet:
        ben.client.report(*HOME)
        assert (await phone.report(STREET, accuracy_m=90))["live"]
        await eventually(lambda: _shows(tablet, ben, WAY_M))
        assert (await tablet.report(HOME, accuracy_m=80))["live"]  # it has just come
        await eventually(lambda: _shows(phone, ben, 0))
        assert not (await phone.report(STREET, accuracy_m=70))["live"]
        assert (await phone.report(STREET, accuracy_m=8))["live"]
        await eventually(lambda: _shows(tablet, ben, WAY_M))
        assert not (await tablet.report(HOME, accuracy_m=80))["live"]


async def test_F20_when_the_source_hangs_up_the_other_device_is_seen_at_once(stack: Stack, api: NearbyApi) -> None:
    anna, _ = await two_friends(api)
    async with device_of(anna, stack.gateways[0]) as tablet:
        async with device_of(anna, stack.gateways[0]) as phone:
            assert (await tablet.report(HOME))["live"]
            assert (await phone.report(STREET))["live"]
            assert not (await tablet.report(HOME))["live"]

        async def wins() -> bool:
            return bool((await tablet.report(HOME))["live"])

        await eventually(wins)


async def test_F20_fixes_of_a_device_that_is_not_seen_are_in_the_history_once(stack: Stack, api: NearbyApi) -> None:
    anna, _ = await two_friends(api)
    now_ms = time.time_ns() // 1_000_000
    async with device_of(anna, stack.gateways[0]) as phone, device_of(anna, stack.gateways[1]) as tablet:
        assert (await phone.report(STREET, recorded_at_ms=now_ms - 2_000))["live"]
        assert (await tablet.report(HOME, recorded_at_ms=now_ms - 1_900))["live"]
        for _ in range(3):  # a duplicate, and one that comes late
            await phone.report(STREET, recorded_at_ms=now_ms - 2_000)
            await tablet.report(HOME, recorded_at_ms=now_ms - 3_000)

        async def stored() -> bool:
            headers = {"Authorization": f"Bearer {anna.account.access_token}"}
            items = (await http.get(f"{stack.api_url}/v1/me/history", headers=headers)).json()["items"]
            times = [item["recorded_at_ms"] for item in items]
            assert times == [now_ms - 1_900, now_ms - 2_000, now_ms - 3_000]
            return True

        async with httpx.AsyncClient(trust_env=False) as http:
            await eventually(stored)
