"""``POST, DELETE /admin/v1/users/{user_id}/ban``: what operators do about an account, on the admin port alone.

A ban ends every token and closes every socket with 4403 within five seconds, as a log-out does; nobody logs in to the
account until it is lifted. Every call leaves an audit line.
"""

from __future__ import annotations

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.services import Services
from http_port import audit
from http_port.admin import bearer_matches, problem
from nearby.errors import NotFound, StoreUnavailable
from nearby.model import UserId
from nearby.settings import Secret

PATH = "/admin/v1/users/{user_id}/ban"


class Bans:
    """Bans once it has ``services``."""

    def __init__(self, token: Secret) -> None:
        self.services: Services | None = None
        self._token = token

    def route(self) -> Route:
        """Return the route for whoever shows the admin token."""
        return Route(PATH, self._endpoint, methods=["POST", "DELETE"])

    async def _endpoint(self, request: Request) -> Response:
        status, outcome, detail = await self._carry_out(request)
        audit.record(request, status, outcome)
        if status == 204:
            return Response(status_code=status)
        return problem(status, outcome, detail)

    async def _carry_out(self, request: Request) -> tuple[int, str, str]:
        """Return the status, what the audit says, and the detail of an error."""
        if not bearer_matches(request.headers.get("Authorization"), self._token):
            return 401, "unauthorized", "show the admin token"
        if not request.headers.get(audit.REASON_HEADER):
            return 422, "invalid_request", f"say why in {audit.REASON_HEADER}"
        try:
            user_id = UserId(str(UUID(request.path_params["user_id"])))
        except ValueError:
            return 422, "invalid_request", "not a user id"
        if self.services is None:
            return 503, "unavailable", "starting"
        try:
            if request.method == "DELETE":
                await self.services.graph.credentials.lift_ban(user_id)
                return 204, "lifted", ""
            await self.services.announcer.announce(await self.services.graph.credentials.ban(user_id))
        except NotFound as error:
            return 404, error.code, error.detail
        except StoreUnavailable as error:
            return 503, "unavailable", str(error)
        return 204, "banned", ""
