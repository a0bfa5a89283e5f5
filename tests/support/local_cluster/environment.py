"""The environment of a container, made of its manifest as a kubelet makes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.manifests import Manifests, environment

_REFERENCE = re.compile(r"\$\((\w+)\)")


@dataclass(frozen=True)
class PodEnvironment:
    """Where the variables of one pod come from. ``secrets`` are the values of each Secret by its name."""

    manifests: Manifests
    secrets: Mapping[str, Mapping[str, str]]
    pod_name: str
    pod_ip: str

    def of(self, container: Mapping[str, Any], translate: Callable[[str], str] = lambda text: text) -> dict[str, str]:
        """Return the variables of ``container``; ``translate`` is asked for what the manifests say, not for secrets.

        Raises:
            KeyError: a Secret or ConfigMap lacks what is not optional.
        """
        found: dict[str, str] = {}
        for name, entry in environment(self.manifests, container).items():
            source = entry.get("valueFrom")
            value = translate(expanded(entry["value"], found)) if source is None else self._referred(source)
            if value is not None:
                found[name] = value
        return found

    def _referred(self, source: Mapping[str, Any]) -> str | None:
        if "fieldRef" in source:
            return {"metadata.name": self.pod_name, "status.podIP": self.pod_ip}[source["fieldRef"]["fieldPath"]]
        reference = source["secretKeyRef"]
        if reference.get("optional"):
            return self.secrets.get(reference["name"], {}).get(reference["key"])
        return self.secrets[reference["name"]][reference["key"]]


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return ``text`` with each ``$(NAME)`` replaced by a variable that is known by then; others stay."""
    return _REFERENCE.sub(lambda match: variables.get(match[1], match[0]), text)
