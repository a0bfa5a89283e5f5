"""``DATA_DIR/stack.json``: where everything of a running stack is, for tools and tests.

It is there exactly while the stack is ready, with mode 0600 since it holds the admin token, and perhaps the cache's
password.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli.up.plan import CACHE, Kind, ProcessSpec


@dataclass(frozen=True, slots=True)
class Running:
    """One process of a stack: what was planned, its present pid, and the URL it announced (empty: none)."""

    spec: ProcessSpec
    pid: int
    url: str = ""


def describe(running: Sequence[Running], cache_url: str, admin_token: str) -> dict[str, Any]:
    """Return the document of ``stack.json``; ``pid`` is that of ``nearby up`` itself.

    The location cache may run elsewhere; the pid beside it is that of our own server, which holds the history stream.
    """
    by_kind: Mapping[Kind, list[Running]] = {
        kind: [process for process in running if process.spec.kind is kind] for kind in Kind
    }
    (api,) = by_kind[Kind.API]
    (cache,) = by_kind[Kind.CACHE]
    (writer,) = by_kind[Kind.HISTORY_WRITER]
    (keeper,) = by_kind[Kind.RING_KEEPER]
    return {
        "pid": os.getpid(),
        "api_url": api.url or api.spec.address,
        "api_admin_url": api.spec.admin_url,
        "api_pid": api.pid,
        "gateways": [
            {
                "id": gateway.spec.name,
                "ws_url": gateway.url or gateway.spec.address,
                "admin_url": gateway.spec.admin_url,
                "pid": gateway.pid,
            }
            for gateway in by_kind[Kind.GATEWAY]
        ],
        "shards": [
            {"slot": shard.spec.name, "address": shard.spec.address, "pid": shard.pid} for shard in by_kind[Kind.SHARD]
        ],
        "spares": [
            {"name": spare.spec.name, "address": spare.spec.address, "pid": spare.pid} for spare in by_kind[Kind.SPARE]
        ],
        CACHE: {"address": cache_url, "pid": cache.pid},
        "history_writer": {"pid": writer.pid, "admin_url": writer.spec.admin_url},
        "ring_keeper": {"id": keeper.spec.name, "pid": keeper.pid, "admin_url": keeper.spec.admin_url},
        "admin_token": admin_token,
    }
