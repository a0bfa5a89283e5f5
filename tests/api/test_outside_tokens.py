"""Tokens of an issuer outside, exchanged for ours: whom they are, and the many ways of not being believed (S1)."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from api import jwks
from api.jwks import open_outside_issuer
from http_port.serve import serve
from nearby.settings import ExternalIssuerSettings
from tests.api.stack import Stack, User, assert_problem
from tests.social_graph.clock import NOW_MS

ISSUER, AUDIENCE = "https://issuer.example", "nearby-app"
NOW_S = NOW_MS // 1000
RSA, OTHER_RSA = (rsa.generate_private_key(65_537, 2_048) for _ in range(2))
SHORT_RSA = rsa.generate_private_key(65_537, 1_024)
EC, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()


def _jwk(algorithm: Any, key: Any, kid: str, **more: str) -> dict[str, Any]:
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **more}


RSA_JWK, EC_JWK, ED_JWK = _jwk(RSAAlgorithm, RSA, "r1"), _jwk(ECAlgorithm, EC, "e1"), _jwk(OKPAlgorithm, ED, "d1")


class Issuer:
    """What the issuer publishes now, and how often it has been asked."""

    def __init__(self) -> None:
        self.document: Any = {"keys": [RSA_JWK, EC_JWK, ED_JWK]}
        self.asked = 0
        self.answer: Callable[[], Response] = lambda: JSONResponse(self.document)

    async def publish(self, _: Request) -> Response:
        self.asked += 1
        return self.answer()


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Tokens are believed or not whatever the database; tests/social_graph has the users, on both."""
    return sqlite_url


class HeldSeconds:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def seconds() -> HeldSeconds:
    return HeldSeconds()


@pytest.fixture
async def trusting(stack: Stack, issuer: Issuer, seconds: HeldSeconds) -> AsyncIterator[Stack]:
    """The API, trusting the issuer."""
    app = Starlette(routes=[Route("/jwks", issuer.publish), Route("/elsewhere", Issuer().publish)])
    async with serve(app, "127.0.0.1", 0) as url:
        settings = ExternalIssuerSettings(ISSUER, AUDIENCE, f"{url}/jwks")
        async with open_outside_issuer(settings, seconds) as outside:
            stack.use(replace(stack.services, outside_issuer=outside))
            yield stack


def _token(
    key: Any = RSA, algorithm: str = "RS256", kid: str | None = "r1", without: str = "", typ: str = "JWT", **claims: Any
) -> str:
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "subject-1", "iat": NOW_S, "exp": NOW_S + 60, "name": "Ann O."}
    said = {name: value for name, value in {**good, **claims}.items() if name != without}
    headers = {"typ": typ} if kid is None else {"typ": typ, "kid": kid}
    return jwt.encode(said, key, algorithm, headers=headers)


def _by_hand(header: str, claims: str) -> str:
    """A token signed with RSA that says what no library would write."""
    content = f"{_b64(header.encode())}.{_b64(claims.encode())}"
    return f"{content}.{_b64(RSAAlgorithm(RSAAlgorithm.SHA256).sign(content.encode(), RSA))}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


CLAIMS = json.dumps({"iss": ISSUER, "aud": AUDIENCE, "sub": "subject-1", "iat": NOW_S, "exp": NOW_S + 60})


async def _exchange(stack: Stack, token: str) -> httpx.Response:
    return await stack.public.post("/v1/tokens/exchange", json={"token": token})


async def _whoami(stack: Stack, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    found: dict[str, Any] = (await stack.public.get("/v1/me", headers=headers)).json()
    return found


async def test_a_subject_is_a_user_from_the_first_time_on(trusting: Stack) -> None:
    first = await _exchange(trusting, _token())
    assert first.headers["cache-control"] == "no-store"
    me = await _whoami(trusting, first)
    assert me["display_name"] == "Ann O."
    assert await _whoami(trusting, await _exchange(trusting, _token(name="Other"))) == me
    other = await _whoami(trusting, await _exchange(trusting, _token(sub="subject-2")))
    assert other["user_id"] != me["user_id"]
    refreshed = await trusting.public.post("/v1/tokens/refresh", json={"refresh_token": first.json()["refresh_token"]})
    assert await _whoami(trusting, refreshed) == me


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "r1"), (EC, "ES256", "e1"), (ED, "EdDSA", "d1")])
async def test_each_of_the_three_algorithms_is_taken(trusting: Stack, key: Any, algorithm: str, kid: str) -> None:
    assert (await _exchange(trusting, _token(key, algorithm, kid))).status_code == 200


