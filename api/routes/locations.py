"""``POST /v1/locations``: reporting where one is or was, for clients without a socket."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request

from api.auth import Caller
from api.problems import Problem, documented, invalid_request, not_authenticated
from api.rights_schemas import AckBody, RejectedPointBody
from api.services import Services, ServicesDep
from nearby.codecs import JSON
from nearby.fixes import recorded_at
from nearby.messages import MAX_BATCH_POINTS, InvalidMessage
from nearby.model import FriendList, Location, UserId

router = APIRouter(prefix="/v1/locations", tags=["locations"])

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_points_decoder = msgspec.json.Decoder(list[msgspec.Raw])

_POINT = {"type": "object", "description": "as in the wire protocol: `lat`, `lon` and what else is known"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "location": _POINT,
                        "points": {"type": "array", "items": _POINT, "maxItems": MAX_BATCH_POINTS},
                    },
                    "additionalProperties": False,
                    "minProperties": 1,
                    "maxProperties": 1,
                }
            }
        },
    }
}


@router.post("", responses=documented(401, 413), openapi_extra=_BODY, response_model_exclude_none=True)
async def report(services: ServicesDep, caller: Caller, request: Request) -> AckBody:
    """Report one ``location``, which friends are shown, or ``points`` of before, for the history alone.

    The answer is that of an ``ack``. 422 ``invalid_location``, ``too_old`` or ``too_many_points``.
    """
    body = _decoded(await request.body())
    user = await _user(services, caller.user_id)
    try:
        if "points" in body:
            return await _store(services, user, body["points"])
        point = JSON.decode_point(body["location"])
        location = point.at(recorded_at(point, services.clock()))
    except InvalidMessage as error:
        raise Problem(422, error.code, error.detail) from error
    return AckBody(recorded_at_ms=location.recorded_at_ms, live=await services.reports.report(user, location))


async def _user(services: Services, user_id: UserId) -> FriendList:
    [user] = await services.graph.friend_lists.read([user_id])
    if user is None:
        raise not_authenticated("the access token is not good (any more)")
    return user


async def _store(services: Services, user: FriendList, data: msgspec.Raw) -> AckBody:
    try:
        raw_points = _points_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise invalid_request(f"body.points: {error}") from error
    if not 1 <= len(raw_points) <= MAX_BATCH_POINTS:
        raise InvalidMessage("too_many_points", f"{len(raw_points)} points; 1 to {MAX_BATCH_POINTS}")
    now_ms = services.clock()
    locations: list[Location] = []
    rejected: list[RejectedPointBody] = []
    for index, raw in enumerate(raw_points):
        try:
            point = JSON.decode_point(raw)
            locations.append(point.at(recorded_at(point, now_ms)))
        except InvalidMessage as problem:
            rejected.append(RejectedPointBody(index=index, code=problem.code))
    return AckBody(stored=await services.reports.store(user, locations), rejected=rejected)


def _decoded(data: bytes) -> dict[str, msgspec.Raw]:
    try:
        body = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_request("body: not a JSON object") from error
    if len(body) != 1 or not body.keys() <= {"location", "points"}:
        raise invalid_request("body: give either location or points")
    return body
