"""``POST /admin/v1/revocations``: operators log many people out everywhere, because their tokens may be stolen.

A call is one transaction and one page of people, so that whoever asks sets the pace: all of them log in again, and a
log-in is dear.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from api.operators import Operators, Outcome, find_person
from api.services import Services
from nearby.errors import NotFound
from nearby.model import UserId

PATH = "/admin/v1/revocations"
MAX_USERS = 500

Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_USERS)]


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """Whom to log out: the named ``users`` (ids or handles), or else the next ``count`` of everybody by id.

    Those of everybody begin behind the id ``after``; empty: at the first.
    """

    users: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_USERS)] | None = None
    after: str = ""
    count: Count = MAX_USERS


class Revoked(msgspec.Struct):
    """How many were logged out, which of those named do not exist, and after whom everybody goes on.

    ``next`` is ``None`` at the end, and where people were named.
    """

    revoked: int
    unknown: list[str]
    next: str | None


def revocation_route(operators: Operators) -> Route:
    """Return the route by which operators log people out."""
    return operators.route(PATH, ["POST"], _revoke)


async def _revoke(services: Services, request: Request) -> Outcome:
    order = msgspec.json.decode(await request.body(), type=Order)
    unknown: list[str] = []
    next_id = None
    if order.users is None:
        user_ids = await services.graph.users.ids_after(order.after, order.count)
        next_id = user_ids[-1] if len(user_ids) == order.count else None
    else:
        user_ids, unknown = await _found(services, order.users)
    changes = await services.graph.credentials.revoke_tokens_of(user_ids) if user_ids else []
    await services.announcer.announce(changes)
    return Outcome(200, f"revoked {len(changes)}", body=Revoked(len(changes), unknown, next_id))


async def _found(services: Services, names: list[str]) -> tuple[list[UserId], list[str]]:
    """Return the ids of those who exist, and the names of those who do not."""
    found: list[UserId] = []
    unknown: list[str] = []
    for name in names:
        try:
            found.append((await find_person(services, name)).user_id)
        except NotFound:
            unknown.append(name)
    return found, unknown
