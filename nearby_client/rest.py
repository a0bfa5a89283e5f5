"""The REST calls that an app needs. The only file that knows the ``httpx`` library."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self, TypeVar

import httpx
import msgspec

from nearby.messages import FriendEntry
from nearby_client.errors import ApiError, ApiUnreachable

TIMEOUT_S = 10.0
"""How long a call may take, waiting for a free connection included."""
MAX_CONNECTIONS = 32

T = TypeVar("T")


class Person(msgspec.Struct, frozen=True):
    """A user as others see them."""

    user_id: str
    handle: str
    display_name: str


class Friend(Person, frozen=True):
    """A friend since ``since_ms`` (Unix milliseconds).

    ``sharing`` is how exactly they may see me: ``exact``, ``approximate`` or ``off``.
    """

    since_ms: int
    sharing: str


class FriendRequest(msgspec.Struct, frozen=True):
    """A friend request that waits for its answer. ``to`` is whom it was sent to."""

    request_id: str
    to: Person


class IncomingRequest(msgspec.Struct, frozen=True):
    """A friend request that waits for this user's answer."""

    request_id: str
    person: Person = msgspec.field(name="from")


class Invite(msgspec.Struct, frozen=True):
    """An invite just made. ``link`` is what to send to a friend; ``token`` is the part of it that they accept."""

    invite_id: str
    token: str
    link: str
    expires_ms: int

    def __repr__(self) -> str:
        return f"Invite({self.invite_id}, …)"


class InForce(msgspec.Struct, frozen=True):
    """How exactly a friend may see me now, for which ``reason``, and until when (Unix milliseconds; ``None``: open)."""

    precision: str
    reason: str
    until_ms: int | None = None


class Viewer(Person, frozen=True):
    """A friend as somebody who may see me; ``last_seen_ms`` is when they last got a location of mine, to the minute."""

    in_force: InForce
    last_seen_ms: int | None = None


class Tokens(msgspec.Struct, frozen=True):
    """What a log-in gives. The access token is good for ``expires_in_s`` seconds from then."""

    access_token: str
    refresh_token: str
    expires_in_s: float

    def __repr__(self) -> str:
        return "Tokens(…)"


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    next_cursor: str | None = None


class _Url(msgspec.Struct):
    url: str


class _Nearby(msgspec.Struct):
    friends: list[FriendEntry]


class _Problem(msgspec.Struct):
    code: str = ""
    detail: str = ""
    title: str = ""


class NearbyApi:
    """The API at ``base_url``, for any number of users. An async context manager.

    Every call raises :class:`~nearby_client.errors.ApiError` when the API refuses it and
    :class:`~nearby_client.errors.ApiUnreachable` when no answer comes within :data:`TIMEOUT_S`.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            timeout=TIMEOUT_S,
            trust_env=False,
            # Reading the trust store takes tens of milliseconds; without TLS there is nothing to verify.
            verify=self.base_url.startswith("https:"),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        await self._http.aclose()

    async def sign_up(self, handle: str, password: str, display_name: str) -> Person:
        """Create a user. ``handle``: 3-30 of ``a-z0-9_``; ``password``: 10 characters or more."""
        body = {"handle": handle, "password": password, "display_name": display_name}
        return await self._call("POST", "/v1/users", Person, body=body)

    async def log_in(self, handle: str, password: str) -> Account:
        """Return the account of a user who has signed up, logged in."""
        tokens = await self._call("POST", "/v1/tokens", Tokens, body={"handle": handle, "password": password})
        return Account(self, tokens)

    async def refresh(self, refresh_token: str) -> Tokens:
        """Return new tokens for a refresh token, which is no good afterwards."""
        return await self._call("POST", "/v1/tokens/refresh", Tokens, body={"refresh_token": refresh_token})

    async def gateway(self, access_token: str) -> str:
        """Return the WebSocket URL of a gateway to connect to, chosen anew at each call."""
        return (await self._call("GET", "/v1/gateway", _Url, token=access_token)).url

    async def _call(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        token: str | None = None,
        body: Mapping[str, object] | None = None,
    ) -> T:
        return _decode(await self.send(method, path, token, body), answer)

    async def send(
        self,
        method: str,
        path: str,
        token: str | None = None,
        body: Mapping[str, object] | None = None,
        query: Mapping[str, str | float] | None = None,
    ) -> bytes:
        """Make one call, as the bearer of ``token`` if given, and return the answer's body."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else None
        try:
            response = await self._http.request(method, path, json=body, params=query, headers=headers)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ApiUnreachable(f"{method} {path}: {type(error).__name__} {error}") from error
        if response.is_success:
            return response.content
        raise _problem(response)


def _decode(content: bytes, answer: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=answer)
    except msgspec.MsgspecError as error:
        raise ApiUnreachable(f"not an answer of this API: {error}") from error


def _problem(response: httpx.Response) -> ApiError:
    """Return the error that a problem+json answer (RFC 9457) describes."""
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.MsgspecError:
        problem = _Problem()
    code = problem.code or f"http_{response.status_code}"
    return ApiError(response.status_code, code, problem.detail or problem.title or response.reason_phrase)


