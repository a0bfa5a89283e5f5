"""Who is asking: the bearer access token of each request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.identity import Identity, identity_of
from api.problems import not_authenticated
from api.services import Services, ServicesDep
from nearby.tokens import AccessToken

_bearer = HTTPBearer(bearerFormat="JWT", auto_error=False, description="an access token from `POST /v1/tokens`")


async def believe(services: Services, identity: Identity) -> AccessToken:
    """Return the access token of ``identity``, if it is good and has not been revoked.

    Raises:
        Problem: 401.
        StoreUnavailable: the user database did not answer.
    """
    token = identity.token
    if token is None:
        raise not_authenticated("the access token is not good (any more)")
    if not identity.checked:
        # Logging out ends tokens that are good by themselves.
        valid_from_ms = await services.graph.credentials.valid_from_ms(token.user_id)
        if valid_from_ms is None or token.issued_at_ms < valid_from_ms:
            raise not_authenticated("the access token is not good (any more)")
        identity.checked = True
    return token


async def _caller(
    request: Request,
    services: ServicesDep,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> AccessToken:
    if bearer is None:
        raise not_authenticated("this needs an Authorization header with a bearer access token")
    return await believe(services, identity_of(request.scope))


Caller = Annotated[AccessToken, Depends(_caller)]
"""The believed access token of the caller."""
