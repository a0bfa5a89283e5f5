"""Builds a gateway process from its settings and runs it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from discovery.announce import Announcement
from discovery.connect import open_discovery
from http_port.addresses import advertised
from http_port.admin import admin_app
from http_port.collector import spared_collector
from http_port.explain import explain_route
from http_port.logs import configure_logging
from http_port.metrics import process_registry
from http_port.process import comes_before, stop_signals
from http_port.serve import listen, serve
from location_cache.redis import open_cache
from location_history.stream import open_stream
from nearby.ports import Member, MemberState, Role
from nearby.settings import DrainSettings, GatewaySettings, load
from pubsub_router.router import Router
from ws_gateway import descriptors, upkeep
from ws_gateway.admin import drain_route
from ws_gateway.cache_clock import follow, look
from ws_gateway.drain import Drain
from ws_gateway.drain_plan import Orders
from ws_gateway.explain import Explainer
from ws_gateway.friends import open_directory
from ws_gateway.gateway import Gateway
from ws_gateway.metrics import GatewayCollector
from ws_gateway.server import PATH, Door, accept_clients, upgrade

if TYPE_CHECKING:
    from ws_gateway.tracing import GatewayTracing

log = logging.getLogger(__name__)


def now_ms() -> int:
    """Return the Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


async def main(environ: Mapping[str, str]) -> None:
    """Run a gateway until it is drained, which SIGINT and SIGTERM ask for; a second signal ends it at once.

    Only the admin port answers until there is a pub/sub ring.
    """
    settings = load(GatewaySettings, environ)
    configure_logging(settings.process.log)
    async with stop_signals() as stop, asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        tracing, carried = await _open_tracing(settings, stack)
        gateway = Gateway(settings, now_ms, tasks, tracing)
        discovery = await stack.enter_async_context(open_discovery(settings.process.discovery))
        cache = await stack.enter_async_context(open_cache(settings.cache.url, settings.cache.ttl_s))
        stream = await stack.enter_async_context(
            open_stream(settings.stream.url, settings.stream.max_entries, settings.stream.streams_count)
        )
        directory = await stack.enter_async_context(
            open_directory(settings.api_internal_url, settings.service_token, carried)
        )
        router = await stack.enter_async_context(
            Router(gateway, member=settings.gateway_id, probe_interval_s=settings.probe_interval_s)
        )
        gateway.connect_to(router, cache, stream, directory)
        lag = upkeep.LoopLag()
        port = _Port()
        drain = Drain(gateway, port.close, now_ms)
        collector = GatewayCollector(gateway, router, discovery, stream, lag)
        admin_url = await stack.enter_async_context(_admin(gateway, router, collector, drain, port))
        running = [tasks.create_task(router.follow(discovery.watch_ring()), name="ring")]
        log.info("waiting for a pub/sub ring")
        if not await comes_before(router.has_ring, stop):
            running[0].cancel()
            return
        await look(gateway.cache_clock, cache)
        url, port.server = await stack.enter_async_context(_listening(gateway))

        def member() -> Member:
            return Member(
                Role.GATEWAY,
                settings.gateway_id,
                MemberState.DRAINING if gateway.draining else MemberState.SERVING,
                settings.public_url or advertised(url, settings.advertised_host),
                advertised(admin_url, settings.advertised_host),
                os.getpid(),
                len(gateway.connections),
                router.switched_epoch,
                router.prepared_epoch,
                router.unreachable(),
            )

        registration = await stack.enter_async_context(discovery.register(member()))
        announcement = Announcement(registration, member, router.progressed)
        drain.announce_by(announcement.update)
        work = (
            gateway.pipeline.run(),
            gateway.batches.run(),
            gateway.refresher.run(),
            gateway.refresher.patrol(router.reachable, settings.limits.report_interval_s),
            gateway.feed.follow(gateway.apply, gateway.start_over),
            gateway.sightings.run(directory),
            follow(gateway.cache_clock, cache),
            upkeep.sweep(gateway),
            announcement.run(),
            lag.run(),
            drain.run(),
            _drain_on_signals(stop, drain, settings.drain),
        )
        running += [tasks.create_task(each) for each in work]
        stack.enter_context(spared_collector())
        log.info("%s serves %s", settings.gateway_id, url)
        await drain.over.wait()
        for task in running:
            task.cancel()


async def _open_tracing(
    settings: GatewaySettings, stack: AsyncExitStack
) -> tuple[GatewayTracing | None, Callable[[], dict[str, str]] | None]:
    """Return the tracing and the headers that go along with requests; neither where traces are off."""
    traces = settings.traces
    if not traces.url:
        return None, None
    # Imported only where they are used, for the memory they take.
    from http_port.tracing import carried, open_tracing
    from ws_gateway.tracing import GatewayTracing

    opened = open_tracing(traces, "nearby-gateway", settings.gateway_id, settings.service_token)
    return GatewayTracing(await stack.enter_async_context(opened)), carried


class _Port:
    """The public port, which opens later than the drain that closes it is there to be asked for."""

    def __init__(self) -> None:
        self.server: asyncio.Server | None = None

    def close(self) -> None:
        """Accept nobody any more."""
        if self.server is not None:
            self.server.close()


@asynccontextmanager
async def _listening(gateway: Gateway) -> AsyncIterator[tuple[str, asyncio.Server]]:
    """Accept clients; yield the URL to connect to, and the server, which may be closed before the end."""
    settings = gateway.settings
    descriptors.raise_limit()
    sock = Door(listen(settings.host, settings.port), gateway.refused_counts)
    server = await accept_clients(
        sock, lambda request: upgrade(gateway, request, now_ms()), compact=settings.compact_memory
    )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        yield f"ws://{host}:{sock.getsockname()[1]}{PATH}", server
    finally:
        server.close()


@asynccontextmanager
async def _admin(
    gateway: Gateway, router: Router, collector: GatewayCollector, drain: Drain, port: _Port
) -> AsyncIterator[str]:
    settings = gateway.settings
    registry = process_registry()
    registry.register(collector)
    explaining = explain_route(Explainer(gateway, router).explain, settings.admin_token)

    def not_ready() -> str | None:
        if port.server is None:
            return "starting" if router.has_ring.is_set() else "no pub/sub ring yet"
        return gateway.not_ready()

    app = admin_app(registry, not_ready, [drain_route(drain, settings.drain, settings.admin_token), explaining])
    async with serve(app, settings.host, settings.admin_port) as url:
        yield url


async def _drain_on_signals(stop: asyncio.Event, drain: Drain, settings: DrainSettings) -> None:
    """Drain on the first signal and end on the second. A drain that an operator has begun goes on as ordered."""
    await stop.wait()
    stop.clear()
    orders = Orders(
        settings.rate_per_s,
        settings.deadline_s,
        settings.grace_s,
        settings.notice_s,
        actor="signal",
        reason="told to end",
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(drain.start_regardless(orders), name="drain on a signal")
        await stop.wait()
        drain.end_now()
