"""What a manifest says, on this machine: names become addresses, and paths of volumes become folders. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

ANY_ADDRESS = "0.0.0.0"


class Translation:
    """Replaces, in one pass, what is a place in the cluster by the place here.

    ``hosts`` are names as the manifests use them, with a port or without. ``mounts`` are folders by mount path. What
    listens on every address of its pod listens on ``pod_ip``, the only one that it has here.
    """

    def __init__(self, hosts: Mapping[str, str], mounts: Mapping[str, Path], pod_ip: str) -> None:
        self._places = {**hosts, **{path: str(folder) for path, folder in mounts.items()}, ANY_ADDRESS: pod_ip}
        # The longest first: a pod's name ends in that of its Service.
        words = "|".join(re.escape(place) for place in sorted(self._places, key=len, reverse=True))
        self._pattern = re.compile(rf"(?<![\w.-])(?:{words})(?![\w.-])")

    def text(self, text: str) -> str:
        """Return ``text`` as it is to be read here."""
        return self._pattern.sub(lambda match: self._places[match[0]], text)


def pod_addresses(names: Mapping[str, str]) -> dict[str, str]:
    """Return the addresses of up to ten pods of each workload, of which ``names`` has the Service, as DNS would.

    The number of a pod is the last digit of its address, so that a pattern of names becomes one of addresses. The
    network is one that no other test process has.
    """
    pid = os.getpid()
    network = f"127.{128 + (pid >> 8) % 120}.{pid & 255}"
    found: dict[str, str] = {}
    for index, (workload, service) in enumerate(sorted(names.items()), 1):
        assert index < 25, "too many workloads for one byte"
        for number in (*map(str, range(10)), "{n}"):
            found[f"{workload}-{number}.{service}"] = f"{network}.{index}{number}"
    return found
