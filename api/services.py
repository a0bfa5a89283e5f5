"""What the routes work with, built in :mod:`api.app` and handed to each by dependency injection."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

from fastapi import Depends, Request

from api.announcer import Announcer
from api.eraser import Eraser
from api.gateways import Gateways
from api.identity import BelievedTokens
from api.jwks import OutsideIssuer
from api.rates import Rates
from api.reports import Reports
from nearby.ports import Clock, HistoryStore, LocationCache
from nearby.tokens import TokenKeys
from rate_limits.limiter import Limiter
from social_graph.graph import SocialGraph


@dataclass(frozen=True, slots=True)
class Services:
    """Everything behind the public port. Lengths in metres, lifetimes in seconds, the clock in Unix milliseconds."""

    graph: SocialGraph
    cache: LocationCache
    history: HistoryStore
    eraser: Eraser
    reports: Reports
    announcer: Announcer
    gateways: Gateways
    token_keys: TokenKeys
    clock: Clock
    access_token_lifetime_s: int
    default_radius_m: float
    limiter: Limiter
    rates: Rates
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    invite_link_base: str = "nearby://invite"
    outside_issuer: OutsideIssuer | None = None
    tokens: BelievedTokens = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Begin with no token believed."""
        object.__setattr__(self, "tokens", BelievedTokens(self.token_keys))


async def _services(request: Request) -> Services:  # a plain function would be called in a thread
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]
