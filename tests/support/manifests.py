"""The manifests of ``k8s/`` as a cluster would get them: rendered by kustomize, and read."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "k8s"
KUSTOMIZE = ROOT / "build" / "kustomize"
OVERLAYS = ("dev", "production")

Object = Mapping[str, Any]
"""One object, as the API server would get it."""

OURS = frozenset(
    {"nearby-gateway", "nearby-api", "nearby-history-writer", "nearby-ring-keeper"},
)
"""The workloads that run our long-lived processes."""


@dataclass(frozen=True)
class Workload:
    """A Deployment, StatefulSet or Job. ``replicas`` is ``None`` where an autoscaler says how many."""

    kind: str
    name: str
    replicas: int | None
    labels: Mapping[str, str]
    spec: Mapping[str, Any]
    object: Object

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        """Every container of a pod, those that run first among them."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


class Manifests:
    """The objects of one overlay."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects

    def of(self, kind: str) -> dict[str, Object]:
        """Return the objects of ``kind`` by name."""
        return {each["metadata"]["name"]: each for each in self.objects if each["kind"] == kind}

    @property
    def workloads(self) -> list[Workload]:
        """Everything that makes pods."""
        return list(self._workloads())

    def workload(self, name: str) -> Workload:
        """Return the one workload called ``name``."""
        (found,) = (each for each in self.workloads if each.name == name)
        return found

    def config(self, reference: str) -> Mapping[str, str]:
        """Return the data of a ConfigMap by its rendered name."""
        data: Mapping[str, str] = self.of("ConfigMap")[reference]["data"]
        return data

    def _workloads(self) -> Iterator[Workload]:
        for each in self.objects:
            if each["kind"] in {"Deployment", "StatefulSet", "Job"}:
                template = each["spec"]["template"]
                yield Workload(
                    each["kind"],
                    each["metadata"]["name"],
                    each["spec"].get("replicas"),
                    template["metadata"]["labels"],
                    template["spec"],
                    each,
                )


@cache
def rendered_text(overlay: str) -> str:
    """Return what kustomize makes of ``k8s/overlays/OVERLAY``."""
    assert KUSTOMIZE.exists(), f"{KUSTOMIZE} is missing; `make build/kustomize` builds it"
    done = subprocess.run(
        [str(KUSTOMIZE), "build", str(MANIFESTS / "overlays" / overlay)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def rendered(overlay: str) -> Manifests:
    """Return the objects of ``k8s/overlays/OVERLAY``."""
    return Manifests(list(yaml.safe_load_all(rendered_text(overlay))))


def environment(manifests: Manifests, container: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return every variable of ``container``, each as an entry of ``env``: a ``value`` or a ``valueFrom``."""
    found: dict[str, Mapping[str, Any]] = {}
    for source in container.get("envFrom", []):
        for name, value in manifests.config(source["configMapRef"]["name"]).items():
            found[name] = {"name": name, "value": value}
    return found | {entry["name"]: entry for entry in container.get("env", [])}
