"""Dashboards and rules ask for nothing that no process exports, and a real Prometheus takes every question."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from monitoring.grafana import DIRECTORY, rendered
from monitoring.local import RULES
from monitoring.panel import Dashboard
from monitoring.panels import DASHBOARDS
from tests.monitoring.conftest import Jobs, expositions
from tests.monitoring.test_rules import rules
from tests.support.eventually import eventually
from tests.support.prometheus import Prometheus, exported_names, metric_names, running_prometheus

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMETHEUS_OWN = {"up", "ALERTS"}
DOCUMENTS = sorted(DIRECTORY.glob("*.json"))


def questions() -> Iterator[str]:
    """Every expression of the dashboards, taken from what Grafana reads, and of the rules."""
    for path in DOCUMENTS:
        for panel in json.loads(path.read_text())["panels"]:
            yield from (target["expr"] for target in panel.get("targets", ()))
    for rule in rules():
        yield rule["expr"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prometheus(jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    async with running_prometheus(directory, jobs, [RULES / "*.yaml"], 1) as running:
        yield running


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
async def test_the_document_is_what_its_table_says(dashboard: Dashboard) -> None:
    assert (DIRECTORY / f"{dashboard.uid}.json").read_text() == rendered(dashboard), "run python -m monitoring.grafana"


async def test_no_document_is_left_over() -> None:
    assert {path.stem for path in DOCUMENTS} == {dashboard.uid for dashboard in DASHBOARDS}


async def test_panels_neither_overlap_nor_leave_the_page() -> None:
    for path in DOCUMENTS:
        places: set[tuple[int, int]] = set()
        for panel in json.loads(path.read_text())["panels"]:
            at: dict[str, Any] = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & places, (path.name, panel["title"])
            assert at["x"] + at["w"] <= 24, (path.name, panel["title"])
            places |= cells


async def test_each_metric_that_is_asked_for_is_exported_by_a_live_process_or_recorded(jobs: Jobs) -> None:
    exported = set[str]().union(*(exported_names(text) for text in (await expositions(jobs)).values()))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for question in questions():
        names = metric_names(question)
        assert names or question.startswith("vector("), question
        assert names <= exported | recorded | PROMETHEUS_OWN, question


async def test_prometheus_takes_every_question(prometheus: Prometheus) -> None:
    for question in questions():
        await prometheus.query(question)


async def test_every_rule_works_and_no_alert_fires_while_all_is_well(prometheus: Prometheus) -> None:
    await eventually(lambda: prometheus.query('nearby:slo_errors:ratio_rate5m{slo="history"}'), 20)
    assert await prometheus.failed_rules() == []
    assert await prometheus.alerts("firing") == set()
