"""Security S4: who may do what with what belongs to somebody else, one row for each operation of the public port.

A new operation needs a row here. ``statuses`` are the answers to, in this order: the owner of everything in the
:class:`World`, a friend of theirs, a stranger, and somebody whom they have blocked. Nobody, a deleted user, and an
operator with the admin token get 401 from whatever needs a user.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tests.api.stack import PASSWORD, Json, User


class Caller(Enum):
    NOBODY = "nobody"
    ADMIN = "admin"
    DELETED = "deleted"
    BLOCKED = "blocked"
    STRANGER = "stranger"
    FRIEND = "friend"
    SELF = "self"


@dataclass(frozen=True)
class World:
    """What there is. Everything is of ``owner``, who has two friends, two requests, a block, an invite and an export.

    ``friend`` may see where the owner was, and is in the owner's circle.
    """

    owner: User
    friend: User
    other_friend: User
    stranger: User
    blocked: User
    deleted: User
    incoming_request: str
    outgoing_request: str
    invite_id: str
    invite_token: str
    export_id: str
    circle_id: str


@dataclass(frozen=True)
class Row:
    """One operation. ``path`` and ``body`` point at what is the owner's.

    ``tells``: who is told of the owner, or may be, though no friend. ``touches``: who may change a row that names them.
    """

    statuses: tuple[int, int, int, int]
    path: Callable[[World], str] | None = None
    body: Callable[[World], Json] | None = None
    tells: frozenset[Caller] = frozenset()
    touches: frozenset[Caller] = frozenset()
    public: bool = False

    def status(self, caller: Caller) -> int:
        order = (Caller.SELF, Caller.FRIEND, Caller.STRANGER, Caller.BLOCKED)
        if caller in order:
            return self.statuses[order.index(caller)]
        return self.statuses[2] if self.public else 401


STRANGER, BLOCKED = frozenset({Caller.STRANGER}), frozenset({Caller.BLOCKED})
OWN = (200, 200, 200, 200)
NONE = (204, 204, 204, 204)
ACCEPTED = (202, 202, 202, 202)


def _grant(world: World) -> str:
    return f"/v1/friends/{world.friend.user_id}/history-grant"


def _export(world: World) -> str:
    return f"/v1/me/exports/{world.export_id}"


def _circle(world: World) -> str:
    return f"/v1/circles/{world.circle_id}"


def _member(world: World) -> str:
    return f"{_circle(world)}/members/{world.friend.user_id}"


def _sharing(world: World) -> str:
    return f"/v1/friends/{world.friend.user_id}/sharing"


MATRIX: dict[tuple[str, str], Row] = {
    # ------------------------------------------------------------------------------- without a user
    ("GET", "/"): Row(OWN, public=True),
    ("POST", "/v1/users"): Row(
        (409, 409, 409, 409),
        body=lambda world: {"handle": world.owner.handle, "password": PASSWORD, "display_name": "X"},
        public=True,
    ),
    ("POST", "/v1/tokens"): Row(
        (401, 401, 401, 401),
        body=lambda world: {"handle": world.owner.handle, "password": "not the password"},
        public=True,
    ),
    ("POST", "/v1/tokens/refresh"): Row(
        (401, 401, 401, 401), body=lambda world: {"refresh_token": world.owner.user_id}, public=True
    ),
    ("POST", "/v1/tokens/exchange"): Row(
        (404, 404, 404, 404), body=lambda world: {"token": world.owner.access_token}, public=True
    ),
    # --------------------------------------------------- about the caller alone, whoever that is
    ("DELETE", "/v1/tokens"): Row(NONE),
    ("GET", "/v1/me"): Row(OWN),
    ("PATCH", "/v1/me"): Row(NONE, body=lambda _: {"display_name": "Somebody"}),
    ("GET", "/v1/me/sharing"): Row(OWN),
    ("PUT", "/v1/me/sharing"): Row(OWN, body=lambda _: {"state": "paused"}),
    ("DELETE", "/v1/me"): Row(ACCEPTED, touches=BLOCKED),  # their deletion ends the block
    ("GET", "/v1/me/history"): Row(OWN),
    ("DELETE", "/v1/me/history"): Row(NONE),
    ("GET", "/v1/me/history-settings"): Row(OWN),
    ("PUT", "/v1/me/history-settings"): Row(OWN, body=lambda _: {"retention": "live_only"}),
    ("POST", "/v1/me/exports"): Row(ACCEPTED),
    ("POST", "/v1/locations"): Row(OWN, body=lambda _: {"location": {"lat": 1, "lon": 2}}),
    ("GET", "/v1/friend-requests"): Row(OWN, path=lambda _: "/v1/friend-requests?direction=incoming"),
    ("GET", "/v1/friends"): Row(OWN),
    ("GET", "/v1/nearby"): Row(OWN),
    ("GET", "/v1/gateway"): Row(OWN),
    ("GET", "/v1/blocks"): Row(OWN),
    ("GET", "/v1/invites"): Row(OWN),
    ("GET", "/v1/me/viewers"): Row(OWN),
    ("GET", "/v1/circles"): Row(OWN),
    ("POST", "/v1/circles"): Row((201, 201, 201, 201), body=lambda _: {"name": "Club", "precision": "off"}),
    ("POST", "/v1/invites"): Row((201, 201, 201, 201), body=lambda _: {}),
    # ---------------------------------------------------------------- about somebody by name or id
    ("GET", "/v1/users"): Row(
        (200, 200, 200, 404), path=lambda world: f"/v1/users?handle={world.owner.handle}", tells=STRANGER
    ),
    ("POST", "/v1/friend-requests"): Row(
        (409, 409, 201, 404), body=lambda world: {"user_id": world.owner.user_id}, tells=STRANGER, touches=STRANGER
    ),
    ("PUT", "/v1/blocks/{user_id}"): Row(
        (409, 204, 204, 204),
        path=lambda world: f"/v1/blocks/{world.owner.user_id}",
        body=lambda _: {},
        touches=STRANGER | BLOCKED,
    ),
    ("POST", "/v1/invitations/look-up"): Row(
        (200, 200, 200, 404), body=lambda world: {"token": world.invite_token}, tells=STRANGER
    ),
    ("POST", "/v1/invitations/accept"): Row(
        (409, 409, 200, 404), body=lambda world: {"token": world.invite_token}, tells=STRANGER, touches=STRANGER
    ),
    # ---------------------------------------------------------------------------- the owner's alone
    ("POST", "/v1/friend-requests/{request_id}/accept"): Row(
        (200, 404, 404, 404), path=lambda world: f"/v1/friend-requests/{world.incoming_request}/accept"
    ),
    ("POST", "/v1/friend-requests/{request_id}/decline"): Row(
        (204, 404, 404, 404), path=lambda world: f"/v1/friend-requests/{world.incoming_request}/decline"
    ),
    ("DELETE", "/v1/friend-requests/{request_id}"): Row(
        (204, 404, 404, 404), path=lambda world: f"/v1/friend-requests/{world.outgoing_request}"
    ),
    ("DELETE", "/v1/friends/{user_id}"): Row(
        (204, 404, 404, 404), path=lambda world: f"/v1/friends/{world.other_friend.user_id}"
    ),
    ("GET", "/v1/friends/{user_id}/history"): Row(
        (404, 200, 404, 404), path=lambda world: f"/v1/friends/{world.owner.user_id}/history"
    ),
    ("GET", "/v1/friends/{user_id}/history-grant"): Row((200, 404, 404, 404), path=_grant),
    ("PUT", "/v1/friends/{user_id}/history-grant"): Row((200, 404, 404, 404), path=_grant, body=lambda _: {}),
    ("DELETE", "/v1/friends/{user_id}/history-grant"): Row(NONE, path=_grant),
    ("GET", "/v1/friends/{user_id}/sharing"): Row((200, 404, 404, 404), path=_sharing),
    ("PUT", "/v1/friends/{user_id}/sharing"): Row(
        (200, 404, 404, 404), path=_sharing, body=lambda _: {"precision": "approximate"}
    ),
    ("GET", "/v1/circles/{circle_id}"): Row((200, 404, 404, 404), path=_circle),
    ("PUT", "/v1/circles/{circle_id}"): Row(
        (200, 404, 404, 404), path=_circle, body=lambda _: {"name": "Job", "precision": "off"}
    ),
    ("DELETE", "/v1/circles/{circle_id}"): Row((204, 404, 404, 404), path=_circle),
    ("PUT", "/v1/circles/{circle_id}/members/{user_id}"): Row((204, 404, 404, 404), path=_member, body=lambda _: {}),
    ("DELETE", "/v1/circles/{circle_id}/members/{user_id}"): Row((204, 404, 404, 404), path=_member),
    ("GET", "/v1/me/exports/{export_id}"): Row((200, 404, 404, 404), path=_export),
    ("GET", "/v1/me/exports/{export_id}/download"): Row(
        (200, 404, 404, 404), path=lambda world: f"{_export(world)}/download"
    ),
    ("DELETE", "/v1/blocks/{user_id}"): Row(
        (204, 404, 404, 404), path=lambda world: f"/v1/blocks/{world.blocked.user_id}"
    ),
    ("GET", "/v1/invites/{invite_id}"): Row((200, 404, 404, 404), path=lambda world: f"/v1/invites/{world.invite_id}"),
    ("DELETE", "/v1/invites/{invite_id}"): Row(
        (204, 404, 404, 404), path=lambda world: f"/v1/invites/{world.invite_id}"
    ),
}
