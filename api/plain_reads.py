"""Reads that are asked all the time, without the framework's work where there is nothing to read in the request."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from api.auth import believe
from api.identity import identity_of


class PlainRead(APIRoute):
    """A route whose function, if it is a GET of one path, takes ``services`` and ``caller``, and defaults for the rest.

    A request with a good token and without a query needs no more than these two; solving the function's dependencies
    would take longer than all that it does. Every other request is solved, refused and documented as usual.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        solved, endpoint = super().get_route_handler(), self.endpoint
        if self.methods != {"GET"} or self.param_convertors:
            return solved

        async def handle(request: Request) -> Response:
            identity = identity_of(request.scope)
            if request.scope["query_string"] or identity.token is None:
                return await solved(request)
            services = request.app.state.services
            response: Response = await endpoint(services, await believe(services, identity))
            return response

        return handle
