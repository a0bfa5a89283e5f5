"""What people see of each other, over the whole stack. Several of these are failures that other builds of this
design have shown; they must never happen here.
"""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
import websockets

from nearby.messages import FriendsChanged, Snapshot
from nearby_client import ApiError, InForce, NearbyApi
from tests.support.eventually import eventually
from tests.support.people import Person, befriend, sign_up
from tests.support.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

HERE = (41.8800, -87.6300)
NORTH_200_M = (41.8818, -87.6300)
FAR = (42.3000, -87.6300)


async def two_friends(api: NearbyApi) -> tuple[Person, Person]:
    anna, ben = await sign_up(api), await sign_up(api)
    await befriend(anna, ben)
    return anna, ben


async def test_two_friends_on_different_gateways_see_each_other_and_the_distance(stack: Stack, api: NearbyApi) -> None:
    anna, ben = await two_friends(api)
    one, other = (gateway.ws_url for gateway in stack.gateways)
    async with anna.online(one), ben.online(other):
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: anna.map == {ben.user_id: 200} and ben.map == {anna.user_id: 200})


async def test_two_local_users_share_a_friend_and_one_disconnects_the_other_still_gets_updates(
    stack: Stack, api: NearbyApi
) -> None:
    anna, ben = await two_friends(api)
    cleo = await sign_up(api)
    await befriend(cleo, ben)
    url = stack.gateways[0].ws_url
    async with anna.online(url), ben.online(stack.gateways[1].ws_url):
        async with cleo.online(url):
            for person in (anna, cleo, ben):
                person.client.report(*HERE)
            await eventually(lambda: anna.map == cleo.map == {ben.user_id: 0})
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: anna.map == {ben.user_id: 200})


async def test_a_friendship_made_over_rest_while_both_are_connected_shows_on_both_within_a_second(
    stack: Stack, api: NearbyApi
) -> None:
    anna, ben = await sign_up(api), await sign_up(api)
    one, other = (gateway.ws_url for gateway in stack.gateways)
    async with anna.online(one), ben.online(other):
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: has_snapshot(anna) and has_snapshot(ben))
        await befriend(anna, ben)
        await eventually(lambda: anna.map == {ben.user_id: 200} and ben.map == {anna.user_id: 200}, within_s=1)
        assert changes_of(anna) == [FriendsChanged([ben.user_id], [])]


async def test_who_is_invited_sees_as_much_as_they_are_shown_until_they_are_blocked(
    stack: Stack, api: NearbyApi
) -> None:
    anna, ben = await sign_up(api), await sign_up(api)
    invite = await anna.account.invite()
    assert invite.link.endswith(f"#{invite.token}")
    assert invite.token not in repr(invite)
    assert (await ben.account.accept_invite(invite.token)).user_id == anna.user_id
    one, other = (gateway.ws_url for gateway in stack.gateways)
    async with anna.online(one), ben.online(other):
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: ben.map == {anna.user_id: 200})
        await anna.account.show(ben.user_id, "approximate")
        await eventually(lambda: ben.client.friends[anna.user_id].precision == "approximate")
        await anna.account.pause()
        await eventually(lambda: ben.map == {})
        [viewer] = await anna.account.viewers()
        assert (viewer.user_id, viewer.in_force) == (ben.user_id, InForce("off", "paused"))
        await anna.account.resume()
        await anna.account.show(ben.user_id, "exact")
        await eventually(lambda: ben.map == {anna.user_id: 200})
        await anna.account.block(ben.user_id)
        await eventually(lambda: anna.map == ben.map == {})
        with pytest.raises(ApiError, match="user_not_found"):
            await ben.account.friend_request(user_id=anna.user_id)
        await anna.account.unblock(ben.user_id)
        assert await ben.account.friends() == []
    await befriend(ben, anna)


