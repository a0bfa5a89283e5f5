"""The keys of an issuer outside: fetched, kept, and fetched again when it has new ones, but not at a stranger's will.

A token that names a key we do not know may be signed with a new one, so the set is fetched again, at most once per
:data:`LEAST_BETWEEN_S`: forged tokens cannot make us flood the issuer. A set older than :data:`MAX_AGE_S` is fetched
again too, so that a key which the issuer has withdrawn ends here; if that fails, the old set serves until
:data:`MAX_STALE_S`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx

from api.outside_tokens import OutsideIdentity, OutsideKey, keys_of, kid_of, verify
from nearby.errors import StoreUnavailable, TokenError
from nearby.settings import ExternalIssuerSettings

TIMEOUT_S = 5.0
MAX_BYTES = 262_144
LEAST_BETWEEN_S = 30.0
MAX_AGE_S = 600.0
MAX_STALE_S = 86_400.0

_log = logging.getLogger(__name__)


class OutsideIssuer:
    """Built by :func:`open_outside_issuer`. ``now_s`` is a clock of seconds that only goes on."""

    def __init__(self, settings: ExternalIssuerSettings, http: httpx.AsyncClient, now_s: Callable[[], float]) -> None:
        self.issuer = settings.issuer
        self._audience = settings.audience
        self._url = settings.jwks_url
        self._http = http
        self._now_s = now_s
        self._keys: dict[str, OutsideKey] = {}
        self._fetched_s: float | None = None
        self._tried_s: float | None = None
        self._fetching = asyncio.Lock()

    async def believe(self, token: str, now_ms: int) -> OutsideIdentity:
        """Return what ``token`` of this issuer says, if it is good at ``now_ms``.

        Raises:
            TokenError: it is not.
            StoreUnavailable: the issuer's keys cannot be had.
        """
        kid = kid_of(token)
        await self._refresh(kid)
        if self._fetched_s is None or self._now_s() - self._fetched_s > MAX_STALE_S:
            raise StoreUnavailable("external_issuer", "its keys cannot be had")
        key = self._keys.get(kid)
        if key is None:
            raise TokenError("unknown key")
        return verify(token, key, self.issuer, self._audience, now_ms)

    async def _refresh(self, kid: str) -> None:
        if not self._due(kid):
            return
        async with self._fetching:
            if self._due(kid):  # whoever waited before may have fetched meanwhile
                self._tried_s = self._now_s()
                try:
                    self._keys = await self._fetch()
                except (httpx.HTTPError, TimeoutError, ValueError, RecursionError) as error:
                    _log.warning("keys of the outside issuer: %s", type(error).__name__)
                else:
                    self._fetched_s = self._tried_s

    def _due(self, kid: str) -> bool:
        now_s = self._now_s()
        if self._tried_s is not None and now_s - self._tried_s < LEAST_BETWEEN_S:
            return False
        return kid not in self._keys or self._fetched_s is None or now_s - self._fetched_s > MAX_AGE_S

    async def _fetch(self) -> dict[str, OutsideKey]:
        body = bytearray()
        async with asyncio.timeout(TIMEOUT_S), self._http.stream("GET", self._url) as response:
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"status {response.status_code}")
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    raise ValueError("too large")
        return keys_of(json.loads(body))


@asynccontextmanager
async def open_outside_issuer(
    settings: ExternalIssuerSettings, now_s: Callable[[], float]
) -> AsyncIterator[OutsideIssuer | None]:
    """Yield the issuer that ``settings`` names, ``None`` if none. Its keys are fetched when first needed."""
    if not settings.issuer:
        yield None
        return
    # No redirects: the keys are where the operator says, and nowhere else.
    async with httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as http:
        yield OutsideIssuer(settings, http, now_s)
