"""A real Prometheus over a real stack: the objectives show, and a killed shard raises its alert and no other.

Production's rules, with every duration a twelfth of what it is.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from monitoring.local import RULES, targets
from nearby_client import NearbyApi
from tests.support.eventually import eventually
from tests.support.people import Person, befriend, sign_up
from tests.support.prometheus import Prometheus, running_prometheus
from tests.support.stack import running_stack

SEOUL = (37.5665, 126.978)
FASTER = 12
SCRAPE_S = 0.5
ARGUMENTS = (
    *("--api-port", "0", "--gateway-ports", "0,0", "--shards", "2", "--spares", "0"),
    *("--no-restart-shards", "--ephemeral"),
)
OBJECTIVES = {"fan_out", "freshness", "connect", "api_availability", "api_latency", "history"}
_DURATION = re.compile(r"(?<=\[)\d+[smhd](?=\])|(?<=for: )\d+[smhd]")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def faster(rules: str) -> str:
    """Return ``rules`` with each window and each ``for`` divided by :data:`FASTER`."""
    return _DURATION.sub(lambda found: f"{int(found[0][:-1]) * _UNIT_MS[found[0][-1]] // FASTER}ms", rules)


def test_rules_become_faster_in_nothing_but_their_durations() -> None:
    slow = 'expr: sum(rate(a_total{le="5m"}[5m])) > 300\nfor: 1h\nrecord: a:rate5m'
    assert faster(slow) == 'expr: sum(rate(a_total{le="5m"}[25000ms])) > 300\nfor: 300000ms\nrecord: a:rate5m'


@asynccontextmanager
async def living(walkers: Sequence[Person], visitor: Person) -> AsyncIterator[None]:
    """Have ``walkers`` report about twice a second, and ``visitor`` come, look at the friends over REST, and go."""

    async def walk() -> None:
        for step in itertools.count():
            for person in walkers:
                person.client.report(SEOUL[0] + step % 2 * 0.0001, SEOUL[1])
            await asyncio.sleep(0.6)

    async def visit() -> None:
        while True:
            async with visitor.online():
                visitor.client.report(*SEOUL)
                await visitor.account.friends()
                await asyncio.sleep(1)

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(walk()), tasks.create_task(visit())]
        try:
            yield
        finally:
            for task in running:
                task.cancel()


async def met(prometheus: Prometheus) -> set[str]:
    """Return the objectives that had events lately, none of them bad."""
    return {each["metric"]["slo"] for each in await prometheus.query("nearby:slo_errors:ratio_rate5m == 0")}


@pytest.mark.serial
async def test_a_killed_shard_raises_its_alert_and_no_other(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    for name in ("slo.yaml", "causes.yaml"):
        (rules / name).write_text(faster((RULES / name).read_text()))
    environ = {"NEARBY_REPORT_INTERVAL_S": "2"}
    async with (
        running_stack(tmp_path, environ, ARGUMENTS) as stack,
        NearbyApi(stack.api_url) as api,
        running_prometheus(tmp_path, targets(stack.document), [rules / "*.yaml"], SCRAPE_S) as prometheus,
    ):
        anna, ben, cleo = [await sign_up(api) for _ in range(3)]
        await befriend(anna, ben)
        here, there = stack.gateways
        async with anna.online(here.ws_url), ben.online(there.ws_url), living([anna, ben], cleo):

            async def all_met() -> bool:
                return await met(prometheus) == OBJECTIVES

            await eventually(all_met, 60)
            assert await prometheus.alerts() == set()

            stack.kill("shard-1")

            async def has_fired_for_a_while() -> bool:
                looks = 20 / SCRAPE_S
                fired = 'count_over_time(ALERTS{alertname="PubSubShardDown",alertstate="firing"}[1m])'
                return bool(await prometheus.query(f"{fired} >= {looks}"))

            await eventually(has_fired_for_a_while, 90)
            ever = await prometheus.query('count_over_time(ALERTS{alertstate="firing"}[5m])')
            assert {(each["metric"]["alertname"], each["metric"].get("slot")) for each in ever} == {
                ("PubSubShardDown", "shard-1")
            }
            assert await met(prometheus) >= {"freshness", "history"}, "the cache stands in for it"
