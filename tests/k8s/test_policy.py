"""What holds for every object, whatever it runs (S16), and what has to fit together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import nearby
from tests.support.manifests import OURS, ROOT, Manifests, calls, environment, rendered

ENDING_S = 5
"""What a gateway needs after its deadline, as docs/draining.md has it."""


# ------------------------------------------------------------------------------------------------- S16


def test_S16_no_pod_runs_as_root_or_may_speak_to_the_api_server(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        spec, context = workload.spec, workload.spec["securityContext"]
        assert context["runAsNonRoot"] is True, workload.name
        assert context["runAsUser"] > 0, workload.name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, workload.name
        assert spec["automountServiceAccountToken"] is False, workload.name
        assert not any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC", "serviceAccountName"))
        assert not any("hostPath" in volume for volume in spec.get("volumes", [])), workload.name


def test_S16_no_container_may_write_to_its_image_or_gain_rights(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        for container in workload.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, (workload.name, container["name"])


def test_S16_the_namespace_refuses_pods_that_are_not_restricted(manifests: Manifests) -> None:
    assert manifests.of("Namespace")["nearby"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == (
        "restricted"
    )
    assert {each["metadata"].get("namespace", "nearby") for each in manifests.objects} == {"nearby"}


def test_S16_the_network_refuses_what_is_not_allowed_and_every_pod_has_rules_of_its_own(manifests: Manifests) -> None:
    policies = manifests.of("NetworkPolicy")
    denied = policies.pop("nearby-default-deny")["spec"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for workload in manifests.workloads:
        assert workload.name in policies
        assert manifests.selected(policies[workload.name]["spec"]["podSelector"]) == [workload]


def test_S7_the_way_in_leads_to_public_ports_alone(manifests: Manifests) -> None:
    (route,) = manifests.of("HTTPRoute").values()
    backends = {(ref["name"], ref["port"]) for rule in route["spec"]["rules"] for ref in rule["backendRefs"]}
    assert backends == {("nearby-gateway", 8081), ("nearby-api", 8080)}
    assert {service["spec"].get("type", "ClusterIP") for service in manifests.of("Service").values()} == {"ClusterIP"}
    from_outside = {
        port["port"]
        for policy in manifests.of("NetworkPolicy").values()
        for rule in policy["spec"].get("ingress", [])
        if any("namespaceSelector" in peer for peer in rule["from"])
        for port in rule["ports"]
    }
    assert from_outside == {8080, 8081, 9080}  # 9080: for Prometheus


def test_secrets_are_named_and_never_written(manifests: Manifests) -> None:
    assert manifests.of("Secret") == {}
    secret = re.compile("TOKEN|KEYS|PASSWORD|AUTH|DATABASE_URL")
    for workload in manifests.workloads:
        for container in workload.containers:
            for name, entry in environment(manifests, container).items():
                if secret.search(name):
                    assert "secretKeyRef" in entry["valueFrom"], (workload.name, name)


# ---------------------------------------------------------------------------------------------- health


def test_liveness_is_not_readiness(manifests: Manifests) -> None:
    """Else a pod that is to get no clients for a moment would be restarted, with all that it has."""
    for workload in manifests.workloads:
        if workload.kind != "Job":
            for container in workload.spec["containers"]:
                what = [_asked(container[probe]) for probe in ("livenessProbe", "readinessProbe")]
                assert what[0] != what[1], workload.name


def test_our_processes_are_asked_on_their_admin_port_and_scraped_there(manifests: Manifests) -> None:
    for name in OURS:
        workload = manifests.workload(name)
        (container,) = workload.spec["containers"]
        assert _asked(container["livenessProbe"]) == {"httpGet": {"path": "/healthz", "port": "admin"}}
        assert _asked(container["readinessProbe"]) == {"httpGet": {"path": "/readyz", "port": "admin"}}
        port = environment(manifests, container)["NEARBY_ADMIN_PORT"]["value"]
        assert {"name": "admin", "containerPort": int(port)} in container["ports"]
        annotations = workload.object["spec"]["template"]["metadata"]["annotations"]
        assert annotations == {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": port,
            "prometheus.io/path": "/metrics",
        }


def _asked(probe: Mapping[str, Any]) -> Mapping[str, Any]:
    return {kind: probe[kind] for kind in ("httpGet", "tcpSocket", "exec") if kind in probe}


def test_a_gateway_is_given_the_time_that_its_drain_takes(manifests: Manifests) -> None:
    gateway = manifests.workload("nearby-gateway")
    (container,) = gateway.spec["containers"]
    given = environment(manifests, container)
    waits_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    deadline_s = float(given["NEARBY_DRAIN_DEADLINE_S"]["value"])
    assert gateway.spec["terminationGracePeriodSeconds"] >= waits_s + deadline_s + ENDING_S
    # Out of the endpoints, it still needs its notice for a load balancer's own checks.
    probe = container["readinessProbe"]
    assert waits_s >= probe["periodSeconds"] * probe["failureThreshold"]


def test_no_container_ends_before_it_may_have_done_what_it_does_first(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        for container in workload.spec["containers"]:
            waits_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            assert workload.spec.get("terminationGracePeriodSeconds", 30) >= waits_s + ENDING_S, workload.name


# ------------------------------------------------------------------------------------------- agreement


def test_images_have_versions_and_ours_is_this_one(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        for container in workload.containers:
            name, _, tag = container["image"].rpartition(":")
            assert name, container["image"]
            assert re.fullmatch(r"\d+(\.\d+)+(-\w+)?", tag), container["image"]
            if name.rpartition("/")[2] == "nearby":
                assert tag == nearby.__version__


def test_every_container_has_its_share_of_the_machine(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        for container in workload.containers:
            resources = container["resources"]
            assert resources["requests"].keys() == {"cpu", "memory"}, (workload.name, container["name"])
            # No limit of CPU: to be throttled is to be late.
            assert resources["limits"].keys() == {"memory"}, (workload.name, container["name"])


def test_services_disruption_budgets_and_autoscalers_select_pods_that_are_there(manifests: Manifests) -> None:
    for service in manifests.of("Service").values():
        (workload,) = manifests.selected({"matchLabels": service["spec"]["selector"]})
        open_ports = {port["name"] for port in workload.spec["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= open_ports
    for workload in manifests.workloads:
        if workload.kind != "Job":
            assert workload.object["spec"]["selector"]["matchLabels"].items() <= workload.labels.items()
        if workload.kind == "StatefulSet":
            assert manifests.of("Service")[workload.object["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
    for scaler in manifests.of("HorizontalPodAutoscaler").values():
        assert manifests.workload(scaler["spec"]["scaleTargetRef"]["name"]).replicas is None


def test_disruption_budgets_let_one_pod_go_and_never_all_that_vote(manifests: Manifests) -> None:
    budgets = manifests.of("PodDisruptionBudget")
    for workload in manifests.workloads:
        if workload.kind != "Job":
            budget = budgets.pop(workload.name)["spec"]
            assert manifests.selected(budget["selector"]) == [workload]
            # Neither minAvailable, which may forbid every drain of a node once there are fewer pods, nor more than one.
            assert budget["maxUnavailable"] == 1
    assert budgets == {}
    for name in ("nearby-zookeeper", "nearby-sentinel"):
        assert (manifests.workload(name).replicas or 0) % 2 == 1, f"{name} must be odd"


def test_the_autoscaler_of_gateways_looks_at_connections_and_cpu_and_takes_its_time_to_shrink() -> None:
    manifests = rendered("production")
    spec = manifests.of("HorizontalPodAutoscaler")["nearby-gateway"]["spec"]
    pods, cpu = spec["metrics"]
    assert pods["pods"]["metric"]["name"] == "nearby_gateway_connections"
    assert cpu["resource"]["name"] == "cpu"
    (container,) = manifests.workload("nearby-gateway").spec["containers"]
    most = int(environment(manifests, container)["NEARBY_MAX_CONNECTIONS"]["value"])
    assert int(pods["pods"]["target"]["averageValue"]) < most
    shrink = spec["behavior"]["scaleDown"]
    assert shrink["stabilizationWindowSeconds"] >= 1800
    # A pod has drained before the next one begins to.
    assert shrink["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 600}]
    assert shrink["policies"][0]["periodSeconds"] > float(
        environment(manifests, container)["NEARBY_DRAIN_DEADLINE_S"]["value"]
    )


def test_who_votes_or_keeps_a_copy_shares_no_machine_in_production() -> None:
    for name in ("nearby-cache", "nearby-sentinel", "nearby-zookeeper", "nearby-cassandra"):
        constraints = rendered("production").workload(name).spec["topologySpreadConstraints"]
        assert {each["topologyKey"]: each["whenUnsatisfiable"] for each in constraints} == {
            "kubernetes.io/hostname": "DoNotSchedule"
        }


def test_a_socket_is_never_cut_off_by_the_way_in(manifests: Manifests) -> None:
    (route,) = manifests.of("HTTPRoute").values()
    (rule,) = (each for each in route["spec"]["rules"] if each["matches"][0]["path"]["value"] == "/v1/ws")
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}


# ------------------------------------------------------------------------------------- names and files


def test_whoever_is_called_by_name_is_there_and_listens_on_that_port(manifests: Manifests) -> None:
    seen = set()
    services = manifests.of("Service")
    for call in calls(manifests):
        pod, _, service_name = call.host.rpartition(".")
        assert service_name in services, call
        assert call.port in {each["port"] for each in services[service_name]["spec"]["ports"]}, call
        if pod:
            stem, _, number = pod.rpartition("-")
            replicas = manifests.workload(stem).replicas
            assert replicas is not None
            assert int(number) < replicas, call
        seen.add(service_name)
    assert seen >= {"nearby-zookeeper", "nearby-sentinel", "nearby-cache", "nearby-shard", "nearby-api-internal"}


def test_the_first_ring_leaves_a_spare(manifests: Manifests) -> None:
    (ring,) = manifests.workload("nearby-init").spec["containers"]
    added = [word for word in ring["args"] if word != "--add"]
    shards = manifests.workload("nearby-shard").replicas
    assert shards is not None
    assert len(added) < shards
    (keeper,) = manifests.workload("nearby-ring-keeper").spec["containers"]
    pool = environment(manifests, keeper)["NEARBY_RING_POOL"]["value"]
    assert added == [pool.replace("{n}", str(number)) for number in range(len(added))]


def test_files_that_are_written_twice_say_the_same() -> None:
    base, production = ROOT / "k8s" / "base" / "servers", ROOT / "k8s" / "overlays" / "production"
    users = (ROOT / "deploy" / "redis" / "shard-users.acl").read_text().splitlines()
    assert (base / "shard-users.acl").read_text().splitlines() == users[:1]
    assert (production / "cache.conf").read_text().startswith((base / "cache.conf").read_text())
    kept = [line for line in (base / "zoo.cfg").read_text().splitlines() if not re.match("server.[23]", line)]
    assert (ROOT / "k8s" / "overlays" / "dev" / "zoo.cfg").read_text().splitlines() == kept
