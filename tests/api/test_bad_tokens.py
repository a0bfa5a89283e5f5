"""Security S1 and S2: access tokens that must not be believed, and where a token must never be."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

import jwt
import pytest

from nearby.tokens import TokenKeys
from tests.api.stack import TOKEN_KEYS, Stack, User, assert_problem
from tests.social_graph.clock import NOW_MS

NOW_S = NOW_MS // 1000
KEY = TOKEN_KEYS.keys["k1"]
HEADERS = {"kid": "k1", "typ": "at+jwt"}

Forge = Callable[[str], str]


def _signed(
    user_id: str, *, key: bytes = KEY, algorithm: str = "HS256", headers: object = None, **claims: object
) -> str:
    good = {"iss": "nearby", "aud": "nearby", "sub": user_id, "iat": NOW_S, "nbf": NOW_S, "exp": NOW_S + 60}
    payload = {name: value for name, value in {**good, **claims}.items() if value is not None}
    protected = HEADERS if headers is None else headers
    assert isinstance(protected, dict)
    return jwt.encode(payload, key, algorithm, headers=protected)


def _segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _unsigned(user_id: str, alg: str) -> str:
    claims = {"iss": "nearby", "aud": "nearby", "sub": user_id, "iat": NOW_S, "nbf": NOW_S, "exp": NOW_S + 60}
    return f"{_segment({**HEADERS, 'alg': alg})}.{_segment(claims)}."


def _tampered(user_id: str) -> str:
    header, _, signature = _signed("00000000-0000-4000-8000-000000000000").split(".")
    return f"{header}.{_signed(user_id).split('.')[1]}.{signature}"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Tokens are believed or not whatever the database."""
    return sqlite_url


BAD_TOKENS: dict[str, Forge] = {
    "alg none": lambda user_id: _unsigned(user_id, "none"),
    "alg None in another case": lambda user_id: _unsigned(user_id, "nOnE"),
    "no signature": lambda user_id: _signed(user_id).rsplit(".", 1)[0] + ".",
    "signed for another payload": _tampered,
    "another key": lambda user_id: _signed(user_id, key=b"2" * 32),
    "another algorithm with our key": lambda user_id: _signed(user_id, key=KEY * 2, algorithm="HS512"),
    "unknown kid": lambda user_id: _signed(user_id, headers={**HEADERS, "kid": "k2"}),
    "no kid": lambda user_id: _signed(user_id, headers={"typ": "at+jwt"}),
    "kid of another type": lambda user_id: (
        f"{_segment({**HEADERS, 'alg': 'HS256', 'kid': ['k1']})}.{_signed(user_id).split('.', 1)[1]}"
    ),
    "typ of a plain JWT": lambda user_id: _signed(user_id, headers={"kid": "k1", "typ": "JWT"}),
    "typ of a refresh token": lambda user_id: _signed(user_id, headers={"kid": "k1", "typ": "rt+jwt"}),
    "another issuer": lambda user_id: _signed(user_id, iss="elsewhere"),
    "no issuer": lambda user_id: _signed(user_id, iss=None),
    "another audience": lambda user_id: _signed(user_id, aud="elsewhere"),
    "no audience": lambda user_id: _signed(user_id, aud=None),
    "expired": lambda user_id: _signed(user_id, exp=NOW_S),
    "no expiry": lambda user_id: _signed(user_id, exp=None),
    "expiry as text": lambda user_id: _signed(user_id, exp=str(NOW_S + 60)),
    "not yet valid": lambda user_id: _signed(user_id, nbf=NOW_S + 61),
    "issued in the future": lambda user_id: _signed(user_id, iat=NOW_S + 61),
    "milliseconds that make it younger than it is": lambda user_id: _signed(user_id, iat_ms=NOW_MS + 10_000),
    "no subject": lambda user_id: _signed(user_id, sub=None),
    "subject that is no user id": lambda _: _signed("admin"),
    "subject in upper case": lambda user_id: _signed(user_id.upper()),
    "subject who does not exist": lambda _: _signed("00000000-0000-4000-8000-000000000000"),
    "huge": lambda user_id: _signed(user_id, padding="x" * 5_000),
    "not a JWT": lambda _: "letmein",
    "two parts": lambda user_id: _signed(user_id).rsplit(".", 1)[0],
    "empty": lambda _: "",
}


async def test_the_forger_can_make_a_good_token(stack: Stack) -> None:
    ann = await stack.user("ann")
    assert (await stack.get("/v1/me", User(ann.user_id, "ann", _signed(ann.user_id)))).status_code == 200


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_a_bad_token_is_refused(stack: Stack, name: str) -> None:
    ann = await stack.user("ann")
    answer = await stack.get("/v1/me", User(ann.user_id, "ann", BAD_TOKENS[name](ann.user_id)))
    assert_problem(answer, 401, "not_authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_refresh_token_is_no_access_token(stack: Stack) -> None:
    ann = await stack.user("ann")
    tokens = await stack.log_in(ann)
    refresh_token = str(tokens["refresh_token"])
    assert_problem(await stack.get("/v1/me", User(ann.user_id, "ann", refresh_token)), 401, "not_authenticated")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Basic YW5uOnB3", "{token}", "Token {token}"])
async def test_anything_but_a_bearer_token_is_refused(stack: Stack, authorization: str) -> None:
    ann = await stack.user("ann")
    headers = {"Authorization": authorization.format(token=ann.access_token)}
    assert_problem(await stack.public.get("/v1/me", headers=headers), 401, "not_authenticated")


async def test_during_a_rotation_of_keys_both_are_good(stack: Stack) -> None:
    ann = await stack.user("ann")
    stack.use(replace(stack.services, token_keys=TokenKeys({"k2": b"2" * 32, "k1": KEY})))
    assert (await stack.get("/v1/me", ann)).status_code == 200
    assert jwt.get_unverified_header(str((await stack.log_in(ann))["access_token"]))["kid"] == "k2"


@pytest.mark.parametrize("path", ["/v1/me", "/v1/gateway", "/v1/nothing", "/", "/v1/tokens"])
@pytest.mark.parametrize(
    "parameter", ["token", "access_token", "ACCESS_TOKEN", "%74oken", "refresh_token", "a=1&token"]
)
async def test_a_token_in_the_url_is_refused_and_appears_in_no_log(
    stack: Stack, path: str, parameter: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ann = await stack.user("ann")
    answer = await stack.get(f"{path}?{parameter}={quote(ann.access_token)}", ann)
    assert_problem(answer, 400, "token_in_url")
    assert ann.access_token not in answer.text
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert not [record for record in ours if ann.access_token in record.getMessage()]


async def test_a_parameter_that_merely_looks_similar_is_let_through(stack: Stack) -> None:
    ann = await stack.user("ann")
    assert (await stack.get("/v1/me?tokens=1&x=token", ann)).status_code == 200
