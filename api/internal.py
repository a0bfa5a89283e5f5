"""The internal port, for gateways: friend lists in batches, and the change feed.

Plain Starlette and msgspec: when 10,000 clients reconnect, this is what they wait for.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api import problems
from api.guards import LimitBody
from api.metrics import CountRequests, RequestMetrics
from api.problems import invalid_request, not_authenticated, response_of
from http_port.admin import bearer_matches
from nearby.changes import Change
from nearby.model import FriendList, UserId
from nearby.settings import Secret
from social_graph.friend_lists import MAX_USERS
from social_graph.graph import SocialGraph

MAX_CHANGES = 1000
MAX_SIGHTINGS = 500

_UserIdField = Annotated[str, msgspec.Meta(max_length=36)]


class FriendListsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose lists are wanted."""

    user_ids: Annotated[list[_UserIdField], msgspec.Meta(max_length=MAX_USERS)]


class FriendListsBody(msgspec.Struct, frozen=True):
    """The lists in the order asked for; null: no such user."""

    lists: list[FriendList | None]


class SightingsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Owners and viewers who have just received a location of theirs."""

    pairs: Annotated[list[tuple[_UserIdField, _UserIdField]], msgspec.Meta(max_length=MAX_SIGHTINGS)]


class NotedBody(msgspec.Struct, frozen=True):
    """How many pairs were taken; those that are no friends are not kept."""

    noted: int


class ChangesBody(msgspec.Struct, frozen=True):
    """Changes, oldest first, the newest row of the feed, and the newest that is no longer kept (0: all are)."""

    changes: list[Change]
    latest: int
    pruned_to: int


_request_decoder = msgspec.json.Decoder(FriendListsRequest)
_sightings_decoder = msgspec.json.Decoder(SightingsRequest)
_encoder = msgspec.json.Encoder()


def create_internal_app(graph: SocialGraph, service_token: Secret, metrics: RequestMetrics) -> Starlette:
    """Return the application of the internal port; ``service_token`` opens it."""

    async def friend_lists(request: Request) -> Response:
        try:
            wanted = _request_decoder.decode(await request.body())
        except msgspec.MsgspecError as error:
            raise invalid_request(str(error)) from error
        return _json(FriendListsBody(await graph.friend_lists.read([UserId(text) for text in wanted.user_ids])))

    async def changes(request: Request) -> Response:
        after, limit = _integer(request, "after", 0), _integer(request, "limit", MAX_CHANGES)
        part = await graph.changes.part_after(after, min(limit, MAX_CHANGES))
        return _json(ChangesBody(part.changes, part.latest, part.pruned_to))

    async def sightings(request: Request) -> Response:
        try:
            noted = _sightings_decoder.decode(await request.body())
        except msgspec.MsgspecError as error:
            raise invalid_request(str(error)) from error
        await graph.viewers.note([(UserId(owner), UserId(viewer)) for owner, viewer in noted.pairs])
        return _json(NotedBody(len(noted.pairs)))

    app = Starlette(
        routes=[
            Route("/internal/v1/friend-lists", friend_lists, methods=["POST"]),
            Route("/internal/v1/changes", changes, methods=["GET"]),
            Route("/internal/v1/sightings", sightings, methods=["POST"]),
        ],
        middleware=[
            Middleware(CountRequests, metrics=metrics),
            Middleware(_RequireServiceToken, service_token=service_token),
            Middleware(LimitBody),
        ],
    )
    problems.install(app)
    return app


class _RequireServiceToken:
    """Answers 401 to everything without the service token, so that paths do not show themselves either."""

    def __init__(self, app: ASGIApp, service_token: Secret) -> None:
        self._app = app
        self._service_token = service_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            authorization = Request(scope).headers.get("authorization")
            if not bearer_matches(authorization, self._service_token):
                await response_of(not_authenticated("this needs the service token"))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _json(body: msgspec.Struct) -> Response:
    return Response(_encoder.encode(body), media_type="application/json")


def _integer(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 15):
        raise invalid_request(f"query.{name}: not a non-negative integer")
    return int(text)
