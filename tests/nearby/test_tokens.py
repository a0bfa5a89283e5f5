"""Access tokens: what is believed, and the many ways of not being believed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest

from nearby.errors import TokenError
from nearby.model import UserId
from nearby.tokens import LEEWAY_S, MAX_TOKEN_BYTES, AccessToken, TokenKeys

ALICE = UserId("00000000-0000-4000-8000-000000000001")
NOW_MS = 1_795_237_200_123
NOW_S = NOW_MS // 1000
KEY, OLD_KEY, STRANGE_KEY = (bytes([byte]) * 32 for byte in b"nos")
KEYS = TokenKeys({"new": KEY, "old": OLD_KEY})
CLAIMS: dict[str, Any] = {
    "iss": "nearby",
    "aud": "nearby",
    "sub": ALICE,
    "iat": NOW_S,
    "nbf": NOW_S,
    "exp": NOW_S + 60,
    "iat_ms": NOW_MS,
}
HEADER: dict[str, Any] = {"alg": "HS256", "typ": "at+jwt", "kid": "new"}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: str, claims: str, key: bytes = KEY) -> str:
    """A token made by hand, so that it may say what no library would write."""
    content = f"{b64(header.encode())}.{b64(claims.encode())}"
    return f"{content}.{b64(hmac.digest(key, content.encode(), hashlib.sha256))}"


def token(key: bytes = KEY, header: dict[str, Any] | None = None, without: str = "", **claims: Any) -> str:
    said = {name: value for name, value in (CLAIMS | claims).items() if name != without}
    return signed(json.dumps(HEADER | (header or {})), json.dumps(said), key)


def test_a_token_we_issued_is_believed() -> None:
    issued = KEYS.issue(ALICE, NOW_MS, 60)
    assert KEYS.verify(issued, NOW_MS) == AccessToken(ALICE, NOW_MS, (NOW_S + 60) * 1000)


def test_a_token_made_by_hand_is_believed_so_the_others_fail_for_their_own_reason() -> None:
    assert KEYS.verify(token(), NOW_MS).user_id == ALICE


def test_both_keys_are_good_during_a_rotation_and_the_first_signs() -> None:
    assert jwt.get_unverified_header(KEYS.issue(ALICE, NOW_MS, 60))["kid"] == "new"
    assert KEYS.verify(TokenKeys({"old": OLD_KEY}).issue(ALICE, NOW_MS, 60), NOW_MS).user_id == ALICE


def test_a_token_ends_at_its_time_and_not_before() -> None:
    issued = KEYS.issue(ALICE, NOW_MS, 60)
    end_ms = (NOW_S + 60) * 1000
    assert KEYS.verify(issued, end_ms - 1)
    with pytest.raises(TokenError, match="expired"):
        KEYS.verify(issued, end_ms)


def test_a_clock_may_be_behind_by_the_leeway() -> None:
    assert KEYS.verify(token(iat=NOW_S + LEEWAY_S, nbf=NOW_S + LEEWAY_S, without="iat_ms"), NOW_MS)
    assert LEEWAY_S <= 60


UNSIGNED = token().rsplit(".", 1)[0]
CLAIM_TEXT = json.dumps(CLAIMS)

BAD_TOKENS = {
    "empty": "",
    "words": "not a token",
    "two parts": UNSIGNED,
    "no signature": UNSIGNED + ".",
    "four parts": token() + ".x",
    "alg none": signed('{"alg":"none","typ":"at+jwt","kid":"new"}', CLAIM_TEXT),
    "alg none, no signature": signed('{"alg":"none","typ":"at+jwt","kid":"new"}', CLAIM_TEXT).rsplit(".", 1)[0] + ".",
    "another algorithm": jwt.encode(CLAIMS, KEY * 2, "HS512", headers={"kid": "new", "typ": "at+jwt"}),
    "algorithm of public keys": token(header={"alg": "RS256"}),
    "a stranger's key": token(STRANGE_KEY),
    "the other key's kid": token(header={"kid": "old"}),
    "unknown kid": token(header={"kid": "other"}),
    "kid of another type": token(header={"kid": 1}),
    "no kid": signed('{"alg":"HS256","typ":"at+jwt"}', CLAIM_TEXT),
    "refresh token used as access": token(header={"typ": "rt+jwt"}),
    "plain JWT": token(header={"typ": "JWT"}),
    "changed after signing": token()[:-2] + ("AA" if not token().endswith("AA") else "BB"),
    "critical extension": token(header={"crit": ["of-a-stranger"], "of-a-stranger": True}),
    "wrong audience": token(aud="elsewhere"),
    "no audience": token(without="aud"),
    "wrong issuer": token(iss="elsewhere"),
    "no issuer": token(without="iss"),
    "no subject": token(without="sub"),
    "no expiry": token(without="exp"),
    "no issue time": token(without="iat"),
    "no not-before": token(without="nbf"),
    "expired": token(exp=NOW_S),
    "not yet valid": token(nbf=NOW_S + LEEWAY_S + 1),
    "issued in the future": token(iat=NOW_S + 61, iat_ms=(NOW_S + 61) * 1000),
    "times disagree": token(iat_ms=NOW_MS + 3_600_000),
    "expiry as text": token(exp=str(NOW_S + 60)),
    "expiry as a fraction": token(exp=NOW_S + 60.5),
    "expiry as a boolean": token(exp=True),
    "infinite expiry": signed(json.dumps(HEADER), json.dumps(CLAIMS | {"exp": float("inf")})),
    "issue time in milliseconds as text": token(iat_ms="0"),
    "subject is no id": token(sub="alice"),
    "subject is a number": token(sub=1),
    "subject in capitals": token(sub="ABCDEF00-0000-4000-8000-000000000001"),
    "subject in braces": token(sub="{" + ALICE + "}"),
    "subject is null": token(sub=None),
    "claims are a list": signed(json.dumps(HEADER), "[]"),
    "claims are no JSON": signed(json.dumps(HEADER), "{"),
    "claims nested without end": signed(json.dumps(HEADER), "[" * 1_000),
    "header is a list": signed("[]", CLAIM_TEXT),
    "header nested without end": signed("[" * 2_000, CLAIM_TEXT),
    "huge": token(padding="x" * MAX_TOKEN_BYTES),
    "not ASCII": "ü" + token(),
    "a lone surrogate": "\ud800" + token(),
    "zero bytes": "\x00" * 10,
}


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_a_bad_token_is_refused_without_being_quoted(bad: str) -> None:
    with pytest.raises(TokenError) as refused:
        KEYS.verify(bad, NOW_MS)
    assert refused.value.reason
    assert len(bad) < 20 or bad[:20] not in str(refused.value)


@pytest.mark.parametrize("name", list(CLAIMS))
def test_a_claim_that_stands_twice_is_refused_even_if_both_are_good(name: str) -> None:
    duplicated = f"{CLAIM_TEXT[:-1]}, {json.dumps(name)}: {json.dumps(CLAIMS[name])}}}"
    with pytest.raises(TokenError, match="twice"):
        KEYS.verify(signed(json.dumps(HEADER), duplicated), NOW_MS)


def test_a_header_that_stands_twice_is_refused() -> None:
    with pytest.raises(TokenError, match="twice"):
        KEYS.verify(signed(json.dumps(HEADER)[:-1] + ', "kid": "new"}', CLAIM_TEXT), NOW_MS)


def test_a_name_that_stands_twice_deep_inside_is_refused() -> None:
    nested = CLAIM_TEXT[:-1] + ', "extra": {"a": [{"b": 1, "b": 1}]}}'
    with pytest.raises(TokenError, match="twice"):
        KEYS.verify(signed(json.dumps(HEADER), nested), NOW_MS)


def test_keys_are_not_shown() -> None:
    assert repr(KEYS) == "TokenKeys(kids=['new', 'old'])"
