"""The network policies allow what the processes do, and not what they do not do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.manifests import Manifests, Workload, calls, selects

DONE_WITHOUT_A_NAME = [
    # Where shards and members are, discovery says.
    *((caller, "nearby-shard", 6379) for caller in ("nearby-gateway", "nearby-api", "nearby-ring-keeper")),
    ("nearby-sentinel", "nearby-sentinel", 26379),
    ("nearby-zookeeper", "nearby-zookeeper", 2888),
    ("nearby-zookeeper", "nearby-zookeeper", 3888),
    ("nearby-cassandra", "nearby-cassandra", 7000),
    # Without a port in the address.
    *((caller, "nearby-cassandra", 9042) for caller in ("nearby-api", "nearby-history-writer", "nearby-init")),
    # Operators run `nearby …` in the keeper's pod.
    *(
        ("nearby-ring-keeper", callee, 9080)
        for callee in ("nearby-gateway", "nearby-api", "nearby-history-writer", "nearby-ring-keeper")
    ),
]
ONLY_PASSED_ON = {("nearby-init", "nearby-shard")}
"""The Job that begins the ring tells the keeper where the shards are."""

NEVER_DONE = [
    *((caller, callee, 6379) for caller, callee in ONLY_PASSED_ON),
    ("nearby-gateway", "nearby-cassandra", 9042),
    ("nearby-gateway", "nearby-api", 8080),
    ("nearby-gateway", "nearby-gateway", 9080),
    ("nearby-api", "nearby-gateway", 9080),
    ("nearby-api", "nearby-ring-keeper", 9080),
    ("nearby-history-writer", "nearby-api", 8090),
    ("nearby-history-writer", "nearby-shard", 6379),
    ("nearby-ring-keeper", "nearby-cache", 6379),
    ("nearby-init", "nearby-zookeeper", 2181),
    ("nearby-shard", "nearby-cache", 6379),
    ("nearby-cache", "nearby-zookeeper", 2181),
    ("nearby-sentinel", "nearby-api", 8090),
]


def allowed(manifests: Manifests, caller: str, callee: str, port: int) -> bool:
    """Whether both the caller's rules for going out and the callee's for coming in let a connection pass."""
    one, other = manifests.workload(caller), manifests.workload(callee)
    return _some_rule(manifests, one, "egress", "to", other, port) and _some_rule(
        manifests, other, "ingress", "from", one, port
    )


def _some_rule(manifests: Manifests, whose: Workload, way: str, peers: str, other: Workload, port: int) -> bool:
    return any(
        port in {each["port"] for each in rule["ports"]}
        and any("podSelector" in peer and selects(peer["podSelector"], other.labels) for peer in rule[peers])
        for policy in manifests.of("NetworkPolicy").values()
        if selects(policy["spec"]["podSelector"], whose.labels)
        for rule in policy["spec"].get(way, [])
    )


def test_everybody_reaches_whom_they_are_told_to_call(manifests: Manifests) -> None:
    seen = set()
    for call in calls(manifests):
        service = manifests.of("Service")[call.host.rpartition(".")[2]]
        (callee,) = manifests.selected({"matchLabels": service["spec"]["selector"]})
        # The servers of one file are also told of themselves; nobody needs leave to call itself.
        if callee.name != call.caller and (call.caller, callee.name) not in ONLY_PASSED_ON:
            assert allowed(manifests, call.caller, callee.name, call.port), call
            seen.add((call.caller, callee.name))
    assert seen >= {
        ("nearby-gateway", "nearby-api"),
        ("nearby-api", "nearby-sentinel"),
        ("nearby-history-writer", "nearby-zookeeper"),
        ("nearby-sentinel", "nearby-cache"),
        ("nearby-init", "nearby-ring-keeper"),
    }


def test_everybody_reaches_what_the_sentinels_name(manifests: Manifests) -> None:
    for caller in {call.caller for call in calls(manifests) if call.port == 26379} - {"nearby-sentinel"}:
        assert allowed(manifests, caller, "nearby-cache", 6379), caller
    assert allowed(manifests, "nearby-cache", "nearby-cache", 6379)


@pytest.mark.parametrize(("caller", "callee", "port"), DONE_WITHOUT_A_NAME)
def test_what_is_done_without_a_name_in_the_manifests_is_allowed(
    manifests: Manifests, caller: str, callee: str, port: int
) -> None:
    assert allowed(manifests, caller, callee, port)


@pytest.mark.parametrize(("caller", "callee", "port"), NEVER_DONE)
def test_what_is_never_done_is_refused(manifests: Manifests, caller: str, callee: str, port: int) -> None:
    assert not allowed(manifests, caller, callee, port)


def test_both_ends_agree_so_that_no_rule_is_left_over(manifests: Manifests) -> None:
    """Each way out leads somewhere, and each way in is used by somebody."""

    def pods(peer: Mapping[str, Any]) -> list[Workload]:
        return manifests.selected(peer["podSelector"]) if "podSelector" in peer else []

    for policy in manifests.of("NetworkPolicy").values():
        for whose in manifests.selected(policy["spec"]["podSelector"]):
            for way, peers in (("egress", "to"), ("ingress", "from")):
                for rule in policy["spec"].get(way, []):
                    for other in (pod for peer in rule[peers] for pod in pods(peer)):
                        for port in rule["ports"]:
                            ends = (whose, other) if way == "egress" else (other, whose)
                            assert allowed(manifests, ends[0].name, ends[1].name, port["port"]), (
                                policy["metadata"]["name"],
                                ends[0].name,
                                ends[1].name,
                                port,
                            )


def test_the_user_database_is_reached_by_those_who_use_it_alone(manifests: Manifests) -> None:
    with_5432 = {
        name
        for name, policy in manifests.of("NetworkPolicy").items()
        for rule in policy["spec"].get("egress", [])
        if 5432 in {port["port"] for port in rule["ports"]}
    }
    assert with_5432 == {"nearby-api", "nearby-init"}
