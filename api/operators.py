"""What operators do about accounts, on the admin port alone: with the admin token, and saying why.

Every call leaves an audit line, refused ones too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.services import Services
from http_port import audit
from http_port.admin import bearer_matches, problem
from nearby.errors import NotFound, StoreUnavailable
from nearby.model import UserId
from nearby.settings import Secret
from social_graph.users import Person


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call: the status, the audit's word for it (an error's code), and the detail of an error.

    ``body`` is the answer where there is more to say than the status.
    """

    status: int
    word: str
    detail: str = ""
    body: msgspec.Struct | None = None


Act = Callable[[Services, Request], Awaitable[Outcome]]
"""May raise NotFound and StoreUnavailable, and ``msgspec.MsgspecError`` for a body that is none."""


class Operators:
    """The calls of operators, once it has ``services``."""

    def __init__(self, token: Secret) -> None:
        self.services: Services | None = None
        self._token = token

    def route(self, path: str, methods: Sequence[str], act: Act) -> Route:
        """Return the route of ``act``, for whoever shows the admin token."""

        async def endpoint(request: Request) -> Response:
            outcome = await self._carry_out(request, act)
            audit.record(request, outcome.status, outcome.word)
            if outcome.status >= 400:
                return problem(outcome.status, outcome.word, outcome.detail)
            if outcome.body is None:
                return Response(status_code=outcome.status)
            return Response(msgspec.json.encode(outcome.body), outcome.status, media_type="application/json")

        return Route(path, endpoint, methods=list(methods))

    async def _carry_out(self, request: Request, act: Act) -> Outcome:
        if not bearer_matches(request.headers.get("Authorization"), self._token):
            return Outcome(401, "unauthorized", "show the admin token")
        if not request.headers.get(audit.REASON_HEADER):
            return Outcome(422, "invalid_request", f"say why in {audit.REASON_HEADER}")
        if self.services is None:
            return Outcome(503, "unavailable", "starting")
        try:
            return await act(self.services, request)
        except msgspec.MsgspecError as error:
            return Outcome(422, "invalid_request", str(error))
        except NotFound as error:
            return Outcome(404, error.code, error.detail)
        except StoreUnavailable as error:
            return Outcome(503, "unavailable", str(error))


async def find_person(services: Services, name: str) -> Person:
    """Return the person whom an operator calls ``name``, a user id or a handle.

    Raises:
        NotFound: ``user_not_found``.
        StoreUnavailable: the database failed.
    """
    user_id = user_id_of(name)
    if user_id is None:
        return await services.graph.users.by_handle(name, None)
    return await services.graph.users.get(user_id)


def user_id_of(name: str) -> UserId | None:
    """Return ``name`` as a user id, ``None`` if it is none."""
    try:
        return UserId(str(UUID(name)))
    except ValueError:
        return None