async def test_such_a_user_has_no_password(trusting: Stack) -> None:
    me = await _whoami(trusting, await _exchange(trusting, _token()))
    body = {"handle": me["handle"], "password": "-"}
    assert_problem(await trusting.public.post("/v1/tokens", json=body), 401, "invalid_credentials")


BAD_TOKENS: dict[str, str] = {
    "empty": "",
    "words": "not a token",
    "alg none": _b64(b'{"alg":"none","kid":"r1"}') + f".{_b64(CLAIMS.encode())}.",
    "a public key as a shared secret": _by_hand(json.dumps({"alg": "HS256", "kid": "r1"}), CLAIMS),
    "another algorithm of the same key": _token(algorithm="RS512"),
    "PSS in place of PKCS 1": _token(algorithm="PS256"),
    "the algorithm of another key": _token(EC, "ES256", "r1"),
    "another key": _token(OTHER_RSA),
    "unknown kid": _token(OTHER_RSA, kid="r2"),
    "no kid": _token(kid=None),
    "an ID token of another typ": _token(typ="logout+jwt"),
    "typ as a list": _by_hand('{"alg":"RS256","kid":"r1","typ":[]}', CLAIMS),
    "key in the header": jwt.encode(
        json.loads(CLAIMS), OTHER_RSA, "RS256", headers={"kid": "x", "jwk": _jwk(RSAAlgorithm, OTHER_RSA, "x")}
    ),
    "critical extension": jwt.encode(json.loads(CLAIMS), RSA, "RS256", headers={"kid": "r1", "crit": ["x"], "x": 1}),
    "another issuer": _token(iss="https://issuer.example.evil"),
    "no issuer": _token(without="iss"),
    "another audience": _token(aud="another-app"),
    "no audience": _token(without="aud"),
    "expired": _token(exp=NOW_S),
    "no expiry": _token(without="exp"),
    "expiry as text": _token(exp=str(NOW_S + 60)),
    "infinite expiry": _by_hand('{"alg":"RS256","kid":"r1"}', CLAIMS.replace(str(NOW_S + 60), "Infinity")),
    "not yet valid": _token(nbf=NOW_S + 61),
    "issued in the future": _token(iat=NOW_S + 61),
    "no issue time": _token(without="iat"),
    "no subject": _token(without="sub"),
    "empty subject": _token(sub=""),
    "subject with a zero byte": _token(sub="a\x00b"),
    "subject without end": _token(sub="x" * 256),
    "duplicate claim": _by_hand('{"alg":"RS256","kid":"r1"}', CLAIMS[:-1] + ', "sub": "subject-2"}'),
    "duplicate header": _by_hand('{"alg":"RS256","kid":"r1","kid":"r1"}', CLAIMS),
    "tampered": _token()[:-8] + "AAAAAAAA",
    "one of ours": "(see below)",
}


def test_the_forger_can_make_a_good_token() -> None:
    assert (
        jwt.decode(
            _by_hand('{"alg":"RS256","kid":"r1"}', CLAIMS),
            RSA.public_key(),
            ["RS256"],
            options={"verify_signature": True, "verify_aud": False, "verify_exp": False, "verify_iat": False},
        )["sub"]
        == "subject-1"
    )


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_a_bad_token_is_refused(trusting: Stack, name: str) -> None:
    token = trusting.services.token_keys.issue((await trusting.user("ann")).user_id, NOW_MS, 60)
    answer = await _exchange(trusting, token if name == "one of ours" else BAD_TOKENS[name])
    assert_problem(answer, 401, "invalid_outside_token")


async def test_a_token_of_the_issuer_is_good_for_nothing_but_the_exchange(trusting: Stack) -> None:
    someone = User((await trusting.user("ann")).user_id, "ann", _token())
    assert_problem(await trusting.get("/v1/me", someone), 401, "not_authenticated")


