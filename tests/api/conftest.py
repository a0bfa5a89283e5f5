from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import fastapi.routing
import httpx
import pytest
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from api.announcer import Announcer
from api.eraser import Eraser
from api.gateways import Gateways
from api.internal import create_internal_app
from api.metrics import RequestMetrics
from api.public import ROUTE_MODULES, create_app
from api.rates import Rates
from api.reports import Reports
from api.services import Services
from location_cache.redis import open_cache
from location_history.stores import open_store
from location_history.stream import open_stream
from nearby.ports import RingState
from nearby.settings import RateSettings, load, variables
from pubsub_router.router import Router
from rate_limits.limiter import open_limiter
from social_graph.graph import SocialGraph
from tests.api.stack import RADIUS_M, SERVICE_TOKEN, TOKEN_KEYS, Ear, Stack
from tests.social_graph.clock import HeldClock
from tests.social_graph.conftest import (
    cheap_passwords,
    clock,
    database_url,
    empty_database,
    empty_postgresql_database,
    graph,
    postgresql_url,
    sqlite_url,
)
from tests.support.valkey import ValkeyServer

__all__ = [
    "cheap_passwords",
    "clock",
    "database_url",
    "empty_database",
    "empty_postgresql_database",
    "graph",
    "postgresql_url",
    "sqlite_url",
]


_QUOTAS = [variable.name for variable in variables(RateSettings) if variable.default != ""]
NO_LIMITS = Rates.of(load(RateSettings, dict.fromkeys(_QUOTAS, "0")))


@pytest.fixture(scope="session", autouse=True)
def endpoints_are_known() -> None:
    """FastAPI reads the source of each endpoint at its first request, once per process, on the event loop."""
    for module in ROUTE_MODULES:
        for route in module.router.routes:
            assert isinstance(route, APIRoute)
            fastapi.routing._extract_endpoint_context(route.endpoint)


@pytest.fixture(scope="session")
def ring(shared_valkey: ValkeyServer) -> RingState:
    return RingState(1, {"shard-1": shared_valkey.url})


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def router(ring: RingState, ear: Ear) -> AsyncIterator[Router]:
    async with Router(ear, member="api-test", probe_interval_s=5) as opened:
        await opened.apply(ring)
        yield opened


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def services(
    graph: SocialGraph, router: Router, clock: HeldClock, valkey: ValkeyServer, tmp_path: Path
) -> AsyncIterator[Services]:
    async with (
        open_cache(valkey.url, 600) as cache,
        open_stream(valkey.url, 100_000) as stream,
        open_store(f"sqlite:///{tmp_path / 'history.db'}", 90, clock) as history,
        open_limiter(valkey.url, time.monotonic, timeout_s=60) as limiter,
    ):
        yield Services(
            graph=graph,
            cache=cache,
            history=history,
            eraser=Eraser(graph, cache, stream, history, clock),
            reports=Reports(cache, stream, router, clock, 5_000, 278),
            announcer=Announcer(graph, router),
            gateways=Gateways(),
            token_keys=TOKEN_KEYS,
            clock=clock,
            access_token_lifetime_s=3_600,
            default_radius_m=RADIUS_M,
            limiter=limiter,
            rates=NO_LIMITS,
        )


@pytest.fixture
async def stack(services: Services, clock: HeldClock, registry: CollectorRegistry) -> AsyncIterator[Stack]:
    metrics = RequestMetrics(registry)
    async with AsyncExitStack() as clients:

        async def client(app: ASGIApp) -> httpx.AsyncClient:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            return await clients.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://api"))

        yield Stack(
            public=await client(create_app(services, metrics)),
            internal=await client(create_internal_app(services.graph, SERVICE_TOKEN, metrics)),
            services=services,
            clock=clock,
        )
