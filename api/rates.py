"""Rate limits of the public port, told in the headers of draft-ietf-httpapi-ratelimit-headers-10 on every answer."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.identity import Identity, identity_of
from api.problems import Problem, response_of
from nearby.settings import RateSettings
from rate_limits.limiter import Limiter
from rate_limits.policy import Decision, Policy

MINUTE_S, HOUR_S = 60, 3_600
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Rates:
    """The policies, by what they limit."""

    reads: Policy
    writes: Policy
    anonymous: Policy
    log_ins: Policy
    log_ins_per_handle: Policy
    sign_ups: Policy

    @classmethod
    def of(cls, settings: RateSettings) -> Rates:
        """Return the policies that ``settings`` describe."""
        return cls(
            reads=Policy("reads", settings.reads_per_minute, MINUTE_S),
            writes=Policy("writes", settings.writes_per_minute, MINUTE_S),
            anonymous=Policy("anonymous", settings.anonymous_per_minute, MINUTE_S),
            log_ins=Policy("log-ins", settings.log_ins_per_minute, MINUTE_S),
            log_ins_per_handle=Policy("log-ins-per-handle", settings.log_ins_per_handle, HOUR_S),
            sign_ups=Policy("sign-ups", settings.sign_ups_per_hour, HOUR_S),
        )

    def choose(self, method: str, path: str, identity: Identity) -> tuple[Policy, str]:
        """Return the policy for a request, and the subject whose requests are counted together."""
        match method, path:
            case ("POST", "/v1/tokens" | "/v1/tokens/exchange") | ("DELETE", "/v1/me"):  # these check credentials
                return self.log_ins, identity.address
            case "POST", "/v1/users":
                return self.sign_ups, identity.address
        if identity.token is None:
            return self.anonymous, identity.address
        return (self.reads if method in _READS else self.writes), identity.token.user_id


class LimitRates:
    """Answers 429 to whoever asks too often, before anything else is done for them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the request and pass it on, or not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        services = scope["app"].state.services
        policy, subject = services.rates.choose(scope["method"], scope["path"], identity_of(scope))
        decision = await services.limiter.take(policy, subject)
        if decision is None:
            await self._app(scope, receive, send)
        elif decision.allowed:
            await self._app(scope, receive, _telling(send, policy, decision))
        else:
            await response_of(too_often(policy, decision))(scope, receive, _telling(send, policy, decision))


def too_often(policy: Policy, decision: Decision) -> Problem:
    """Return the answer to a request that is refused."""
    headers = {"Retry-After": str(max(1, math.ceil(decision.retry_after_s)))}
    return Problem(429, "rate_limited", f"too many requests of the kind {policy.name}; try later", headers)


def _telling(send: Send, policy: Policy, decision: Decision) -> Send:
    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["RateLimit-Policy"] = f'"{policy.name}";q={policy.quota};w={policy.window_s}'
            headers["RateLimit"] = f'"{policy.name}";r={decision.remaining};t={math.ceil(decision.reset_s)}'
        await send(message)

    return telling


async def limit_log_ins(rates: Rates, limiter: Limiter, handle: str) -> None:
    """Count one log-in of ``handle``, whoever tries it from wherever, and whether it exists or not.

    Raises:
        Problem: 429.
    """
    subject = hashlib.sha256(handle.encode()).hexdigest()
    decision = await limiter.take(rates.log_ins_per_handle, subject)
    if decision is not None and not decision.allowed:
        raise too_often(rates.log_ins_per_handle, decision)
