"""A real API server takes every object of every overlay (``make test-k8s``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
import yaml

from k8s.make_secrets import as_objects, new_secrets
from tests.support.kube_apiserver import KubeApiServer
from tests.support.manifests import MANIFESTS, OVERLAYS, Workload, rendered, rendered_text

pytestmark = [pytest.mark.kubernetes, pytest.mark.xdist_group("kubernetes")]


@pytest.fixture(scope="module")
def server() -> Iterator[KubeApiServer]:
    with closing(KubeApiServer()) as server:
        server.start()
        # The namespace has to be there before anything can be tried in it, and its rules for pods with it.
        made = server.kubectl("apply", "--server-side", "-f", str(MANIFESTS / "base" / "namespace.yaml"))
        assert made.returncode == 0, made.stderr
        yield server


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_taken_without_a_warning(server: KubeApiServer, overlay: str) -> None:
    done = server.dry_run(rendered_text(overlay))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    taken = [line for line in done.stdout.splitlines() if line.endswith("serverside-applied (server dry run)")]
    assert len(taken) == len(rendered(overlay).objects)


def test_the_secrets_and_the_example_of_an_ingress_are_taken(server: KubeApiServer) -> None:
    secrets = server.dry_run(json.dumps(as_objects(new_secrets())))
    assert (secrets.returncode, secrets.stderr, len(secrets.stdout.splitlines())) == (0, "", 5)
    ingress = server.dry_run((MANIFESTS / "examples" / "ingress.yaml").read_text())
    assert (ingress.returncode, ingress.stderr) == (0, "")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_pod_is_allowed_in_the_namespace(server: KubeApiServer, overlay: str) -> None:
    """The namespace only warns of a Deployment whose pods it would refuse; it is the pod that it refuses."""
    for workload in rendered(overlay).workloads:
        done = server.dry_run(yaml.safe_dump(pod_of(workload)))
        assert (done.returncode, done.stderr) == (0, ""), workload.name


def pod_of(workload: Workload) -> dict[str, object]:
    claims = workload.object["spec"].get("volumeClaimTemplates", [])
    volumes = [
        {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": "data-0"}} for claim in claims
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": workload.name, "namespace": "nearby", "labels": dict(workload.labels)},
        "spec": {**workload.spec, "volumes": [*workload.spec.get("volumes", []), *volumes]},
    }


def test_the_server_refuses_a_wrong_object_and_a_pod_that_runs_as_root(server: KubeApiServer) -> None:
    text = rendered_text("dev")
    assert server.dry_run(text.replace("readinessProbe:", "readinesProbe:")).returncode != 0
    gateway = rendered("dev").workload("nearby-gateway")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": "nearby"},
        "spec": {"containers": [{"name": "root", "image": gateway.containers[0]["image"]}]},
    }
    refused = server.dry_run(yaml.safe_dump(pod))
    assert refused.returncode != 0
    assert "violates PodSecurity" in refused.stderr
