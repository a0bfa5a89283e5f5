"""The history writer's process: settings in, parts built and handed over."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack

from discovery.connect import open_discovery
from http_port.addresses import advertised
from http_port.admin import admin_app, bearer_matches
from http_port.logs import configure_logging
from http_port.metrics import process_registry
from http_port.process import stop_signals
from http_port.serve import serve
from location_history.admin import count_route
from location_history.consumer import open_consumers
from location_history.metrics import WriterMetrics
from location_history.stores import open_store, unix_time_ms
from location_history.writer import HistoryWriter
from nearby.ports import Member, MemberState, Role
from nearby.settings import HistoryWriterSettings, load

_GC_THRESHOLDS = (100_000, 20, 20)
"""Every point is some objects without cycles, many of which live for minutes. By default the collector looks at them
again and again, for a third of all the writer computes."""


async def main(environ: Mapping[str, str]) -> None:
    """Run the history writer that ``environ`` describes until SIGINT or SIGTERM.

    Raises:
        SettingsError: a variable is missing or wrong.
        OSError: the admin port is taken.
        StoreUnavailable: the history store or discovery cannot be opened.
    """
    settings = load(HistoryWriterSettings, environ)
    configure_logging(settings.process.log)
    registry = process_registry()
    history, stream = settings.history, settings.stream
    async with AsyncExitStack() as parts:
        stop = await parts.enter_async_context(stop_signals())
        store = await parts.enter_async_context(
            open_store(history.url, history.retention_days, unix_time_ms, history.cassandra)
        )
        consumers = await parts.enter_async_context(
            open_consumers(stream.url, stream.streams_count, settings.writer_id)
        )
        writer = HistoryWriter(
            consumers,
            store,
            WriterMetrics(registry),
            unix_time_ms,
            linger_s=settings.linger_s,
            held_count=settings.held_count,
            max_age_s=settings.max_age_s,
        )
        route = count_route(store, lambda authorization: bearer_matches(authorization, settings.admin_token))
        admin = admin_app(registry, lambda: None, [route], trouble=writer.trouble)
        admin_url = await parts.enter_async_context(serve(admin, settings.host, settings.admin_port))
        discovery = await parts.enter_async_context(open_discovery(settings.process.discovery))
        admin_url = advertised(admin_url, settings.advertised_host)
        await parts.enter_async_context(discovery.register(_member(settings.writer_id, admin_url)))
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        await writer.run(stop)


def _member(writer_id: str, admin_url: str) -> Member:
    return Member(Role.HISTORY_WRITER, writer_id, MemberState.SERVING, admin_url=admin_url, pid=os.getpid())
