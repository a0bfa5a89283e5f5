"""How processes log: one record a line on standard error, as text or as JSON, and never who a user is.

A line about a connection carries its id and a keyed hash of its user: the lines of one user can be found by whoever
has the key, and nobody learns from a log who was connected.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import sys
import time
from collections.abc import Mapping

from nearby.settings import LogSettings, Secret

FIELDS = ("connection_id", "user")
"""What a line may say beside its message, by ``extra=``."""
_HASH_CHARACTERS = 16


class UserHash:
    """Says ``user`` in logs: HMAC-SHA-256 under ``key``; under one of this process's own if there is none."""

    def __init__(self, key: Secret | None) -> None:
        self._key = key.value.encode() if key is not None else secrets.token_bytes(32)

    def __call__(self, user_id: str) -> str:
        """Return what stands for ``user_id``."""
        return hmac.new(self._key, user_id.encode(), hashlib.sha256).hexdigest()[:_HASH_CHARACTERS]


class TextFormatter(logging.Formatter):
    """A line for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """Return the line without exceptions."""
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in _extra(record).items())])


class JsonFormatter(logging.Formatter):
    """A line for programs: ``time`` (UTC), ``level``, ``logger``, ``message``, ``exception`` and :data:`FIELDS`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _extra(record: logging.LogRecord) -> Mapping[str, str]:
    found = vars(record)
    return {name: found[name] for name in FIELDS if name in found}


def configure_logging(settings: LogSettings) -> None:
    """Log to standard error, one line a record, from the settings' level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler])
    # At DEBUG aiosqlite logs the values it stores, locations among them; the INFO lines of httpx quote whole URLs,
    # which may carry what no log should; uvicorn's say nothing new.
    for noisy in ("aiosqlite", "httpx", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Cassandra's driver logs each attempt to reach a dead node, with a traceback; the store that uses it says it once.
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)