async def test_a_friendship_ended_over_rest_while_both_are_connected_ends_on_both_within_a_second(
    stack: Stack, api: NearbyApi
) -> None:
    anna, ben = await two_friends(api)
    one, other = (gateway.ws_url for gateway in stack.gateways)
    async with anna.online(one), ben.online(other):
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: anna.map and ben.map)
        await anna.account.remove_friend(ben.user_id)
        await eventually(lambda: not anna.map and not ben.map, within_s=1)
        assert [(entry.user_id, entry.reason) for entry in ben.gone] == [(anna.user_id, "removed")]
        seen = len(ben.entries)
        anna.client.report(*NORTH_200_M)
        await acknowledged(anna)
        await turn(ben)
        assert len(ben.entries) == seen


async def test_my_own_move_reevaluates_friends_who_stand_still(api: NearbyApi) -> None:
    anna, ben = await two_friends(api)
    async with anna.online(), ben.online():
        ben.client.report(*NORTH_200_M)
        anna.client.report(*HERE)
        await eventually(lambda: anna.map == {ben.user_id: 200})
        anna.client.report(*NORTH_200_M)
        await eventually(lambda: anna.map == {ben.user_id: 0})
        anna.client.set_radius(50)
        await eventually(lambda: anna.map == {ben.user_id: 0})
        anna.client.report(*HERE)
        await eventually(lambda: anna.map == {})
        assert anna.gone[-1].reason == "out_of_range"


async def test_no_friendship_without_acceptance(api: NearbyApi) -> None:
    anna, ben = await sign_up(api), await sign_up(api)
    async with anna.online(), ben.online():
        await anna.account.friend_request(user_id=ben.user_id)
        ben.client.report(*HERE)
        anna.client.report(*HERE)
        await acknowledged(ben)
        await acknowledged(anna)
        await turn(anna)
        await turn(ben)
        assert anna.entries == ben.entries == []
        assert await anna.account.friends() == []


async def test_nobody_reads_anothers_history(stack: Stack, api: NearbyApi) -> None:
    anna, ben = await two_friends(api)
    async with anna.online():
        anna.client.report(*HERE)
        await acknowledged(anna)
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as http:

        async def history(person: Person, path: str = "/v1/me/history") -> httpx.Response:
            return await http.get(path, headers={"Authorization": f"Bearer {person.account.access_token}"})

        async def written() -> bool:
            return len((await history(anna)).json()["items"]) == 1

        await eventually(written, within_s=10)
        assert (await history(ben)).json()["items"] == []
        for path in (f"/v1/users/{anna.user_id}/history", f"/v1/friends/{anna.user_id}/history"):
            assert (await history(ben, path)).status_code == 404
        for parameter in ("user_id", "handle", "id"):
            answer = await history(ben, f"/v1/me/history?{parameter}={anna.user_id}")
            assert answer.status_code in (200, 422)
            assert anna.user_id not in answer.text or answer.status_code == 422
            assert str(HERE[0]) not in answer.text


async def test_S2_a_token_in_the_url_is_refused_and_appears_in_no_log(stack: Stack, api: NearbyApi) -> None:
    anna = await sign_up(api)
    token = anna.account.access_token
    url = f"{stack.gateways[0].ws_url}?token={token}"
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(url, subprotocols=[websockets.Subprotocol("nearby.v1.json")], proxy=None)
    assert refused.value.response.status_code == 400
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as http:
        assert (await http.get(f"/v1/me?access_token={token}")).status_code == 400
    for name in ("api", "gw-1", "gw-2"):
        assert token not in stack.log(name)


async def test_users_do_not_flicker_between_reports(api: NearbyApi) -> None:
    anna, ben = await two_friends(api)
    async with anna.online(), ben.online():
        anna.client.report(*HERE)
        ben.client.report(*HERE)
        await eventually(lambda: anna.map == {ben.user_id: 0})
        for _ in range(15):
            ben.client.report(*HERE)
            await acknowledged(ben)
            assert anna.map == {ben.user_id: 0}
        assert anna.gone == []


