"""The history writer's process: settings in, parts built and handed over."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from discovery.connect import open_discovery
from http_port.admin import admin_app
from http_port.process import configure_logging, stop_signals
from http_port.serve import serve
from location_history.metrics import WriterMetrics
from location_history.stores import open_store
from location_history.stream import open_consumer
from location_history.writer import HistoryWriter
from nearby.ports import Member, MemberState, Role
from nearby.settings import HistoryWriterSettings, load


async def main(environ: Mapping[str, str]) -> None:
    """Run the history writer that ``environ`` describes until SIGINT or SIGTERM.

    Raises:
        SettingsError: a variable is missing or wrong.
        OSError: the admin port is taken.
        StoreUnavailable: the history store or discovery cannot be opened.
    """
    settings = load(HistoryWriterSettings, environ)
    configure_logging(settings.process.log_level)
    registry = CollectorRegistry()
    async with AsyncExitStack() as parts:
        stop = await parts.enter_async_context(stop_signals())
        store = await parts.enter_async_context(open_store(settings.history.url, settings.history.retention_days))
        consumer = await parts.enter_async_context(open_consumer(settings.stream.url, settings.writer_id))
        writer = HistoryWriter(consumer, store, WriterMetrics(registry), _now_ms)
        admin = admin_app(registry, writer.not_ready)
        admin_url = await parts.enter_async_context(serve(admin, settings.host, settings.admin_port))
        discovery = await parts.enter_async_context(open_discovery(settings.process.discovery))
        await parts.enter_async_context(discovery.register(_member(settings.writer_id, admin_url)))
        await writer.run(stop)


def _member(writer_id: str, admin_url: str) -> Member:
    return Member(Role.HISTORY_WRITER, writer_id, MemberState.SERVING, admin_url=admin_url, pid=os.getpid())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
