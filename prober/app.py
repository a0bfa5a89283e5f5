"""The prober's process: settings in, friends enrolled, sessions for as long as the gateways stay the same."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence

from http_port.admin import admin_app
from http_port.logs import configure_logging
from http_port.metrics import process_registry
from http_port.process import stop_signals
from http_port.serve import serve
from nearby.settings import ProberSettings, load
from nearby_client import ApiError, ApiUnreachable, NearbyApi
from prober.friends import Friend, enrol
from prober.gateways import resolved
from prober.metrics import ProberMetrics
from prober.session import Session

PER_GATEWAY = 2
"""So that gateways are probed against themselves, too, and the channels lie on more shards."""
LOOK_S = 30.0
"""How often the gateways' names are resolved again."""
ENROL_AGAIN_S = 10.0

log = logging.getLogger(__name__)


async def main(environ: Mapping[str, str]) -> None:
    """Probe until SIGINT or SIGTERM.

    Raises:
        SettingsError: a variable is missing or wrong.
        OSError: the admin port is taken.
    """
    settings = load(ProberSettings, environ)
    configure_logging(settings.log)
    registry = process_registry()
    metrics = ProberMetrics(registry)
    async with (
        stop_signals() as stop,
        serve(admin_app(registry, lambda: None), settings.host, settings.admin_port) as admin_url,
        NearbyApi(settings.api_url) as api,
        asyncio.TaskGroup() as tasks,
    ):
        log.info("metrics at %s/metrics", admin_url)
        probing = tasks.create_task(_probe(settings, api, metrics), name="probe")
        await stop.wait()
        probing.cancel()


async def _probe(settings: ProberSettings, api: NearbyApi, metrics: ProberMetrics) -> None:
    while True:
        gateways = await _some(settings)
        friends = await _enrolled(settings, api, PER_GATEWAY * len(gateways))
        log.info("probing %d gateways", len(gateways))
        session = Session(friends, gateways, metrics)
        async with session.running(settings.interval_s):
            while not session.has_ended() and await _are_right(settings, gateways):  # noqa: ASYNC110 - a name tells nobody
                await asyncio.sleep(LOOK_S)


async def _are_right(settings: ProberSettings, gateways: Sequence[str]) -> bool:
    """Whether ``gateways`` are all still there, and as many as there should be."""
    found = await resolved(settings.gateways)
    return set(gateways) <= set(found) and len(gateways) == min(len(found), settings.max_gateways)


async def _some(settings: ProberSettings) -> list[str]:
    found = await resolved(settings.gateways)
    return sorted(random.sample(found, min(len(found), settings.max_gateways)))


async def _enrolled(settings: ProberSettings, api: NearbyApi, count: int) -> list[Friend]:
    while True:
        try:
            return await enrol(api, settings.handle_prefix, settings.password.value, count)
        except (ApiError, ApiUnreachable) as error:
            log.warning("synthetic friends: %s", error)
            await asyncio.sleep(ENROL_AGAIN_S)
