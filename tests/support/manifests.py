"""The manifests of ``k8s/`` as a cluster would get them: rendered by kustomize, and read."""

from __future__ import annotations

import re
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
    {"nearby-gateway", "nearby-api", "nearby-history-writer", "nearby-ring-keeper", "nearby-prober"},
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

    def selected(self, selector: Mapping[str, Any]) -> list[Workload]:
        """Return the workloads whose pods a label selector finds."""
        return [workload for workload in self.workloads if selects(selector, workload.labels)]

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


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector finds what has ``labels``; an empty one finds everything."""
    wanted = selector.get("matchLabels", {})
    return all(labels.get(name) == value for name, value in wanted.items()) and all(
        labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", [])
    )


@dataclass(frozen=True)
class Call:
    """That the pods of ``caller`` are told an address: a Service, or a pod of one, with a port."""

    caller: str
    host: str
    port: int


_ADDRESS = re.compile(r"\b(nearby-[a-z-]+(?:-\d+)?(?:\.nearby-[a-z-]+)?)[: ](\d{4,5})\b")


def calls(manifests: Manifests) -> Iterator[Call]:
    """Yield every address of ours that stands in a variable, an argument or a file, with whose it is."""
    for workload in manifests.workloads:
        texts = [text for container in workload.containers for text in _texts(manifests, container)]
        for volume in workload.spec.get("volumes", []):
            if "configMap" in volume:
                texts += manifests.config(volume["configMap"]["name"]).values()
        for text in texts:
            for host, port in _ADDRESS.findall(text):
                yield Call(workload.name, host, int(port))


def _texts(manifests: Manifests, container: Mapping[str, Any]) -> list[str]:
    values = [str(entry.get("value", "")) for entry in environment(manifests, container).values()]
    return [*values, *container.get("command", []), *container.get("args", [])]
