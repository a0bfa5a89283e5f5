"""Print the Secrets that the manifests refer to, with new random values, for ``kubectl create -f -``.

``create`` and not ``apply``: what is there already is then left alone.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

USERS = Path(__file__).parents[1] / "deploy" / "redis" / "users.acl"
ROLES = ("gateway", "api", "writer", "replica", "sentinel", "operator")
NAMESPACE = "nearby"

Secrets = Mapping[str, Mapping[str, str]]
"""The values of each Secret by its name."""


def new_secrets(database_url: str = "", cassandra_auth: str = "") -> Secrets:
    """Return new values. Without ``database_url`` the user database is the one of the dev overlay."""
    passwords = {role: secrets.token_hex(24) for role in ROLES}
    stores = {"database-url": database_url}
    if not database_url:
        stores["postgres-password"] = secrets.token_hex(24)
        stores["database-url"] = f"postgresql://nearby:{stores['postgres-password']}@nearby-postgres:5432/nearby"
    if cassandra_auth:
        stores["cassandra-auth"] = cassandra_auth
    return {
        "nearby-tokens": {
            "token-keys": f"k1={base64.b64encode(secrets.token_bytes(32)).decode()}",
            "service-token": secrets.token_urlsafe(32),
            "admin-token": secrets.token_urlsafe(32),
            "log-user-key": secrets.token_urlsafe(32),
            "prober-password": secrets.token_urlsafe(32),
        },
        "nearby-ring": {"zookeeper-auth": f"ring:{secrets.token_hex(24)}"},
        "nearby-cache-passwords": passwords,
        "nearby-cache-users": {"users.acl": _users(passwords)},
        "nearby-stores": stores,
    }


def _users(passwords: Mapping[str, str]) -> str:
    """Return the users of the cache's servers; of each password they know the hash."""
    text = USERS.read_text(encoding="utf-8")
    for role, password in passwords.items():
        text = text.replace(f">CHANGE-ME-{role}", f"#{hashlib.sha256(password.encode()).hexdigest()}")
    assert "CHANGE-ME" not in text
    return text


def as_objects(values: Secrets) -> dict[str, object]:
    """Return the Secrets as one object of kind List."""
    items = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "nearby"}},
            "type": "Opaque",
            "stringData": dict(data),
        }
        for name, data in values.items()
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def main() -> None:
    """Print what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", default="", help="of the user database; without it, the dev overlay's")
    parser.add_argument("--cassandra-auth", default="", help="USER:PASSWORD, for a Cassandra that asks for it")
    asked = parser.parse_args()
    sys.stdout.write(json.dumps(as_objects(new_secrets(asked.database_url, asked.cassandra_auth)), indent=2) + "\n")


if __name__ == "__main__":
    main()
