"""Audit lines of calls on admin ports: who asked what, why, and what became of it."""

from __future__ import annotations

import json
import logging

from starlette.requests import Request

audit = logging.getLogger("audit")
"""One line per call: ``audit {"call", "peer", "actor", "reason", "status", "outcome"}``, whatever the log level."""
audit.setLevel(logging.INFO)

ACTOR_HEADER = "X-Actor"
REASON_HEADER = "X-Reason"
MAX_CHARACTERS = 200


def record(request: Request, status: int, outcome: str) -> None:
    """Write the audit line of ``request``, its query included: it names whom the question was about."""
    client = request.client
    entry = {
        "call": f"{request.method} {request.url.path}?{request.url.query}"[: 2 * MAX_CHARACTERS],
        "peer": client.host if client else "",
        "actor": request.headers.get(ACTOR_HEADER, "")[:MAX_CHARACTERS],
        "reason": request.headers.get(REASON_HEADER, "")[:MAX_CHARACTERS],
        "status": status,
        "outcome": outcome,
    }
    audit.info("audit %s", json.dumps(entry))
