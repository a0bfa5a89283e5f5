"""The ring keeper's process: settings in, parts built and handed over."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from discovery.connect import open_discovery
from http_port.addresses import advertised
from http_port.admin import admin_app, bearer_matches
from http_port.logs import configure_logging
from http_port.metrics import process_registry
from http_port.process import stop_signals
from http_port.serve import serve
from nearby.ports import Member, MemberState, Registration, Role
from nearby.settings import RingKeeperSettings, load
from pubsub_router.keeper import RingKeeper
from pubsub_router.keeper_api import KeeperApi
from pubsub_router.keeper_documents import LEADING
from pubsub_router.keeper_metrics import KeeperCollector
from pubsub_router.keeper_pool import follow_pool
from pubsub_router.keeper_probe import Probes
from pubsub_router.keeper_rules import Rules


async def main(environ: Mapping[str, str]) -> None:
    """Run the ring keeper that ``environ`` describes until SIGINT or SIGTERM.

    Raises:
        SettingsError: a variable is missing or wrong.
        OSError: the admin port is taken.
        StoreUnavailable: discovery cannot be opened.
    """
    settings = load(RingKeeperSettings, environ)
    configure_logging(settings.process.log)
    async with stop_signals() as stop, AsyncExitStack() as parts:
        discovery = await parts.enter_async_context(open_discovery(settings.process.discovery))
        probes = await parts.enter_async_context(
            Probes(member=settings.keeper_id, probe_interval_s=settings.probe_interval_s)
        )
        announcement = _Announcement()
        keeper = RingKeeper(
            discovery,
            settings.keeper_id,
            probes,
            Rules(grace_s=settings.grace_s),
            now_ms=_now_ms,
            announce=announcement.leading,
        )
        api = KeeperApi(keeper, discovery, lambda shown: bearer_matches(shown, settings.admin_token))
        admin = admin_app(_registry(keeper), keeper.not_ready, api.routes())
        admin_url = await parts.enter_async_context(serve(admin, settings.host, settings.admin_port))
        admin_url = advertised(admin_url, settings.advertised_host)
        member = Member(Role.RING_KEEPER, settings.keeper_id, MemberState.SERVING, admin_url=admin_url, pid=os.getpid())
        announcement.of(member, await parts.enter_async_context(discovery.register(member)))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(keeper.run(), name="keeper")]
            if settings.pool:
                running.append(tasks.create_task(follow_pool(keeper, settings.keeper_id, settings.pool), name="pool"))
            await stop.wait()
            for task in running:
                task.cancel()


class _Announcement:
    """This keeper's entry among the members, which says whether it leads."""

    def __init__(self) -> None:
        self._member: Member | None = None
        self._registration: Registration | None = None

    def of(self, member: Member, registration: Registration) -> None:
        """Announce changes of ``member`` by ``registration``."""
        self._member, self._registration = member, registration

    async def leading(self, leading: bool) -> None:
        """Announce whether this keeper leads."""
        if self._member is not None and self._registration is not None:
            details = LEADING if leading else {}
            await self._registration.update(dataclasses.replace(self._member, details=details))


def _registry(keeper: RingKeeper) -> CollectorRegistry:
    registry = process_registry()
    registry.register(KeeperCollector(keeper))
    return registry


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