async def test_a_token_from_before_a_log_out_everywhere_is_refused(trusting: Stack) -> None:
    answer = await _exchange(trusting, _token())
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    trusting.clock.advance(2)
    assert (await trusting.public.delete("/v1/tokens", headers=headers)).status_code == 204
    assert_problem(await _exchange(trusting, _token()), 401, "invalid_outside_token")
    trusting.clock.advance(2)
    assert (await _exchange(trusting, _token(iat=NOW_S + 4))).status_code == 200


async def test_a_new_key_is_found_and_a_withdrawn_one_ends(
    trusting: Stack, issuer: Issuer, seconds: HeldSeconds
) -> None:
    assert (await _exchange(trusting, _token())).status_code == 200
    issuer.document = {"keys": [_jwk(RSAAlgorithm, OTHER_RSA, "r2")]}
    seconds.now_s += jwks.LEAST_BETWEEN_S
    assert (await _exchange(trusting, _token(OTHER_RSA, kid="r2"))).status_code == 200
    seconds.now_s += jwks.MAX_AGE_S + 1
    assert_problem(await _exchange(trusting, _token()), 401, "invalid_outside_token")


async def test_unknown_keys_do_not_make_us_flood_the_issuer(
    trusting: Stack, issuer: Issuer, seconds: HeldSeconds
) -> None:
    for number in range(5):
        await _exchange(trusting, _token(OTHER_RSA, kid=f"made-up-{number}"))
    assert issuer.asked == 1
    seconds.now_s += jwks.LEAST_BETWEEN_S
    for number in range(5):
        await _exchange(trusting, _token(OTHER_RSA, kid=f"made-up-{number}"))
    assert issuer.asked == 2


@pytest.mark.parametrize(
    "answer",
    [
        lambda: Response(status_code=500),
        lambda: Response(b"no JSON"),
        lambda: JSONResponse([1]),
        lambda: Response(b'{"keys": [' + b" " * jwks.MAX_BYTES + b"]}"),
        lambda: RedirectResponse("/elsewhere"),
    ],
    ids=["error", "no JSON", "no set", "huge", "redirect"],
)
async def test_an_issuer_that_answers_nonsense_is_503_at_first_and_its_old_keys_serve_later(
    trusting: Stack, issuer: Issuer, seconds: HeldSeconds, answer: Callable[[], Response]
) -> None:
    good, issuer.answer = issuer.answer, answer
    refused = await _exchange(trusting, _token())
    assert_problem(refused, 503, "unavailable")
    assert int(refused.headers["retry-after"]) > 0
    issuer.answer = good
    seconds.now_s += jwks.LEAST_BETWEEN_S
    assert (await _exchange(trusting, _token())).status_code == 200
    issuer.answer = answer
    seconds.now_s += jwks.MAX_AGE_S + 1
    assert (await _exchange(trusting, _token())).status_code == 200
    seconds.now_s += jwks.MAX_STALE_S
    assert_problem(await _exchange(trusting, _token()), 503, "unavailable")


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")
async def test_keys_that_are_weak_or_for_something_else_are_not_used(trusting: Stack, issuer: Issuer) -> None:
    issuer.document = {
        "keys": [
            _jwk(RSAAlgorithm, SHORT_RSA, "short"),
            _jwk(RSAAlgorithm, RSA, "enc", use="enc"),
            _jwk(RSAAlgorithm, RSA, "pss", alg="PS256"),
            {"kty": "oct", "k": _b64(b"1" * 32), "kid": "secret"},
            {"kty": "RSA", "kid": "broken"},
            "nonsense",
        ]
    }
    for key, algorithm, kid in (
        (SHORT_RSA, "RS256", "short"),
        (RSA, "RS256", "enc"),
        (RSA, "PS256", "pss"),
        (b"1" * 32, "HS256", "secret"),
        (RSA, "RS256", "broken"),
    ):
        assert_problem(await _exchange(trusting, _token(key, algorithm, kid)), 401, "invalid_outside_token")


async def test_without_an_outside_issuer_there_is_nothing_to_exchange(stack: Stack) -> None:
    assert_problem(await _exchange(stack, _token()), 404, "no_outside_issuer")
