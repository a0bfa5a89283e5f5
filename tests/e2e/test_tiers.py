"""Who sees whom how exactly, over the whole stack: rules, circles, windows and their instants."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from nearby.geo import cell_centre
from nearby_client import NearbyApi
from tests.e2e.test_friends_on_the_map import HERE, NORTH_200_M, acknowledged, turn, two_friends
from tests.support.eventually import eventually
from tests.support.people import Person
from tests.support.sharing import Rules, rules_at
from tests.support.stack import Stack

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("tiers")]


@pytest_asyncio.fixture(loop_scope="module")
async def rules(stack: Stack) -> AsyncIterator[Rules]:
    async with rules_at(stack.api_url) as opened:
        yield opened


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def precision_of(viewer: Person, friend: Person) -> str | None:
    """How exactly ``friend`` is on the map of ``viewer`` now; ``None``: not at all."""
    entry = viewer.client.friends.get(friend.user_id)
    return None if entry is None else entry.precision


async def test_an_approximate_friend_is_shown_at_the_centre_of_their_cell_and_nothing_more(
    stack: Stack, api: NearbyApi, rules: Rules
) -> None:
    anna, ben = await two_friends(api)
    await rules.towards(ben, anna, "approximate")
    one, other = (gateway.ws_url for gateway in stack.gateways)
    async with anna.online(one), ben.online(other):
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M, accuracy_m=5, speed_mps=1.5, heading_deg=90)
        await eventually(lambda: precision_of(anna, ben) == "approximate" and ben.map == {anna.user_id: 200})
        entry = anna.client.friends[ben.user_id]
        assert (entry.lat, entry.lon) == pytest.approx(cell_centre(*NORTH_200_M), abs=1e-6)
        assert entry.distance_m % 1000 == 0
        assert (entry.accuracy_m, entry.speed_mps, entry.heading_deg) == (None, None, None)
        assert await anna.account.nearby() == [entry]
        assert all(seen.precision == "approximate" for seen in anna.entries)


async def test_a_rule_changed_while_both_are_connected_changes_the_map_in_both_directions(
    stack: Stack, api: NearbyApi, rules: Rules
) -> None:
    anna, ben = await two_friends(api)
    one, other = (gateway.ws_url for gateway in stack.gateways)
    async with anna.online(one), ben.online(other):
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: precision_of(anna, ben) == "exact")
        await rules.towards(ben, anna, "approximate")
        await eventually(lambda: precision_of(anna, ben) == "approximate", within_s=2)
        assert anna.gone == [], "the exact place is replaced, not taken away first"
        await rules.towards(ben, anna, "off")
        await eventually(lambda: precision_of(anna, ben) is None, within_s=2)
        assert [gone.reason for gone in anna.gone] == ["inactive"]
        seen = len(anna.entries)
        ben.client.report(*NORTH_200_M)
        await acknowledged(ben)
        await turn(anna)
        assert len(anna.entries) == seen
        await rules.towards(ben, anna, "exact")
        await eventually(lambda: anna.map == {ben.user_id: 200})
        assert ben.map == {anna.user_id: 200}, "what Ben sees of Anna was never touched"


async def test_a_sharing_ended_openly_is_told_as_such(api: NearbyApi, rules: Rules) -> None:
    anna, ben = await two_friends(api)
    async with anna.online(), ben.online():
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: precision_of(anna, ben) == "exact")
        await rules.towards(ben, anna, "off", openly=True)
        await eventually(lambda: [gone.reason for gone in anna.gone] == ["not_sharing"])


async def test_a_rule_with_an_end_gives_way_to_the_one_before_at_its_instant_though_nobody_says_so(
    stack: Stack, api: NearbyApi, rules: Rules
) -> None:
    anna, ben = await two_friends(api)
    await rules.towards(ben, anna, "off")
    async with anna.online(stack.gateways[0].ws_url), ben.online(stack.gateways[1].ws_url):
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        until_ms = now_ms() + 3_000
        answer = await rules.towards(ben, anna, "exact", until_ms=until_ms)
        assert (answer["precision"], answer["until_ms"], answer["then"]) == ("exact", until_ms, "off")
        await eventually(lambda: precision_of(anna, ben) == "exact", within_s=2.5)
        await eventually(lambda: anna.map == {}, within_s=10)
        assert now_ms() >= until_ms
        await rules.towards(ben, anna, "approximate", until_ms=now_ms() + 60_000)
        await eventually(lambda: precision_of(anna, ben) == "approximate")


async def test_a_pause_with_an_end_is_over_at_its_instant(stack: Stack, api: NearbyApi, rules: Rules) -> None:
    anna, ben = await two_friends(api)
    async with anna.online(stack.gateways[0].ws_url), ben.online(stack.gateways[1].ws_url):
        anna.client.report(*HERE)
        ben.client.report(*HERE)
        await eventually(lambda: anna.map == {ben.user_id: 0})
        await rules.towards_all(ben, state="paused", until_ms=now_ms() + 2_000)
        await eventually(lambda: anna.map == {}, within_s=2)
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: anna.map == {ben.user_id: 200}, within_s=10)


async def test_a_window_that_is_open_now_narrows_what_everybody_sees(
    stack: Stack, api: NearbyApi, rules: Rules
) -> None:
    anna, ben = await two_friends(api)
    always = {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "00:00", "to": "24:00"}
    async with anna.online(stack.gateways[0].ws_url), ben.online(stack.gateways[1].ws_url):
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: precision_of(anna, ben) == "exact")
        windows = [{**always, "precision": "approximate"}]
        await rules.towards_all(ben, windows=windows, time_zone="Europe/Berlin")
        await eventually(lambda: precision_of(anna, ben) == "approximate", within_s=2)
        await rules.towards_all(ben, windows=[*windows, {**always, "precision": "off"}])
        await eventually(lambda: anna.map == {}, within_s=2)
        await rules.towards_all(ben, windows=windows)
        await eventually(lambda: precision_of(anna, ben) == "approximate")
        await rules.towards_all(ben, windows=[])
        await eventually(lambda: anna.map == {ben.user_id: 200})
        assert [gone.reason for gone in anna.gone] == ["inactive"]


async def test_a_circle_narrows_what_its_members_see_and_letting_go_of_it_widens_it_again(
    stack: Stack, api: NearbyApi, rules: Rules
) -> None:
    anna, ben = await two_friends(api)
    async with anna.online(stack.gateways[0].ws_url), ben.online(stack.gateways[1].ws_url):
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: precision_of(anna, ben) == "exact")
        circle = await rules.call(ben, "POST", "/v1/circles", {"name": "Work", "precision": "approximate"})
        path = f"/v1/circles/{circle['circle_id']}"
        await rules.call(ben, "PUT", f"{path}/members/{anna.user_id}")
        await eventually(lambda: precision_of(anna, ben) == "approximate", within_s=2)
        in_force = (await rules.call(ben, "GET", f"/v1/friends/{anna.user_id}/sharing"))["in_force"]
        assert in_force == {"precision": "approximate", "until_ms": None, "reason": "circle"}
        await rules.call(ben, "PUT", path, {"name": "Work", "precision": "off"})
        await eventually(lambda: anna.map == {}, within_s=2)
        await rules.call(ben, "DELETE", path)
        await eventually(lambda: anna.map == {ben.user_id: 200})


async def test_the_default_for_new_friends_is_what_they_see(api: NearbyApi, rules: Rules) -> None:
    anna, ben = await two_friends(api)
    await rules.towards_all(ben, default_precision="approximate")
    await anna.account.remove_friend(ben.user_id)
    async with anna.online(), ben.online():
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        request = await anna.account.friend_request(user_id=ben.user_id)
        await ben.account.accept(request.request_id)  # type: ignore[union-attr]
        await eventually(lambda: precision_of(anna, ben) == "approximate" and precision_of(ben, anna) == "exact")
        assert all(entry.precision == "approximate" for entry in anna.entries)
