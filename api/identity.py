"""Who sends a request, found out once before anything else: the bearer of a token, at an address."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from http_port.addresses import client_address, holder
from nearby.errors import TokenError
from nearby.tokens import AccessToken, TokenKeys

MAX_TOKENS = 20_000
"""Of about 600 bytes each."""

_IDENTITY = "nearby.identity"


@dataclass(slots=True)
class Identity:
    """``token`` is ``None`` without a good access token. ``address`` is what one party holds (IPv6: a /64).

    ``checked``: the token is known not to have been revoked.
    """

    token: AccessToken | None
    address: str
    checked: bool = False


def identity_of(scope: Scope) -> Identity:
    """Return who sends the request of ``scope``, which has come through :class:`Identify`."""
    identity: Identity = scope[_IDENTITY]
    return identity


class Identify:
    """Passes every request on with its :class:`Identity`; refuses nobody."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at the ``Authorization`` header, and for the address behind our proxies."""
        if scope["type"] == "http":
            scope[_IDENTITY] = _identity(scope)
        await self._app(scope, receive, send)


def _identity(scope: Scope) -> Identity:
    services = scope["app"].state.services
    headers = Headers(scope=scope)
    peer = scope["client"][0] if scope.get("client") else ""
    address = client_address(peer, headers.getlist("x-forwarded-for"), services.trusted_proxies)
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    token = services.tokens.believe(credentials.strip(), services.clock()) if scheme.lower() == "bearer" else None
    return Identity(token, holder(address))


class BelievedTokens:
    """Access tokens that were verified before, so that each is verified once and not with every request.

    Bounded: the one not shown for longest is forgotten first, and verified again if it comes back.
    """

    def __init__(self, keys: TokenKeys, max_tokens: int = MAX_TOKENS) -> None:
        self._keys = keys
        self._max_tokens = max_tokens
        self._believed: OrderedDict[str, AccessToken] = OrderedDict()

    def __len__(self) -> int:
        return len(self._believed)

    def believe(self, token: str, now_ms: int) -> AccessToken | None:
        """Return what ``token`` says, if it is ours and good at ``now_ms``, and ``None`` if not."""
        known = self._believed.get(token)
        if known is not None and known.expires_at_ms > now_ms:
            self._believed.move_to_end(token)
            return known
        try:
            verified = self._keys.verify(token, now_ms)
        except TokenError:
            self._believed.pop(token, None)
            return None
        self._believed[token] = verified
        if len(self._believed) > self._max_tokens:
            self._believed.popitem(last=False)
        return verified
