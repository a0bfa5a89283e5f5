"""The API's process: settings in, parts built and handed over."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from api.announcer import Announcer
from api.bans import ban_route
from api.eraser import Eraser
from api.erasures import erasure_route
from api.explain import Explainer
from api.exporter import Exporter
from api.gateways import Gateways
from api.internal import create_internal_app
from api.jwks import open_outside_issuer
from api.metrics import ErasureCollector, RequestMetrics
from api.operators import Operators
from api.pauses import end_due_pauses
from api.public import create_app
from api.rates import Rates
from api.reports import Reports
from api.revocations import revocation_route
from api.services import Services
from api.upkeep import delete_what_is_over
from discovery.announce import Announcement
from discovery.connect import open_discovery
from http_port.addresses import advertised
from http_port.admin import admin_app
from http_port.explain import explain_route
from http_port.logs import configure_logging
from http_port.metrics import process_registry
from http_port.process import comes_before, stop_signals
from http_port.serve import serve
from location_cache.redis import open_cache
from location_history.stores import open_store
from location_history.stream import open_stream
from nearby.ports import Member, MemberState, Role
from nearby.settings import ApiSettings, SocialSettings, load
from pubsub_router.router import Router
from rate_limits.limiter import open_limiter
from social_graph.graph import open_social_graph
from social_graph.limits import Limits

_log = logging.getLogger(__name__)


async def main(environ: Mapping[str, str]) -> None:
    """Run the API that ``environ`` describes until SIGINT or SIGTERM.

    Only the admin port answers until there is a pub/sub ring: a change could not be published before.

    Raises:
        SettingsError: a variable is missing or wrong.
        OSError: a port is taken.
        StoreUnavailable: the history store or discovery cannot be opened.
    """
    settings = load(ApiSettings, environ)
    configure_logging(settings.process.log)
    readiness = _Readiness()
    registry = process_registry()
    async with AsyncExitStack() as parts:
        stop = await parts.enter_async_context(stop_signals())
        explainer, operators = Explainer(), Operators(settings.admin_token)
        routes = [
            explain_route(explainer.explain, settings.admin_token),
            *(route(operators) for route in (ban_route, revocation_route, erasure_route)),
        ]
        admin = admin_app(registry, readiness.not_ready, routes)
        admin_url = await parts.enter_async_context(serve(admin, settings.host, settings.admin_port))
        discovery = await parts.enter_async_context(open_discovery(settings.process.discovery))
        router = await parts.enter_async_context(_router(settings))
        services = explainer.services = operators.services = await _open_services(parts, settings, router)
        tasks = (
            router.follow(discovery.watch_ring()),
            services.gateways.follow(discovery),
            end_due_pauses(services.graph, services.announcer, asyncio.sleep),
            services.eraser.run(asyncio.sleep),
            Exporter(services.graph, services.cache, services.history).run(asyncio.sleep),
            delete_what_is_over(
                services.graph, settings.social.change_retention_h * 3_600, unix_time_ms, asyncio.sleep
            ),
        )
        await parts.enter_async_context(_running(*tasks))
        _log.info("waiting for a pub/sub ring")
        if not await comes_before(router.has_ring, stop):
            return
        metrics = RequestMetrics(registry)
        registry.register(ErasureCollector(services.eraser))
        internal = create_internal_app(services.graph, settings.service_token, metrics)
        public = create_app(services, metrics)
        served_inside, served = await _traced(settings, parts, internal, public)
        internal_url = await parts.enter_async_context(serve(served_inside, settings.host, settings.internal_port))
        public_url = await parts.enter_async_context(serve(served, settings.host, settings.port))
        member = partial(_member, settings, router, public_url, admin_url, internal_url)
        registration = await parts.enter_async_context(discovery.register(member()))
        await parts.enter_async_context(_running(Announcement(registration, member, router.progressed).run()))
        # What has been built stays; no later collection needs to look at it.
        gc.collect()
        gc.freeze()
        readiness.reason = None
        await stop.wait()
        readiness.reason = "stopping"


def unix_time_ms() -> int:
    """Return the time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class _Readiness:
    """Why this process should get no requests; ``None`` if it should."""

    def __init__(self) -> None:
        self.reason: str | None = "starting"

    def not_ready(self) -> str | None:
        return self.reason


