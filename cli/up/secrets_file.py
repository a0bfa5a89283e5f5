"""The keys and tokens of a stack: made once, kept in the data directory, so that tokens survive a restart."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from cli.up.errors import StartError
from cli.up.plan import MASK, RING_AUTH, SECRET_VARIABLES
from cli.up.private_file import write_private_json

_KEY_BYTES = 32
"""As long as the output of SHA-256, which RFC 7518 §3.2 asks of an HS256 key."""
_OLDER = SECRET_VARIABLES - {RING_AUTH}
"""What files hold that were made before the ring had credentials."""


def load_secrets(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return a value for each secret variable: the caller's own where set, else the one kept in ``path``.

    Makes the file on first use; a secret that an older file lacks is added to it.

    Raises:
        StartError: the file is not what was written.
    """
    if not path.exists():
        write_private_json(path, _new_secrets())
    try:
        kept = json.loads(path.read_text())
        if RING_AUTH not in kept and kept.keys() >= _OLDER:
            kept |= {RING_AUTH: _new_secrets()[RING_AUTH]}
            write_private_json(path, kept)
        return {name: environ.get(name) or str(kept[name]) for name in sorted(SECRET_VARIABLES)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StartError(
            f"{path} is damaged; without it, new secrets are made and everybody logs in again", 2
        ) from error


def masked_secrets() -> dict[str, str]:
    """Return a mask for each secret variable."""
    return dict.fromkeys(sorted(SECRET_VARIABLES), MASK)


def _new_secrets() -> dict[str, str]:
    return {
        "NEARBY_TOKEN_KEYS": "k1=" + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode(),
        "NEARBY_SERVICE_TOKEN": secrets.token_urlsafe(_KEY_BYTES),
        "NEARBY_ADMIN_TOKEN": secrets.token_urlsafe(_KEY_BYTES),
        RING_AUTH: f"keeper:{secrets.token_urlsafe(_KEY_BYTES)}",
    }
