"""``POST, GET /admin/v1/users/{name}/erasure``: operators erase an account for its owner, and see what is left to do.

For whoever cannot log in and asks by letter; everybody else does it by ``DELETE /v1/me``.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from api.eraser import INLINE_S
from api.operators import Operators, Outcome, find_person, user_id_of
from api.services import Services
from nearby.errors import NotFound

PATH = "/admin/v1/users/{name}/erasure"


class Pending(msgspec.Struct):
    """One deletion that is not finished: what for, how old it is, and how often it has been tried."""

    kind: str
    age_s: int
    attempts: int


class ErasureState(msgspec.Struct):
    """Whether the account exists, and the deletions that are still to be finished in other stores."""

    user_id: str
    exists: bool
    pending: list[Pending]


def erasure_route(operators: Operators) -> Route:
    """Return the route by which operators erase an account, and follow that."""
    return operators.route(PATH, ["POST", "GET"], _erasure)


async def _erasure(services: Services, request: Request) -> Outcome:
    name = request.path_params["name"]
    if request.method == "GET":
        return Outcome(200, "told", body=await _state(services, name))
    person = await find_person(services, name)
    erasure, changes = await services.graph.erasures.delete_account(person.user_id, None)
    await services.announcer.announce(changes)
    await services.eraser.attempt(erasure, INLINE_S)
    return Outcome(202, "erased", body=await _state(services, person.user_id))


async def _state(services: Services, name: str) -> ErasureState:
    """Return how it stands with ``name``.

    Raises:
        NotFound: a handle that nobody has; an id may be that of somebody who is gone.
        StoreUnavailable: the database failed.
    """
    user_id, exists = user_id_of(name), True
    try:
        user_id = (await find_person(services, name)).user_id
    except NotFound:
        if user_id is None:
            raise
        exists = False
    now_ms = services.clock()
    pending = [
        Pending(waiting.kind.value, (now_ms - waiting.created_ms) // 1000, waiting.attempts)
        for waiting in await services.graph.erasures.waiting(user_id)
    ]
    return ErasureState(user_id, exists, pending)