async def test_a_paused_friend_becomes_inactive_and_comes_back_on_resuming(stack: Stack, api: NearbyApi) -> None:
    anna, ben = await two_friends(api)
    async with anna.online(stack.gateways[0].ws_url), ben.online(stack.gateways[1].ws_url):
        anna.client.report(*HERE)
        ben.client.report(*HERE)
        await eventually(lambda: anna.map == {ben.user_id: 0})
        await set_sharing(stack, ben, "paused")
        await eventually(lambda: anna.map == {}, within_s=1)
        assert anna.gone[-1].reason == "inactive"
        seen = len(anna.entries)
        ben.client.report(*NORTH_200_M)
        await acknowledged(ben)
        await turn(anna)
        assert len(anna.entries) == seen
        await set_sharing(stack, ben, "on")
        await eventually(lambda: anna.map == {ben.user_id: 200}, within_s=2)


async def test_logging_out_closes_the_socket_with_4403_and_the_token_opens_no_other(
    stack: Stack, api: NearbyApi
) -> None:
    anna = await sign_up(api)
    headers = {"Authorization": f"Bearer {anna.account.access_token}"}
    subprotocols = [websockets.Subprotocol("nearby.v1.json")]
    url = stack.gateways[0].ws_url
    async with websockets.connect(url, additional_headers=headers, subprotocols=subprotocols, proxy=None) as socket:
        assert json.loads(await socket.recv())["type"] == "welcome"
        async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as http:
            assert (await http.delete("/v1/tokens", headers=headers)).status_code == 204
        async with asyncio.timeout(5):
            await socket.wait_closed()
        assert socket.close_code == 4403
    async with websockets.connect(url, additional_headers=headers, subprotocols=subprotocols, proxy=None) as socket:
        async with asyncio.timeout(5):
            await socket.wait_closed()
        assert socket.close_code == 4403


async def test_a_client_that_comes_back_sees_the_map_at_once_without_reporting(stack: Stack, api: NearbyApi) -> None:
    anna, ben = await two_friends(api)
    async with anna.online(), ben.online():
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: anna.map and ben.map)
    anna.events.clear()
    async with anna.online():
        await eventually(lambda: anna.map == {ben.user_id: 200})


async def test_the_map_over_rest_equals_the_map_over_the_socket(api: NearbyApi) -> None:
    anna, ben = await two_friends(api)
    with pytest.raises(ApiError, match="location_unknown"):
        await anna.account.nearby()
    async with anna.online(), ben.online():
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: anna.map == {ben.user_id: 200})
        assert await anna.account.nearby() == list(anna.client.friends.values())
        assert await anna.account.nearby(radius_m=150) == []


# ---------------------------------------------------------------------------------------------- helpers


def has_snapshot(person: Person) -> bool:
    return any(isinstance(event, Snapshot) for event in person.events)


def changes_of(person: Person) -> list[FriendsChanged]:
    return [event for event in person.events if isinstance(event, FriendsChanged)]


async def acknowledged(person: Person) -> None:
    """Wait until the last report of ``person`` has been acknowledged."""
    await eventually(lambda: any(getattr(event, "seq", None) == person.client._seq for event in person.events))


async def turn(person: Person) -> None:
    """Wait until everything sent to ``person`` before now must have come in: a snapshot asked for now has."""
    count = sum(isinstance(event, Snapshot) for event in person.events)
    person.client.resync()
    await eventually(lambda: sum(isinstance(event, Snapshot) for event in person.events) > count)


async def set_sharing(stack: Stack, person: Person, state: str) -> None:
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as http:
        headers = {"Authorization": f"Bearer {person.account.access_token}"}
        answer = await http.put("/v1/me/sharing", headers=headers, json={"state": state, "until_ms": None})
        assert answer.status_code == 200, answer.text
