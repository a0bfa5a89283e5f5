"""The admin port of one gateway, as the command line uses it."""

from __future__ import annotations

import getpass
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from nearby.errors import NearbyError

TIMEOUT_S = 10.0
"""More than a gateway gives discovery to take its mark."""
DRAIN_PATH = "/admin/v1/drain"


class AdminUnreachable(NearbyError):
    """Nobody answers at an admin port."""

    def __init__(self, url: str, detail: str) -> None:
        self.url = url
        super().__init__(f"no gateway answers at {url} ({detail})")


class AdminRefused(NearbyError):
    """A gateway refused a call. ``status`` is the HTTP status, ``code`` the gateway's word for it."""

    def __init__(self, name: str, status: int, code: str, detail: str) -> None:
        self.status = status
        self.code = code
        super().__init__(f"{name} answers {status} {code}: {detail}")


class DrainStatus(msgspec.Struct, frozen=True):
    """What a gateway tells of its drain (``docs/draining.md``); ``None`` stands for what is not known yet."""

    gateway_id: str
    state: str
    left: int
    actor: str | None = None
    reason: str | None = None
    started_at_ms: int | None = None
    rate_per_s: float | None = None
    deadline_s: float | None = None
    total: int | None = None
    told: int | None = None
    gone: int | None = None
    eta_s: float | None = None


class AdminPort:
    """Calls to one gateway; :func:`open_ports` makes them."""

    def __init__(self, url: str, http: httpx.AsyncClient, token: str) -> None:
        self.url = url
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}", "X-Actor": actor()}

    async def metrics(self) -> dict[str, float]:
        """Return the gateway's metrics that have no labels.

        Raises:
            AdminUnreachable: nobody answers.
        """
        text = (await self._request("GET", "/metrics")).text
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if not sample.labels
        }

    async def drain(
        self, phase: str, *, deadline_s: float, rate_per_s: float | None, reason: str
    ) -> tuple[bool, DrainStatus]:
        """``mark`` or ``start`` the drain of the gateway; return whether that was news to it, and how it stands.

        Raises:
            AdminUnreachable: nobody answers.
            AdminRefused: the gateway does not do it.
        """
        body: dict[str, object] = {"phase": phase, "deadline_s": deadline_s, "reason": reason, "actor": actor()}
        if rate_per_s is not None:
            body["rate_per_s"] = rate_per_s
        answer = await self._request("POST", DRAIN_PATH, body)
        return answer.status_code == httpx.codes.ACCEPTED, self._status(answer)

    async def drain_status(self) -> DrainStatus:
        """Return what the gateway is doing.

        Raises:
            AdminUnreachable: nobody answers.
            AdminRefused: the token is wrong.
        """
        return self._status(await self._request("GET", DRAIN_PATH))

    async def cancel_drain(self) -> DrainStatus:
        """Let the gateway serve again.

        Raises:
            AdminUnreachable: nobody answers.
            AdminRefused: clients have been sent away already.
        """
        return self._status(await self._request("DELETE", DRAIN_PATH))

    def _status(self, answer: httpx.Response) -> DrainStatus:
        try:
            if not answer.is_success:
                problem = msgspec.json.decode(answer.content, type=_Problem)
                raise AdminRefused(self.url, answer.status_code, problem.code, problem.detail)
            return msgspec.json.decode(answer.content, type=DrainStatus)
        except msgspec.MsgspecError as error:
            raise AdminUnreachable(self.url, f"what answers there is none: {answer.status_code}") from error

    async def _request(self, method: str, path: str, body: Mapping[str, object] | None = None) -> httpx.Response:
        try:
            return await self._http.request(method, f"{self.url}{path}", json=body, headers=self._headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AdminUnreachable(self.url, type(error).__name__) from error


class _Problem(msgspec.Struct):
    code: str
    detail: str


@asynccontextmanager
async def open_ports(urls: Iterable[str], token: str) -> AsyncIterator[list[AdminPort]]:
    """Yield an :class:`AdminPort` for each URL, to be called with ``token``."""
    # Proxies of the environment are for other hosts than ours.
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
        yield [AdminPort(url.rstrip("/"), http, token) for url in urls]


def actor() -> str:
    """Return who we are, for the gateway's audit: USER@HOST."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
