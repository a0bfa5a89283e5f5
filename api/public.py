"""The application of the public port."""

from __future__ import annotations

from fastapi import FastAPI

from api import openapi, problems
from api.etags import TagAnswers
from api.guards import LimitBody, RefuseTokensInUrl
from api.idempotency import IdempotentWrites
from api.identity import Identify
from api.metrics import CountRequests, RequestMetrics
from api.rates import LimitRates
from api.routes import (
    blocks,
    circles,
    exports,
    friend_history,
    friend_requests,
    friends,
    gateway,
    history,
    history_settings,
    invitations,
    invites,
    locations,
    me,
    nearby,
    root,
    sharing,
    tokens,
    users,
)
from api.services import Services
from nearby import __version__

# Routes are tried in this order: what is asked most often comes first.
ROUTE_MODULES = (
    *(friends, root, users, tokens, me, friend_requests, invites, invitations),
    *(blocks, sharing, circles, nearby, gateway),
    *(locations, history, history_settings, exports, friend_history),
)


def create_app(services: Services, metrics: RequestMetrics) -> FastAPI:
    """Return the application of the public port, working with ``services`` and counted in ``metrics``."""
    app = FastAPI(
        title="nearby",
        version=__version__,
        summary="Which of my friends are near, and how far away",
        # Their pages load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.services = services
    problems.install(app)
    # The last one added is the outermost.
    app.add_middleware(TagAnswers)
    app.add_middleware(IdempotentWrites)
    app.add_middleware(LimitBody)
    app.add_middleware(LimitRates)
    app.add_middleware(Identify)
    app.add_middleware(RefuseTokensInUrl)
    app.add_middleware(CountRequests, metrics=metrics)
    for module in ROUTE_MODULES:
        app.include_router(module.router)
    openapi.install(app)
    return app
