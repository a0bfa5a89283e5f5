"""Who sends a request, found out once before anything else: the bearer of a token, at an address."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from http_port.addresses import client_address, holder
from nearby.errors import TokenError
from nearby.tokens import AccessToken

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
    if scheme.lower() != "bearer":
        return Identity(None, holder(address))
    try:
        return Identity(services.token_keys.verify(credentials.strip(), services.clock()), holder(address))
    except TokenError:
        return Identity(None, holder(address))
