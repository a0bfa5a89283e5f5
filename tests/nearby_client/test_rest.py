from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from http_port.serve import serve
from nearby_client import Account, ApiError, ApiUnreachable, Friend, FriendRequest, NearbyApi, NearbyClient, Tokens
from nearby_client.events import Connected
from tests.nearby_client.scripted_gateway import Pauses, scripted_gateway, until, welcome

ADA = {"user_id": "1", "handle": "ada", "display_name": "Ada"}
FRIEND = {**ADA, "since_ms": 5, "sharing": "exact", "novel": True}


class ScriptedApi:
    """An API that answers each path with what a test has set, and knows one good access token."""

    def __init__(self) -> None:
        self.answers: dict[str, Response] = {}
        self.asked: list[Request] = []
        self.good_token = "new"
        self.refreshes = 0
        self.app = Starlette(
            routes=[
                Route("/v1/tokens/refresh", self._refresh, methods=["POST"]),
                Route("/{path:path}", self._answer, methods=["GET", "POST", "PUT", "DELETE"]),
            ]
        )

    async def _refresh(self, _: Request) -> Response:
        self.refreshes += 1
        return JSONResponse({"access_token": "new", "refresh_token": "r-2", "expires_in_s": 900})

    async def _answer(self, request: Request) -> Response:
        self.asked.append(request)
        if request.headers.get("Authorization") not in (None, f"Bearer {self.good_token}"):
            return JSONResponse({"code": "token_expired", "detail": "renew it"}, 401)
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return self.answers[path]


@pytest.fixture
def script() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
async def api(script: ScriptedApi) -> AsyncIterator[NearbyApi]:
    async with serve(script.app, "127.0.0.1", 0) as url, NearbyApi(url) as api:
        yield api


def account(api: NearbyApi, access_token: str = "new") -> Account:
    return Account(api, Tokens(access_token, "r-1", 900))


async def test_a_refusal_carries_status_code_and_detail(api: NearbyApi, script: ScriptedApi) -> None:
    script.answers["/v1/users"] = JSONResponse({"code": "handle_taken", "detail": "choose another"}, 409)
    with pytest.raises(ApiError) as caught:
        await api.sign_up("ada", "a long password", "Ada")
    assert (caught.value.status, caught.value.code, caught.value.detail) == (409, "handle_taken", "choose another")


async def test_a_refusal_that_is_no_problem_document_is_named_by_its_status(
    api: NearbyApi, script: ScriptedApi
) -> None:
    script.answers["/v1/users"] = Response("<html>", 502)
    with pytest.raises(ApiError) as caught:
        await api.sign_up("ada", "a long password", "Ada")
    assert caught.value.code == "http_502"


async def test_an_answer_of_another_shape_and_no_answer_at_all_are_unreachable(
    api: NearbyApi, script: ScriptedApi
) -> None:
    script.answers["/v1/me"] = JSONResponse({"name": "Ada"})
    with pytest.raises(ApiUnreachable):
        await account(api).me()
    async with NearbyApi("http://127.0.0.1:1") as nobody:
        with pytest.raises(ApiUnreachable):
            await nobody.log_in("ada", "a long password")


async def test_a_request_waits_or_makes_the_friendship(api: NearbyApi, script: ScriptedApi) -> None:
    script.answers["/v1/friend-requests"] = JSONResponse({"request_id": "q", "to": ADA}, 201)
    assert isinstance(await account(api).friend_request(handle="ada"), FriendRequest)
    script.answers["/v1/friend-requests"] = JSONResponse(FRIEND)
    assert await account(api).friend_request(user_id="1") == Friend("1", "ada", "Ada", 5, "exact")


async def test_lists_are_read_to_their_last_page(api: NearbyApi, script: ScriptedApi) -> None:
    script.answers["/v1/friends"] = JSONResponse({"items": [FRIEND], "next_cursor": "c1"})
    script.answers["/v1/friends?cursor=c1"] = JSONResponse({"items": [FRIEND, FRIEND], "next_cursor": None})
    assert len(await account(api).friends()) == 3


async def test_incoming_requests_name_their_sender(api: NearbyApi, script: ScriptedApi) -> None:
    item = {"request_id": "q", "from": ADA, "to": ADA, "created_ms": 1}
    script.answers["/v1/friend-requests?direction=incoming"] = JSONResponse({"items": [item], "next_cursor": None})
    (request,) = await account(api).incoming_requests()
    assert (request.request_id, request.person.handle) == ("q", "ada")


async def test_what_is_held_can_be_limited_and_deleted(api: NearbyApi, script: ScriptedApi) -> None:
    paths = ["/v1/me/history-settings", "/v1/me/history?from_ms=5&to_ms=9", "/v1/me"]
    script.answers.update({path: Response(status_code=202) for path in paths})
    ada = account(api)
    await ada.keep_history("1_day")
    await ada.delete_history(5, 9)
    await ada.delete("a long password")
    assert [request.method for request in script.asked] == ["PUT", "DELETE", "DELETE"]


async def test_an_expired_access_token_is_renewed_once_for_all_calls_it_ended(
    api: NearbyApi, script: ScriptedApi
) -> None:
    script.answers["/v1/me"] = JSONResponse(ADA)
    ada = account(api, access_token="old")
    people = await asyncio.gather(*(ada.me() for _ in range(5)))
    assert {person.handle for person in people} == {"ada"}
    assert script.refreshes == 1
    assert ada.access_token == "new"


async def test_a_token_that_stays_refused_is_an_error_and_no_loop(api: NearbyApi, script: ScriptedApi) -> None:
    script.good_token = "another"
    with pytest.raises(ApiError) as caught:
        await account(api).me()
    assert caught.value.status == 401
    assert script.refreshes == 1


async def test_tokens_are_not_shown_in_a_repr(api: NearbyApi) -> None:
    assert "r-1" not in repr(account(api).tokens)


async def test_a_client_asks_for_a_gateway_at_each_connection_and_shares_the_account(
    api: NearbyApi, script: ScriptedApi
) -> None:
    async with scripted_gateway() as first, scripted_gateway() as second:
        script.answers["/v1/gateway"] = JSONResponse({"url": first.url})
        async with NearbyClient(api, account(api).token, sleep=Pauses()) as client:
            peer = await first.next_peer()
            await peer.send(welcome())
            assert (await until(client, Connected)).url == first.url
            script.answers["/v1/gateway"] = JSONResponse({"url": second.url})
            await peer.close(1012)
            peer = await second.next_peer()
            await peer.send(welcome(gateway_id="gw-2"))
            assert (await until(client, Connected)).url == second.url
            assert peer.token == "new"


async def test_a_client_keeps_trying_the_gateway_it_knows_while_the_api_is_away(script: ScriptedApi) -> None:
    async with scripted_gateway() as gateway, serve(script.app, "127.0.0.1", 0) as url, NearbyApi(url) as api:
        script.answers["/v1/gateway"] = JSONResponse({"url": gateway.url})
        async with NearbyClient(url, "new", sleep=Pauses()) as client:
            peer = await gateway.next_peer()
            await peer.send(welcome())
            await until(client, Connected)
            script.answers["/v1/gateway"] = Response("not JSON")
            await peer.close(4500)
            await (await gateway.next_peer()).send(welcome())
            await until(client, Connected)
        assert api.base_url == url
