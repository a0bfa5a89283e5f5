"""What every operation has in common, put into the OpenAPI document once: errors, headers, links, examples.

Routes declare what is their own; a new route gets all of this by itself. An example belongs to a name, because a name
means the same thing wherever it stands; a test demands one for each new name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api.problems import MEDIA_TYPE, ProblemBody

Json = dict[str, Any]

_PROBLEM = "Problem"
_READS = frozenset({"get", "head"})
_METHODS = frozenset({"get", "put", "post", "delete", "patch"})

_ANN = "8c1d3f0a-5b1e-4d53-9a65-0c6f7f5f2d10"
_CIRCLE = "c3a9e2f4-6d18-4b7c-92e5-0f4b8a1d6c37"
_ERASURE = "6d0b9c1e-2a4f-4c38-b7d5-1e9f3a8c5b02"
_EXPORT = "e1f4a7d2-9b3c-4e60-8a15-7c2d0b6f4e99"
_INVITE = "b5c7a1de-7f0b-4f3b-8f0e-6a1c9e2d4b77"
_REQUEST = "2f6e9b54-3c0d-4a7e-9d21-5b8f0c7a1e33"
_NOW_MS = 1_795_237_200_000
_TOKEN = "Zk3vQ0n1c7m9x2b4s6d8f0g1h3j5k7l9"

EXAMPLES: Json = {
    "access_token": "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiYXQrand0In0.e30.c2lnbmF0dXJl",
    "accuracy_m": 8.0,
    "circle_id": _CIRCLE,
    "code": "user_not_found",
    "created_ms": _NOW_MS,
    "days": ["mon", "fri"],
    "default_precision": "exact",
    "detail": "there is no such user",
    "display_name": "Ann",
    "distance_m": 590,
    "erasure_id": _ERASURE,
    "expires_in_s": 3_600,
    "expires_ms": _NOW_MS + 604_800_000,
    "export_id": _EXPORT,
    "flagged": False,
    "from": "22:00",
    "from_ms": _NOW_MS - 3_600_000,
    "handle": "ann",
    "heading_deg": 270.0,
    "index": 0,
    "invite_id": _INVITE,
    "last_seen_ms": _NOW_MS,
    "lat": 41.8827,
    "link": f"nearby://invite#{_TOKEN}",
    "links": {"openapi": "/openapi.json", "sign_up": "/v1/users"},
    "live": True,
    "lon": -87.6233,
    "max_uses": 1,
    "members": [_ANN],
    "name": "nearby",
    "next_cursor": None,
    "openly": False,
    "password": "correct horse battery",
    "precision": "exact",
    "progress": 0.5,
    "reason": "rule",
    "recorded_at_ms": _NOW_MS,
    "refresh_token": _TOKEN,
    "request_id": _REQUEST,
    "retention": "30_days",
    "sharing": "exact",
    "since_ms": _NOW_MS,
    "simplify_m": 10,
    "size_bytes": 262_144,
    "speed_mps": 1.4,
    "state": "paused",
    "status": 404,
    "stored": 2,
    "then": "exact",
    "time_zone": "Europe/Berlin",
    "title": "Not Found",
    "to": "07:00",
    "token": _TOKEN,
    "token_type": "Bearer",
    "type": "about:blank",
    "until_ms": _NOW_MS + 3_600_000,
    "updated_at_ms": _NOW_MS,
    "url": "ws://127.0.0.1:8081/v1/ws",
    "user_id": _ANN,
    "uses_left": 1,
    "version": "0.1.0",
    "windows": [{"days": ["mon"], "from": "09:00", "to": "17:00", "precision": "off"}],
}
"""By name of field or parameter."""

BODY_EXAMPLES: Json = {
    "NewFriendRequest": {"handle": "ben"},
    "CircleRequest": {"name": "Work", "precision": "approximate"},
    "FriendSharing": {"precision": "approximate"},
    "MySharing": {"state": "paused", "until_ms": None},
    "MeChange": {"display_name": "Ann"},
}
"""By name of schema, for bodies in which not every field may stand."""

PROBLEMS = {
    400: "It is not HTTP or JSON as we know it, or carries a token in its URL (`token_in_url`)",
    401: "No access token, or one that is not good (any more)",
    403: "Somebody else may do this, the caller may not",
    404: "It does not exist, or its existence is not the caller's to know",
    409: "Its present state does not permit this; `code` says why",
    412: "`If-Match` names another state than the present one (`precondition_failed`)",
    413: "The body is too large (`too_large`)",
    422: "A field is wrong (`invalid_request`), or the key was used for another request (`idempotency_key_reused`)",
    429: "Too many requests (`rate_limited`)",
    500: "The server failed, which is its own fault (`internal`)",
    503: "A store did not answer; try again (`unavailable`)",
}
"""What a status means, wherever it stands."""

_RATE_HEADERS: Json = {
    name: {"description": description, "schema": {"type": "string"}, "example": example}
    for name, description, example in (
        ("RateLimit-Policy", "the limit that counts here: requests `q` in `w` seconds", '"reads";q=600;w=60'),
        ("RateLimit", "what is left of it: requests `r`, and all of them again in `t` seconds", '"reads";r=599;t=1'),
    )
}
_ETAG: Json = {"ETag": {"description": "names this answer", "schema": {"type": "string"}, "example": '"qJ8f2w0x"'}}
_RETRY_AFTER: Json = {
    "Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 0}, "example": 1}
}
_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "any text that is this write's own, such as a UUID: sent again, the write has one effect, and its "
    "first answer is given again. 409 `request_in_progress` while it is carried out",
    # Without an example, which tools would send with two different writes.
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]{1,255}$"},
}
_IF_NONE_MATCH: Json = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "the `ETag` of an answer that the client has; if it is still the one, the answer is 304",
    "schema": {"type": "string"},
    "example": '"qJ8f2w0x"',
}

SOCKET: Json = {
    "subprotocol": "nearby.v1.json",
    "authorization": "Authorization: Bearer ACCESS_TOKEN",
    "first_message": {"type": "location", "lat": 41.8827, "lon": -87.6233, "seq": 1},
    "answers": ["welcome", "ack", "snapshot", "update"],
}
"""What to do with the URL that names a gateway (``x-websocket`` of that operation); docs/protocol.md has the rest."""

DESCRIPTION = """\
1. Sign up (`sign_up`) and log in (`log_in`); every other call carries `Authorization: Bearer ACCESS_TOKEN`.
2. Make an invite (`create_invite`) and give its link to a friend, who accepts it (`accept_invite`), or ask somebody by
   handle (`ask`), who accepts that (`accept`).