class Account:
    """One user, logged in. Give :meth:`token` to a :class:`~nearby_client.client.NearbyClient`.

    An access token that has ended is renewed by itself, once, for the call that it ended.
    """

    def __init__(self, api: NearbyApi, tokens: Tokens) -> None:
        self.api = api
        self.tokens = tokens
        self._renewing = asyncio.Lock()

    @property
    def access_token(self) -> str:
        """The access token of now."""
        return self.tokens.access_token

    async def token(self, refused: str | None = None) -> str:
        """Return an access token other than ``refused``: the present one, or a renewed one.

        Any number of callers may hold the same refused token; it is renewed once.
        """
        async with self._renewing:
            if refused is not None and refused == self.tokens.access_token:
                self.tokens = await self.api.refresh(self.tokens.refresh_token)
            return self.tokens.access_token

    async def me(self) -> Person:
        """Return this user."""
        return await self._call("GET", "/v1/me", Person)

    async def delete(self, password: str | None = None) -> None:
        """Delete this account and everything about it, for good; ``password`` is checked, if it is given."""
        await self._send("DELETE", "/v1/me", None if password is None else {"password": password})

    async def keep_history(self, retention: str) -> None:
        """Keep this user's points for ``live_only``, ``1_day``, ``30_days`` or the ``default``."""
        await self._send("PUT", "/v1/me/history-settings", {"retention": retention})

    async def delete_history(self, from_ms: int, to_ms: int) -> None:
        """Delete what was recorded in [``from_ms``, ``to_ms``), Unix milliseconds."""
        await self._send("DELETE", "/v1/me/history", query={"from_ms": from_ms, "to_ms": to_ms})

    async def friend_request(self, *, user_id: str | None = None, handle: str | None = None) -> Friend | FriendRequest:
        """Ask a user, named by id or by handle, to be friends.

        A request that crosses theirs makes the friendship: then the friend is returned.
        """
        body = {"user_id": user_id} if user_id is not None else {"handle": handle}
        answer = await self._call("POST", "/v1/friend-requests", msgspec.Raw, body=body)
        if "request_id" in _decode(answer, dict[str, msgspec.Raw]):
            return _decode(answer, FriendRequest)
        return _decode(answer, Friend)

    async def incoming_requests(self) -> list[IncomingRequest]:
        """Return every friend request that waits for this user's answer."""
        return await self._all("/v1/friend-requests", IncomingRequest, {"direction": "incoming"})

    async def accept(self, request_id: str) -> Friend:
        """Accept a friend request."""
        return await self._call("POST", f"/v1/friend-requests/{request_id}/accept", Friend)

    async def decline(self, request_id: str) -> None:
        """Decline a friend request."""
        await self._send("POST", f"/v1/friend-requests/{request_id}/decline")

    async def friends(self) -> list[Friend]:
        """Return every friend."""
        return await self._all("/v1/friends", Friend, {})

    async def remove_friend(self, user_id: str) -> None:
        """End a friendship; once this returns, neither sees the other."""
        await self._send("DELETE", f"/v1/friends/{user_id}")

    async def invite(self, max_uses: int = 1) -> Invite:
        """Make an invite for ``max_uses`` people, good for a week."""
        return await self._call("POST", "/v1/invites", Invite, body={"max_uses": max_uses})

    async def accept_invite(self, token: str) -> Friend:
        """Become a friend of whoever made the invite with this token (what follows ``#`` in its link)."""
        return await self._call("POST", "/v1/invitations/accept", Friend, body={"token": token})

    async def block(self, user_id: str) -> None:
        """End what there is with a user, and be nobody to them from now on."""
        await self._send("PUT", f"/v1/blocks/{user_id}", {})

    async def unblock(self, user_id: str) -> None:
        """End a block. The friendship does not come back by itself."""
        await self._send("DELETE", f"/v1/blocks/{user_id}")

    async def pause(self, until_ms: int | None = None) -> None:
        """Share with nobody until ``until_ms`` (Unix milliseconds; ``None``: until resumed)."""
        await self._send("PUT", "/v1/me/sharing", {"state": "paused", "until_ms": until_ms})

    async def resume(self) -> None:
        """Share again, by the rules as they are."""
        await self._send("PUT", "/v1/me/sharing", {"state": "on"})

    async def show(self, user_id: str, precision: str, until_ms: int | None = None) -> None:
        """Let a friend see me ``exact``, ``approximate`` or ``off``; until ``until_ms``, or for good."""
        await self._send("PUT", f"/v1/friends/{user_id}/sharing", {"precision": precision, "until_ms": until_ms})

    async def viewers(self) -> list[Viewer]:
        """Return who may see me, how exactly and why, and when they last did."""
        return await self._all("/v1/me/viewers", Viewer, {})

    async def nearby(self, radius_m: float | None = None) -> list[FriendEntry]:
        """Return the friends now within ``radius_m`` metres (``None``: the server's default), without a socket."""
        query = {} if radius_m is None else {"radius_m": radius_m}
        return (await self._call("GET", "/v1/nearby", _Nearby, query=query)).friends

    async def _all(self, path: str, item: type[T], query: Mapping[str, str]) -> list[T]:
        """Return the items of every page of a list."""
        items: list[T] = []
        cursor: str | None = None
        while True:
            page_query = query if cursor is None else {**query, "cursor": cursor}
            page = await self._call("GET", path, _Page, query=page_query)
            items += [_decode(raw, item) for raw in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return items

    async def _call(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        body: Mapping[str, object] | None = None,
        query: Mapping[str, str | float] | None = None,
    ) -> T:
        return _decode(await self._send(method, path, body, query), answer)

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        query: Mapping[str, str | float] | None = None,
    ) -> bytes:
        token = self.access_token
        try:
            return await self.api.send(method, path, token, body, query)
        except ApiError as error:
            if error.status != 401:
                raise
        return await self.api.send(method, path, await self.token(refused=token), body, query)
