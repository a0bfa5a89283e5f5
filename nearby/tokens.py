"""Access tokens: JSON Web Tokens by RFC 7519, checked by the rules of RFC 8725.

One algorithm, fixed in the code (HS256): a token's own ``alg`` chooses nothing. The header must say
``typ: at+jwt`` (RFC 9068) and a known ``kid``; issuer, audience, subject and the three times are required, each once.
During a rotation two keys are good; the first signs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt

from nearby.errors import TokenError
from nearby.model import UserId

ALGORITHM = "HS256"
TOKEN_TYPE = "at+jwt"
ISSUER = "nearby"
AUDIENCE = "nearby"
LEEWAY_S = 30
"""How far two servers' clocks may differ before a fresh token is refused."""
MAX_TOKEN_BYTES = 4096
MIN_KEY_BYTES = 32
"""RFC 7518 §3.2: a key for HS256 has at least the 256 bits of the hash."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a believed token says. ``issued_at_ms`` and ``expires_at_ms`` are Unix milliseconds."""

    user_id: UserId
    issued_at_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """Signing keys by ``kid``; the first signs, all verify."""

    keys: Mapping[str, bytes]

    def __repr__(self) -> str:
        return f"TokenKeys(kids={list(self.keys)})"

    def issue(self, user_id: UserId, now_ms: int, lifetime_s: int) -> str:
        """Return a signed access token for ``user_id``, good from ``now_ms`` for ``lifetime_s`` seconds.

        ``iat_ms`` keeps the milliseconds that ``iat`` drops, so that a log-out revokes the tokens before
        it and not a log-in in the same second.
        """
        kid, key = next(iter(self.keys.items()))
        now_s = now_ms // 1000
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + lifetime_s,
            "iat_ms": now_ms,
        }
        return jwt.encode(claims, key, ALGORITHM, headers={"kid": kid, "typ": TOKEN_TYPE})

    def verify(self, token: str, now_ms: int) -> AccessToken:
        """Return what ``token`` says, if it is ours and good at ``now_ms``.

        Raises:
            TokenError: anything else; ``reason`` says what, never quoting the token.
        """
        header = header_of(token, MAX_TOKEN_BYTES)
        key = self.keys.get(str(header.get("kid")))
        if header.get("typ") != TOKEN_TYPE or key is None:
            raise TokenError("not an access token of ours")
        required = ["exp", "iat", "nbf", "sub", "iss", "aud"]
        return _checked(signed_claims(token, key, ALGORITHM, ISSUER, AUDIENCE, required), now_ms)


def header_of(token: str, max_bytes: int) -> dict[str, Any]:
    """Return the header of a JSON Web Token, which nothing vouches for yet.

    Raises:
        TokenError: it is longer than ``max_bytes``, or no such token.
    """
    if len(token) > max_bytes:
        raise TokenError("too long")
    try:
        return jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise TokenError(type(error).__name__) from error


def signed_claims(
    token: str, key: Any, algorithm: str, issuer: str, audience: str, required: Sequence[str]
) -> dict[str, Any]:
    """Return the claims of a token that ``key`` signed by ``algorithm``, of ``issuer`` for ``audience``.

    None of the ``required`` is missing and none stands twice. The times are not checked: that is left to the caller
    and the caller's clock.

    Raises:
        TokenError: anything else; ``reason`` says what, never quoting the token.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=audience,
            issuer=issuer,
            options={"require": list(required), "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise TokenError(type(error).__name__) from error
    _refuse_duplicate_names(token)
    return claims


def _refuse_duplicate_names(token: str) -> None:
    """Check that no name stands twice in the header or the claims of a JSON Web Token (RFC 7519 §4).

    Two programs may take two different ones for the true one.

    Raises:
        TokenError: a name stands twice, or it is not such a token.
    """
    try:
        for part in token.split(".")[:2]:
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise TokenError("not JSON") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        raise TokenError("a name stands twice")
    return named


def _checked(claims: dict[str, Any], now_ms: int) -> AccessToken:
    times = [claims["iat"], claims["nbf"], claims["exp"], claims.get("iat_ms", claims["iat"] * 1000)]
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in times):
        raise TokenError("times are not integers")
    issued_s, not_before_s, expires_s, issued_ms = times
    if expires_s * 1000 <= now_ms:
        raise TokenError("expired")
    if max(not_before_s, issued_s) > now_ms // 1000 + LEEWAY_S:
        raise TokenError("not yet valid")
    if issued_ms // 1000 != issued_s:
        raise TokenError("times disagree")
    try:
        subject = str(UUID(claims["sub"]))
    except (ValueError, TypeError, AttributeError) as error:
        raise TokenError("subject is not a user id") from error
    if subject != claims["sub"]:
        raise TokenError("subject is not a user id")
    return AccessToken(UserId(subject), issued_ms, expires_s * 1000)
