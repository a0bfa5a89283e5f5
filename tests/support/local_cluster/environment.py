"""The environment of a container, made of its manifest as a kubelet makes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
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

    def of(self, container: Mapping[str, Any]) -> dict[str, str]:
        """Return the variables of ``container``.

        Raises:
            KeyError: a Secret or ConfigMap lacks what is not optional.
        """
        found: dict[str, str] = {}
        for name, entry in environment(self.manifests, container).items():
            value = self._value(entry)
            if value is not None:
                found[name] = expanded(value, found)
        return found

    def _value(self, entry: Mapping[str, Any]) -> str | None:
        if "valueFrom" not in entry:
            return str(entry.get("value", ""))
        source = entry["valueFrom"]
        if "fieldRef" in source:
            return {"metadata.name": self.pod_name, "status.podIP": self.pod_ip}[source["fieldRef"]["fieldPath"]]
        reference = source["secretKeyRef"]
        if reference.get("optional"):
            return self.secrets.get(reference["name"], {}).get(reference["key"])
        return self.secrets[reference["name"]][reference["key"]]


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return ``text`` with each ``$(NAME)`` replaced by a variable that is known by then; others stay."""
    return _REFERENCE.sub(lambda match: variables.get(match[1], match[0]), text)
