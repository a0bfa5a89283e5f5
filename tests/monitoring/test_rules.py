"""Prometheus accepts the rules, and each alert is known to fire, to stay silent, and to say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.local import RULES
from tests.support.prometheus import promtool

ROOT = RULES.parent.parent
RULE_FILES = sorted(RULES.glob("*.yaml"))
TEST_FILES = sorted((RULES.parent / "tests").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"


def rules() -> Iterator[dict[str, Any]]:
    for path in RULE_FILES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def alerts() -> Iterator[dict[str, Any]]:
    yield from (rule for rule in rules() if "alert" in rule)


def alert_tests() -> Iterator[dict[str, Any]]:
    for path in TEST_FILES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            yield from test["alert_rule_test"]


def test_promtool_accepts_the_rules() -> None:
    checked = promtool("check", "rules", *map(str, RULE_FILES))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    ran = promtool("test", "rules", str(path))
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_alert_is_tested_to_fire_at_each_severity_and_to_stay_silent() -> None:
    fired = {
        (test["alertname"], alert["exp_labels"]["severity"]) for test in alert_tests() for alert in test["exp_alerts"]
    }
    silent = {test["alertname"] for test in alert_tests() if not test["exp_alerts"]}
    assert fired == {(rule["alert"], rule["labels"]["severity"]) for rule in alerts()}
    assert silent == {rule["alert"] for rule in alerts()}


def test_each_alert_says_what_is_wrong_and_names_a_runbook_that_begins_with_it() -> None:
    for rule in alerts():
        folder, _, name = rule["annotations"]["runbook_url"].rpartition("/")
        assert folder == "docs/runbooks", rule["alert"]
        when = (RUNBOOKS / name).read_text().partition("## ")[0]
        assert f"`{rule['alert']}`" in when, f"{name} does not say that it is for {rule['alert']}"
        assert rule["annotations"]["summary"], rule["alert"]
