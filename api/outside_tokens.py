"""Tokens of an issuer outside: what makes one believable (RFC 8725, RFC 7519). Pure; :mod:`api.jwks` gets the keys.

The algorithm is one of three with public keys, fixed here, and must be the one of the key that the token names: a
token's own ``alg`` chooses nothing, so a public key is never taken for a shared secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jwt.api_jwk import PyJWK
from jwt.exceptions import PyJWTError

from nearby.errors import TokenError
from nearby.tokens import LEEWAY_S, header_of, signed_claims

MAX_TOKEN_BYTES = 8_192
MAX_KEYS = 100
_ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
_TYPES = (None, "JWT", "at+jwt")
_MIN_RSA_BITS = 2_048
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
NAMELESS = "Somebody"


@dataclass(frozen=True, slots=True)
class OutsideKey:
    """A public key of the issuer, and the one algorithm that it verifies."""

    algorithm: str
    key: PyJWK


@dataclass(frozen=True, slots=True)
class OutsideIdentity:
    """What a believed token says: who its issuer says this is, and when it was issued (Unix milliseconds)."""

    subject: str
    display_name: str
    issued_at_ms: int


def keys_of(document: Any) -> dict[str, OutsideKey]:
    """Return the keys of a JWK set (RFC 7517) by ``kid``; those that we cannot or must not use are left out.

    Raises:
        ValueError: it is no such set.
    """
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("not a JWK set")
    found = (_key_of(item) for item in document["keys"][:MAX_KEYS] if isinstance(item, dict))
    return dict(filter(None, found))


def _key_of(item: Mapping[str, Any]) -> tuple[str, OutsideKey] | None:
    kid, curve = item.get("kid"), item.get("crv")
    algorithm = _ALGORITHMS.get((str(item.get("kty")), None if curve is None else str(curve)))
    if not isinstance(kid, str) or algorithm is None:
        return None
    if item.get("use", "sig") != "sig" or item.get("alg", algorithm) != algorithm:
        return None
    try:
        key = PyJWK(dict(item), algorithm)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    if algorithm == "RS256" and key.key.key_size < _MIN_RSA_BITS:
        return None
    return kid, OutsideKey(algorithm, key)


def kid_of(token: str) -> str:
    """Return which key ``token`` says that it was signed with.

    Raises:
        TokenError: it does not say, or is no token of a kind that we take.
    """
    header = header_of(token, MAX_TOKEN_BYTES)
    kid = header.get("kid")
    if not isinstance(kid, str) or header.get("typ") not in _TYPES:
        raise TokenError("no kid, or another typ")
    return kid


def verify(token: str, key: OutsideKey, issuer: str, audience: str, now_ms: int) -> OutsideIdentity:
    """Return what ``token`` says, if it is the issuer's, for us, and good at ``now_ms``.

    Raises:
        TokenError: anything else; ``reason`` says what, never quoting the token.
    """
    required = ["exp", "iat", "sub", "iss", "aud"]
    return _checked(signed_claims(token, key.key, key.algorithm, issuer, audience, required), now_ms)


def _checked(claims: Mapping[str, Any], now_ms: int) -> OutsideIdentity:
    # NumericDate may have a fraction (RFC 7519 §2).
    times = [claims["iat"], claims["exp"], claims.get("nbf", claims["iat"])]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in times):
        raise TokenError("times are not numbers")
    issued_s, expires_s, not_before_s = times
    # The comparison is false for a time that is not finite.
    if not now_ms / 1000 < expires_s < 1e12:
        raise TokenError("expired")
    if not 0 <= max(issued_s, not_before_s) <= now_ms / 1000 + LEEWAY_S:
        raise TokenError("not yet valid")
    subject = claims["sub"]
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255 or _CONTROL.search(subject):
        raise TokenError("subject is no name")
    return OutsideIdentity(subject, _display_name(claims.get("name")), round(issued_s * 1000))


def _display_name(claimed: Any) -> str:
    name = _CONTROL.sub(" ", claimed).strip()[:100].strip() if isinstance(claimed, str) else ""
    return name or NAMELESS
