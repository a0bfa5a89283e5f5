"""The variables of the manifests are the settings of the processes: none unknown, none missing, none wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k8s.make_secrets import new_secrets
from nearby import settings
from nearby.settings import load, variables
from tests.support.local_cluster.environment import PodEnvironment
from tests.support.manifests import Manifests, environment, rendered

KINDS: Mapping[tuple[str, ...], type[Any]] = {
    ("python", "-m", "ws_gateway"): settings.GatewaySettings,
    ("python", "-m", "api"): settings.ApiSettings,
    ("python", "-m", "location_history"): settings.HistoryWriterSettings,
    ("python", "-m", "location_history", "migrate"): settings.HistoryMigrationSettings,
    ("python", "-m", "prober"): settings.ProberSettings,
    ("python", "-m", "pubsub_router"): settings.RingKeeperSettings,
    ("python", "-m", "social_graph"): settings.DatabaseSettings,
}
"""What reads the settings that each command takes."""

OF_THE_COMMAND_LINE = {("nearby", "ring", "init"): {"NEARBY_ADMIN_TOKEN"}}


def ours(manifests: Manifests) -> list[Mapping[str, Any]]:
    return [
        container
        for workload in manifests.workloads
        for container in workload.containers
        if container["image"].rpartition("/")[2].startswith("nearby:")
    ]


def test_each_of_our_containers_runs_a_command_whose_settings_are_known(manifests: Manifests) -> None:
    commands = {tuple(container["command"]) for container in ours(manifests)}
    assert {command[:4] for command in commands} - set(KINDS) == {("nearby", "ring", "init", "--keeper")}
    assert set(KINDS) <= commands


def test_every_variable_is_a_setting_of_the_process_that_gets_it(manifests: Manifests) -> None:
    for container in ours(manifests):
        command = tuple(container["command"])
        given = {name for name in environment(manifests, container) if name.startswith("NEARBY_")}
        if command in KINDS:
            known = {variable.name for variable in variables(KINDS[command])}
        else:
            known = OF_THE_COMMAND_LINE[command[:3]]
        assert given <= known, f"{container['name']} is given what it does not read: {sorted(given - known)}"


def test_every_setting_without_a_default_is_set(manifests: Manifests) -> None:
    for container in ours(manifests):
        kind = KINDS.get(tuple(container["command"]))
        if kind is not None:
            missing = {variable.name for variable in variables(kind) if variable.default is None}
            missing -= environment(manifests, container).keys()
            assert not missing, f"{container['name']} lacks {sorted(missing)}"


def test_every_value_is_allowed(manifests: Manifests) -> None:
    """As each process would read it, with secrets as the script makes them."""
    secrets = new_secrets("postgresql://nearby:secret@db.example.org/nearby?sslmode=verify-full")
    checked = 0
    for workload in manifests.workloads:
        for container in ours(manifests):
            kind = KINDS.get(tuple(container["command"]))
            if container in workload.containers and kind is not None:
                pod = PodEnvironment(manifests, secrets, pod_name=f"{workload.name}-0", pod_ip="10.1.2.3")
                load(kind, pod.of(container))
                checked += 1
    assert checked == len(KINDS)


def test_streams_are_as_many_for_all_who_share_them(manifests: Manifests) -> None:
    names = ("nearby-gateway", "nearby-api", "nearby-history-writer")
    maps = [manifests.workload(name).spec["containers"][0] for name in names]
    assert len({str(environment(manifests, container)["NEARBY_HISTORY_STREAMS"]) for container in maps}) == 1


def test_there_are_enough_streams_for_the_writers() -> None:
    manifests = rendered("production")
    writer = manifests.workload("nearby-history-writer")
    streams = int(environment(manifests, writer.spec["containers"][0])["NEARBY_HISTORY_STREAMS"]["value"])
    assert writer.replicas is not None
    assert writer.replicas <= streams