class _NoSubscriptions:
    """The listener of a process that only publishes."""

    def on_message(self, channel: bytes, payload: bytes) -> None:
        pass

    def on_burst_end(self) -> None:
        pass

    def on_gap(self, channels: Sequence[bytes]) -> None:
        pass


def _router(settings: ApiSettings) -> Router:
    # The name makes the probe channel, which no other process may share; the port alone is not unique among hosts.
    member = f"api-{uuid.uuid4()}"
    return Router(_NoSubscriptions(), member=member, probe_interval_s=settings.probe_interval_s)


async def _open_services(parts: AsyncExitStack, settings: ApiSettings, router: Router) -> Services:
    graph = await parts.enter_async_context(
        open_social_graph(
            settings.database_url.value,
            unix_time_ms,
            settings.refresh_token_lifetime_s,
            limits=_limits(settings.social),
            pool_size=settings.database_pool_size,
            timeout_s=settings.database_timeout_s,
        )
    )
    cache = await parts.enter_async_context(open_cache(settings.cache.url, settings.cache.ttl_s))
    stream = await parts.enter_async_context(
        open_stream(settings.stream.url, settings.stream.max_entries, settings.stream.streams_count)
    )
    past = settings.history
    history = await parts.enter_async_context(open_store(past.url, past.retention_days, unix_time_ms, past.cassandra))
    return Services(
        graph=graph,
        cache=cache,
        history=history,
        eraser=Eraser(graph, cache, stream, history, unix_time_ms),
        reports=Reports(cache, stream, router, unix_time_ms, settings.max_accuracy_m, settings.max_speed_mps),
        announcer=Announcer(graph, router),
        gateways=Gateways(),
        token_keys=settings.token_keys,
        clock=unix_time_ms,
        access_token_lifetime_s=settings.access_token_lifetime_s,
        default_radius_m=settings.radius_m,
        limiter=await parts.enter_async_context(open_limiter(settings.rates.url, time.monotonic)),
        rates=Rates.of(settings.rates),
        trusted_proxies=settings.trusted_proxies,
        invite_link_base=settings.social.invite_link_base,
        outside_issuer=await parts.enter_async_context(open_outside_issuer(settings.external_issuer, time.monotonic)),
    )


def _limits(settings: SocialSettings) -> Limits:
    return Limits(
        max_friends=settings.max_friends,
        requests_per_day=settings.requests_per_day,
        request_lifetime_s=round(settings.request_lifetime_days * 86_400),
        idempotency_lifetime_s=round(settings.idempotency_h * 3_600),
    )


async def _traced(
    settings: ApiSettings, parts: AsyncExitStack, internal: ASGIApp, public: ASGIApp
) -> tuple[ASGIApp, ASGIApp]:
    """Return the two applications, with spans around them where traces are on."""
    traces = settings.traces
    if not traces.url:
        return internal, public
    # Imported only where they are used, for the memory they take.
    from api.tracing import TraceRequests
    from http_port.tracing import open_tracing

    instance = f"{socket.gethostname()}:{settings.port}"
    tracing = await parts.enter_async_context(open_tracing(traces, "nearby-api", instance, settings.service_token))
    return (
        TraceRequests(internal, tracing, follows_callers=True),
        TraceRequests(public, tracing, follows_callers=False),
    )


@asynccontextmanager
async def _running(*coroutines: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run ``coroutines`` beside the body; the end of the body cancels them, the failure of one ends the body."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def _member(settings: ApiSettings, router: Router, public_url: str, admin_url: str, internal_url: str) -> Member:
    host = settings.advertised_host
    return Member(
        Role.API,
        settings.api_id or f"api-{urlsplit(public_url).port}",
        MemberState.SERVING,
        url=advertised(public_url, host),
        admin_url=advertised(admin_url, host),
        pid=os.getpid(),
        switched_epoch=router.switched_epoch,
        prepared_epoch=router.prepared_epoch,
        unreachable=router.unreachable(),
        details={"internal_url": advertised(internal_url, host)},
    )
