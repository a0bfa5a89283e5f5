"""Who is asking: the bearer access token of each request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.problems import not_authenticated
from api.services import ServicesDep
from nearby.errors import TokenError
from nearby.tokens import AccessToken

_bearer = HTTPBearer(bearerFormat="JWT", auto_error=False, description="an access token from `POST /v1/tokens`")


async def _caller(
    services: ServicesDep, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> AccessToken:
    if bearer is None:
        raise not_authenticated("this needs an Authorization header with a bearer access token")
    try:
        token = services.token_keys.verify(bearer.credentials, services.clock())
    except TokenError as error:
        raise not_authenticated("the access token is not good (any more)") from error
    # Logging out ends tokens that are good by themselves.
    valid_from_ms = await services.graph.credentials.valid_from_ms(token.user_id)
    if valid_from_ms is None or token.issued_at_ms < valid_from_ms:
        raise not_authenticated("the access token is not good (any more)")
    return token


Caller = Annotated[AccessToken, Depends(_caller)]
"""The believed access token of the caller."""
