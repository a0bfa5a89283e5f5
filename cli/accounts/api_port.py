"""The admin port of the API, as ``nearby accounts`` uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from cli.gateways.admin_port import actor
from cli.gateways.find import TOKEN_VARIABLE
from nearby.errors import NearbyError

TIMEOUT_S = 30.0
"""More than the API gives its database for a page of people."""
REVOCATIONS = "/admin/v1/revocations"


class ApiNotFound(NearbyError):
    """Nothing says where the API is, or there is no token. The caller's to mend."""


class ApiFailed(NearbyError):
    """The API does not answer, or refuses."""


class ApiPort:
    """Calls to the API's admin port; :func:`open_api_port` makes it."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def revoke(self, order: Mapping[str, object]) -> dict[str, Any]:
        """Log one page of people out everywhere; ``order`` says whom (``api/revocations.py``).

        Raises:
            ApiFailed: the API does not do it.
        """
        return self._call("POST", REVOCATIONS, order)

    def erase(self, name: str) -> dict[str, Any]:
        """Erase the account of ``name``, a handle or an id; return what is left to do.

        Raises:
            ApiFailed: the API does not do it.
        """
        return self._call("POST", f"/admin/v1/users/{name}/erasure")

    def erasure(self, name: str) -> dict[str, Any]:
        """Return whether the account exists and what is still to be deleted.

        Raises:
            ApiFailed: the API does not tell.
        """
        return self._call("GET", f"/admin/v1/users/{name}/erasure")

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body)
            found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ApiFailed(f"no API answers at {self._http.base_url} ({type(error).__name__})") from error
        if not answer.is_success:
            raise ApiFailed(f"the API answers {answer.status_code} {found.get('code')}: {found.get('detail')}")
        return found


@contextmanager
def open_api_port(data_dir: Path, api_admin: str | None, reason: str, environ: Mapping[str, str]) -> Iterator[ApiPort]:
    """Yield the API at ``api_admin``, or where there is none, that of the stack in ``data_dir``.

    Raises:
        ApiNotFound: no stack is ready there, or there is no token.
    """
    url, token = _find(data_dir, api_admin, environ)
    # A header takes no letters beyond ASCII.
    why = reason[:200].encode("ascii", "replace").decode()
    headers = {"Authorization": f"Bearer {token}", "X-Actor": actor(), "X-Reason": why}
    # Proxies of the environment are for other hosts than ours.
    with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as http:
        yield ApiPort(http)


def _find(data_dir: Path, api_admin: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    if api_admin:
        token = environ.get(TOKEN_VARIABLE)
        if not token:
            raise ApiNotFound(f"{TOKEN_VARIABLE} is not set; with --api-admin it must be")
        return api_admin.rstrip("/"), token
    try:
        document = json.loads((data_dir / "stack.json").read_text(encoding="utf-8"))
        return document["api_admin_url"], document["admin_token"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ApiNotFound(f"no stack is ready in {data_dir}; name --data-dir or --api-admin") from error
