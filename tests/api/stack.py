"""The API's applications on real stores, with a held clock, and shortcuts to their users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import msgspec
from fastapi import FastAPI

from api.services import Services
from nearby.changes import Change, decode
from nearby.channels import control_channel, user_of
from nearby.model import UserId
from nearby.settings import Secret
from nearby.tokens import TokenKeys
from pubsub_router.router import Router
from tests.social_graph.clock import HeldClock

PASSWORD = "correct horse battery"
TOKEN_KEYS = TokenKeys({"k1": b"1" * 32})
SERVICE_TOKEN = Secret("service-token-of-tests")
RADIUS_M = 8_047.0

Json = dict[str, object]


@dataclass(frozen=True)
class User:
    user_id: UserId
    handle: str
    access_token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}

    @property
    def person(self) -> Json:
        return {"user_id": self.user_id, "handle": self.handle, "display_name": self.handle.title()}


@dataclass
class Stack:
    public: httpx.AsyncClient
    internal: httpx.AsyncClient
    services: Services
    clock: HeldClock

    def use(self, services: Services) -> None:
        """Let the public port work with other services from now on."""
        transport = self.public._transport
        assert isinstance(transport, httpx.ASGITransport)
        assert isinstance(transport.app, FastAPI)
        transport.app.state.services = self.services = services

    async def user(self, handle: str) -> User:
        """Sign somebody up; the token is issued without the costly log-in."""
        body = {"handle": handle, "password": PASSWORD, "display_name": handle.title()}
        answer = await self.public.post("/v1/users", json=body)
        assert answer.status_code == 201, answer.text
        user_id = UserId(answer.json()["user_id"])
        return User(user_id, handle, TOKEN_KEYS.issue(user_id, self.clock(), 3_600))

    async def users(self, *handles: str) -> list[User]:
        return [await self.user(handle) for handle in handles]

    async def log_in(self, user: User) -> Json:
        answer = await self.public.post("/v1/tokens", json={"handle": user.handle, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        return body

    async def get(self, path: str, user: User) -> httpx.Response:
        return await self.public.get(path, headers=user.headers)

    async def post(self, path: str, user: User, body: Json | None = None) -> httpx.Response:
        return await self.public.post(path, headers=user.headers, json=body)

    async def put(self, path: str, user: User, body: Json) -> httpx.Response:
        return await self.public.put(path, headers=user.headers, json=body)

    async def patch(self, path: str, user: User, body: Json) -> httpx.Response:
        return await self.public.patch(path, headers=user.headers, json=body)

    async def delete(self, path: str, user: User, body: Json | None = None) -> httpx.Response:
        return await self.public.request("DELETE", path, headers=user.headers, json=body)

    async def ask(self, sender: User, addressee: User) -> str:
        answer = await self.post("/v1/friend-requests", sender, {"user_id": addressee.user_id})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["request_id"])

    async def befriend(self, one: User, other: User) -> None:
        request_id = await self.ask(one, other)
        answer = await self.post(f"/v1/friend-requests/{request_id}/accept", other)
        assert answer.status_code == 200, answer.text

    async def friend_ids(self, user: User) -> set[str]:
        answer = await self.get("/v1/friends?limit=200", user)
        return {item["user_id"] for item in answer.json()["items"]}

    async def feed(self) -> list[Change]:
        answer = await self.internal.get("/internal/v1/changes?after=0", headers=service_headers())
        return [decode(msgspec.json.encode(change)) for change in answer.json()["changes"]]


def service_headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {SERVICE_TOKEN.value}"}


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.keys() == {"type", "title", "status", "detail", "code"}
    assert (body["status"], body["code"]) == (status, code)
    assert body["detail"]


class Ear:
    """Hears what a router is subscribed to."""

    def __init__(self) -> None:
        self.heard: list[tuple[UserId, Change]] = []

    async def listen(self, router: Router, users: Sequence[User]) -> None:
        channels = [control_channel(user.user_id) for user in users]
        router.subscribe(channels)
        await router.confirmed(channels)

    def on_message(self, channel: bytes, payload: bytes) -> None:
        self.heard.append((user_of(channel), decode(payload)))

    def on_burst_end(self) -> None:
        pass

    def on_gap(self, channels: Sequence[bytes]) -> None:
        pass
