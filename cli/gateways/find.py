"""Where the gateways are: the ``stack.json`` of a running ``nearby up``, or the admin ports that the caller names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nearby.errors import NearbyError

DEFAULT_DATA_DIR = Path(".nearby")
TOKEN_VARIABLE = "NEARBY_ADMIN_TOKEN"


class GatewaysNotFound(NearbyError):
    """Nothing says where the gateways are, or one that was named is not among them. The caller's to mend."""


@dataclass(frozen=True, slots=True)
class Gateways:
    """Admin URLs, and the token they all take. ``ids`` are the names where they are known beforehand."""

    admin_urls: Sequence[str]
    token: str = field(repr=False)
    ids: Mapping[str, str] = field(default_factory=dict)

    def name(self, admin_url: str) -> str:
        """Return what to call the gateway behind ``admin_url`` as long as it has not said so itself."""
        return self.ids.get(admin_url, admin_url)


def find_gateways(data_dir: Path | None, admin_urls: Sequence[str], environ: Mapping[str, str]) -> Gateways:
    """Return the gateways at ``admin_urls``, or where there are none, those of the stack in ``data_dir``.

    Raises:
        GatewaysNotFound: no stack is ready there, or there is no token.
    """
    if admin_urls:
        token = environ.get(TOKEN_VARIABLE)
        if not token:
            raise GatewaysNotFound(f"{TOKEN_VARIABLE} is not set; with --admin it must be")
        return Gateways([url.rstrip("/") for url in admin_urls], token)
    directory = data_dir or DEFAULT_DATA_DIR
    try:
        document = json.loads((directory / "stack.json").read_text(encoding="utf-8"))
        ids = {gateway["admin_url"]: gateway["id"] for gateway in document["gateways"]}
        return Gateways(list(ids), document["admin_token"], ids)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GatewaysNotFound(f"no stack is ready in {directory}; name --data-dir or --admin") from error
