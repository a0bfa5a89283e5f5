"""``POST, DELETE /admin/v1/users/{user_id}/ban``: what operators do about an account that does harm.

A ban ends every token and closes every socket with 4403 within five seconds, as a log-out does; nobody logs in to the
account until it is lifted.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import Route

from api.operators import Operators, Outcome, user_id_of
from api.services import Services

PATH = "/admin/v1/users/{user_id}/ban"


def ban_route(operators: Operators) -> Route:
    """Return the route by which operators ban and lift bans."""
    return operators.route(PATH, ["POST", "DELETE"], _ban)


async def _ban(services: Services, request: Request) -> Outcome:
    user_id = user_id_of(request.path_params["user_id"])
    if user_id is None:
        return Outcome(422, "invalid_request", "not a user id")
    if request.method == "DELETE":
        await services.graph.credentials.lift_ban(user_id)
        return Outcome(204, "lifted")
    await services.announcer.announce(await services.graph.credentials.ban(user_id))
    return Outcome(204, "banned")
