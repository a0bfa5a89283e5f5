"""Speak to a ring keeper's admin API, and find it first."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from nearby.errors import NearbyError

TIMEOUT_S = 10.0
TOKEN = "NEARBY_ADMIN_TOKEN"
NO_RING = "no_ring"
"""The keeper's code for there being no ring yet."""

Document = dict[str, Any]
"""What the keeper answers, as it came."""


class RingCommandError(NearbyError):
    """A command that was refused, or that did not reach a keeper; one line. ``code`` is the keeper's."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        super().__init__(detail)


class KeeperClient:
    """One keeper's admin API. Each method returns the keeper's document.

    Raises:
        RingCommandError: by each method, if the keeper refuses or cannot be reached.
    """

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def show(self) -> Document:
        """Return the ring, its members and what is going on."""
        return self._call("GET", "")

    def history(self) -> Document:
        """Return the remembered actions, oldest first."""
        return self._call("GET", "/history")

    def plan(self, add: Sequence[str], remove: Sequence[str]) -> Document:
        """Return what a resize would do."""
        return self._call("POST", "/plan", {"add": list(add), "remove": list(remove)})

    def resize(self, add: Sequence[str], remove: Sequence[str], reason: str, actor: str) -> Document:
        """Begin a resize; return the ring."""
        body = {"add": list(add), "remove": list(remove), "reason": reason, "actor": actor}
        return self._call("POST", "/resize", body)

    def replace(self, slot: str, address: str, reason: str, actor: str) -> Document:
        """Put the server at ``address`` in the place of the one of ``slot``; return the ring."""
        return self._call("POST", "/replace", {"slot": slot, "address": address, "reason": reason, "actor": actor})

    def abort(self, reason: str, actor: str) -> Document:
        """Give the pending resize up; return the ring."""
        return self._call("POST", "/abort", {"reason": reason, "actor": actor})

    def spares(self, add: Sequence[str], remove: Sequence[str], reason: str, actor: str) -> Document:
        """Change the spares; return the ring."""
        body = {"add": list(add), "remove": list(remove), "reason": reason, "actor": actor}
        return self._call("POST", "/spares", body)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Document:
        try:
            answer = self._http.request(method, f"/admin/v1/ring{path}", json=body)
            document: Document = answer.json()
        except httpx.HTTPError as error:
            told = str(error) or type(error).__name__
            raise RingCommandError("unreachable", f"no keeper answers at {self._http.base_url}: {told}") from error
        except ValueError as error:
            raise RingCommandError("bad_answer", f"{self._http.base_url} is no ring keeper") from error
        if not answer.is_success:
            code = str(document.get("code", answer.status_code))
            raise RingCommandError(code, str(document.get("detail", f"the keeper answers {answer.status_code}")))
        return document


@contextlib.contextmanager
def open_keeper(data_dir: Path, keeper: str | None, environ: Mapping[str, str]) -> Iterator[KeeperClient]:
    """Yield a client of ``keeper``, or of the one in the ``stack.json`` of ``data_dir``.

    Raises:
        RingCommandError: no stack runs there, or no admin token is known.
    """
    if keeper is not None:
        url, token = keeper, environ.get(TOKEN, "")
        if not token:
            raise RingCommandError("no_token", f"--keeper needs the admin token in {TOKEN}")
    else:
        url, token = _of_stack(data_dir)
    # Proxies of the environment are for other hosts than these.
    with httpx.Client(
        base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=TIMEOUT_S, trust_env=False
    ) as http:
        yield KeeperClient(http)


def _of_stack(data_dir: Path) -> tuple[str, str]:
    try:
        document = json.loads((data_dir / "stack.json").read_text(encoding="utf-8"))
        return str(document["ring_keeper"]["admin_url"]), str(document["admin_token"])
    except FileNotFoundError as error:
        detail = f"no stack runs in {data_dir}; begin one with `nearby up`, or name a keeper with --keeper URL"
        raise RingCommandError("no_stack", detail) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RingCommandError("no_stack", f"{data_dir / 'stack.json'} cannot be read: {error}") from error
