"""``nearby explain`` against a real stack: the sentence, the exit status, the audit, and no places."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from nearby_client import NearbyApi
from tests.cli.test_drain import nearby
from tests.support.eventually import eventually
from tests.support.people import Person, befriend, sign_up
from tests.support.sharing import rules_at
from tests.support.stack import Stack, running_stack

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("explain")]

HERE, NORTH_200_M, FAR = (41.8800, -87.6300), (41.8818, -87.6300), (42.3000, -87.6300)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def api(stack: Stack) -> AsyncIterator[NearbyApi]:
    async with NearbyApi(stack.api_url) as client:
        yield client


async def explained(stack: Stack, viewer: Person, friend: Person) -> tuple[int | None, Any]:
    status, out, err = await nearby(
        "explain", viewer.user_id, friend.user_id, "--json", "--reason", "a test", "--data-dir", str(stack.data_dir)
    )
    assert out, err
    return status, json.loads(out)


async def says(stack: Stack, viewer: Person, friend: Person, words: str) -> None:
    status, answer = await explained(stack, viewer, friend)
    assert words in answer["verdict"]
    assert status == 3


async def test_it_tells_what_stands_in_the_way_step_by_step(stack: Stack, api: NearbyApi) -> None:
    anna, ben = await sign_up(api), await sign_up(api)
    await says(stack, anna, ben, "they are no friends")
    await ben.account.block(anna.user_id)
    await says(stack, anna, ben, "one of them blocks the other")
    await ben.account.unblock(anna.user_id)
    await befriend(anna, ben)
    await says(stack, anna, ben, "is inactive")
    one, other = (gateway.ws_url for gateway in stack.gateways)
    async with rules_at(stack.api_url) as rules, anna.online(one), ben.online(other):
        ben.client.report(*FAR)
        anna.client.report(*HERE)
        await eventually(lambda: any(getattr(event, "friends", None) == [] for event in anna.events))
        await says(stack, anna, ben, "is out of the radius of 8047 m")
        ben.client.report(*NORTH_200_M, recorded_at_ms=None)
        ben.client.report(*NORTH_200_M)  # a jump is believed when it is confirmed
        await eventually(lambda: ben.user_id in anna.client.friends, within_s=10)
        status, answer = await explained(stack, anna, ben)
        assert (status, answer["api"]["distance_m"], answer["api"]["in_force"]["precision"]) == (0, 200, "exact")
        (watching,) = [each for gateway in answer["gateways"] for each in gateway["viewer"]]
        assert (watching["shown"], watching["distance_m"], watching["shard_answers"]) == (True, 200, True)
        assert watching["shard"] in stack.shard_urls
        (publishing,) = [each for gateway in answer["gateways"] for each in gateway["friend"]]
        assert (publishing["exact"], publishing["approximate"]) == (True, False)
        await rules.towards(ben, anna, "approximate")
        await eventually(lambda: anna.client.friends[ben.user_id].precision == "approximate")
        _, answer = await explained(stack, anna, ben)
        assert answer["api"]["distance_m"] % 1000 == 0
        await rules.towards_all(ben, state="paused")
        await says(stack, anna, ben, "does not let them (paused)")
        text = json.dumps(answer)
        assert "41.8" not in text
        assert "87.6" not in text
        assert '"lat' not in text


async def test_the_table_names_the_handles_and_every_question_is_audited(stack: Stack, api: NearbyApi) -> None:
    anna, ben = await sign_up(api), await sign_up(api)
    handles = [(await api_handle(stack, person)) for person in (anna, ben)]
    status, out, err = await nearby("explain", *handles, "--reason", "ticket 4711", "--data-dir", str(stack.data_dir))
    assert (status, err) == (3, "")
    assert f"{handles[0]} does not see {handles[1]}: they are no friends" in out
    for name in ("api", "gw-1", "gw-2"):
        line = next(line for line in stack.log(name).splitlines() if "audit" in line and "ticket 4711" in line)
        entry = json.loads(line[line.index("{") :])
        assert entry["call"].startswith("GET /admin/v1/explain?viewer=")
        assert (entry["status"], entry["outcome"]) == (200, "answered")
        assert "@" in entry["actor"]


async def api_handle(stack: Stack, person: Person) -> str:
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as http:
        headers = {"Authorization": f"Bearer {person.account.access_token}"}
        return str((await http.get("/v1/me", headers=headers)).json()["handle"])


async def test_S7_nobody_is_answered_without_the_token_and_that_is_audited_too(stack: Stack) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        for url in (stack.api_admin_url, stack.gateways[0].admin_url):
            answer = await http.get(f"{url}/admin/v1/explain?viewer=a&friend=b", headers={"X-Actor": "mallory"})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert (await http.get(f"{stack.api_url}/admin/v1/explain?viewer=a&friend=b")).status_code == 404
    assert "mallory" in stack.log("api")
    assert "mallory" in stack.log("gw-1")


async def test_an_unknown_user_is_an_error_of_one_line(stack: Stack) -> None:
    status, out, err = await nearby("explain", "nobody_at_all", "nobody", "--data-dir", str(stack.data_dir))
    assert (status, out) == (1, "")
    assert "404 user_not_found" in err
    assert err.count("\n") == 1


async def test_admin_ports_are_named_together_or_not_at_all(stack: Stack) -> None:
    status, _, err = await nearby("explain", "a", "b", "--admin", "http://127.0.0.1:1", NEARBY_ADMIN_TOKEN="x" * 16)
    assert status == 2
    assert "--api-admin and --admin go together" in err