3. Ask for a gateway (`gateway`) and open a WebSocket to its `url` with the subprotocol and the header that are in
   `x-websocket` of that operation. Send the `first_message` with where you are, again every `report_interval_s` seconds
   as the `welcome` says. The friends near you come as `snapshot` and `update`, or over REST (`nearby`).
"""

LINKS: dict[tuple[str, str], Json] = {
    ("sign_up", "201"): {
        "log_in": {"requestBody": {"handle": "$request.body#/handle", "password": "$request.body#/password"}},
    },
    ("log_in", "200"): {"refresh": {"requestBody": {"refresh_token": "$response.body#/refresh_token"}}},
    ("find_user", "200"): {
        "ask": {"requestBody": {"user_id": "$response.body#/user_id"}},
        "block": {"parameters": {"user_id": "$response.body#/user_id"}},
        "remove_friend": {"parameters": {"user_id": "$response.body#/user_id"}},
    },
    ("ask", "201"): {
        name: {"parameters": {"request_id": "$response.body#/request_id"}} for name in ("accept", "decline", "cancel")
    },
    ("list_requests", "200"): {
        name: {"parameters": {"request_id": "$response.body#/items/0/request_id"}} for name in ("accept", "decline")
    },
    ("create_invite", "201"): {
        "show_invite": {"parameters": {"invite_id": "$response.body#/invite_id"}},
        "revoke_invite": {"parameters": {"invite_id": "$response.body#/invite_id"}},
        "look_up_invite": {"requestBody": {"token": "$response.body#/token"}},
        "accept_invite": {"requestBody": {"token": "$response.body#/token"}},
    },
    ("create_circle", "201"): {
        name: {"parameters": {"circle_id": "$response.body#/circle_id"}}
        for name in ("read_circle", "change_circle", "delete_circle", "add_member")
    },
    ("add_member", "204"): {
        "remove_member": {"parameters": {"circle_id": "$request.path.circle_id", "user_id": "$request.path.user_id"}}
    },
    ("request_export", "202"): {
        name: {"parameters": {"export_id": "$response.body#/export_id"}}
        for name in ("export_progress", "download_export")
    },
    ("accept_invite", "200"): {"remove_friend": {"parameters": {"user_id": "$response.body#/user_id"}}},
    ("accept", "200"): {"remove_friend": {"parameters": {"user_id": "$response.body#/user_id"}}},
    ("list_friends", "200"): {
        name: {"parameters": {"user_id": "$response.body#/items/0/user_id"}}
        for name in ("remove_friend", "sharing_with", "set_sharing_with", "give_history_grant", "friend_history")
    },
    ("block", "204"): {"unblock": {"parameters": {"user_id": "$request.path.user_id"}}},
}
"""What can be done next with an answer: (operation, status) to operations and what they take from it."""


def operation_id(route: APIRoute) -> str:
    """Return the id of an operation: the name of the function that carries it out, unique among all."""
    return route.name


def install(app: FastAPI) -> None:
    """Make ``app`` complete its OpenAPI document as this module says."""
    plain = app.openapi

    def openapi() -> Json:
        if app.openapi_schema is None:
            complete(plain())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def complete(document: Json) -> None:
    """Put into ``document`` what all operations share, and examples."""
    schemas = document["components"]["schemas"]
    schemas[_PROBLEM] = ProblemBody.model_json_schema() | {"title": _PROBLEM}
    document["info"]["description"] = DESCRIPTION
    document["paths"]["/v1/gateway"]["get"]["x-websocket"] = SOCKET
    for path, method, operation in operations(document):
        _complete_parameters(method, operation)
        _complete_responses(path, method, operation)
        for status, links in LINKS.items():
            if status[0] == operation["operationId"] and status[1] in operation["responses"]:
                operation["responses"][status[1]]["links"] = {
                    name: {"operationId": name, **link} for name, link in links.items()
                }
    for name, schema in schemas.items():
        _give_examples(schema)
        if name in BODY_EXAMPLES:
            schema["examples"] = [BODY_EXAMPLES[name]]


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Yield path, method and operation of everything that can be called."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                yield path, method, operation


def _complete_parameters(method: str, operation: Json) -> None:
    parameters = operation.setdefault("parameters", [])
    if method in _READS:
        parameters.append(_IF_NONE_MATCH)
    elif "security" in operation:
        parameters.append(_IDEMPOTENCY_KEY)
    for parameter in parameters:
        if parameter["name"] in EXAMPLES:
            parameter["example"] = EXAMPLES[parameter["name"]]
    if not parameters:
        del operation["parameters"]


def _complete_responses(path: str, method: str, operation: Json) -> None:
    responses = operation["responses"]
    shared = {"400", "429", "500"}
    if "requestBody" in operation:
        shared.add("413")
    if "security" in operation and method not in _READS:
        shared |= {"409", "413", "422"}
    for status in sorted(shared - set(responses)):
        responses[status] = {}
    for status, response in responses.items():
        if status[0] in "45":
            responses[status] = _problem(int(status), response.get("description", ""))
        elif method in _READS and status == "200":
            response["headers"] = _ETAG | _RATE_HEADERS
        else:
            response["headers"] = dict(_RATE_HEADERS)
    if method in _READS:
        responses["304"] = {"description": "The client has the answer already", "headers": _ETAG | _RATE_HEADERS}


def _problem(status: int, description: str) -> Json:
    retry = _RETRY_AFTER if status in {429, 503} else {}
    return {
        "description": PROBLEMS.get(status, description),
        "headers": _RATE_HEADERS | retry,
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{_PROBLEM}"}}},
    }


def _give_examples(schema: Json) -> None:
    for name, field in schema.get("properties", {}).items():
        if name in EXAMPLES and "$ref" not in field and "example" not in field and "examples" not in field:
            field["examples"] = [EXAMPLES[name]]
