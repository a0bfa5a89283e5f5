"""``/v1/tokens``: logging in, staying so, and logging out everywhere."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.auth import Caller
from api.problems import Problem, documented
from api.rates import limit_log_ins
from api.schemas import LogIn, OutsideToken, Refresh, TokensBody
from api.services import Services, ServicesDep
from nearby.errors import TokenError
from social_graph.refresh_tokens import Grant

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])

# RFC 6749 §5.1
_NO_STORE = {"Cache-Control": "no-store"}


@router.post("", responses=documented(401, 403))
async def log_in(services: ServicesDep, body: LogIn, response: Response) -> TokensBody:
    """Log in. 401 ``invalid_credentials``, whichever of the two is wrong; 403 ``banned``."""
    await limit_log_ins(services.rates, services.limiter, body.handle)
    grant = await services.graph.credentials.log_in(body.handle, body.password.get_secret_value())
    if grant is None:
        raise Problem(401, "invalid_credentials", "the handle or the password is wrong")
    return _tokens(services, grant, response)


@router.post("/refresh", responses=documented(401))
async def refresh(services: ServicesDep, body: Refresh, response: Response) -> TokensBody:
    """Trade a refresh token for new tokens. 401 ``invalid_refresh_token``; using one twice ends its successors too."""
    grant = await services.graph.refresh_tokens.rotate(body.refresh_token.get_secret_value())
    if grant is None:
        raise Problem(401, "invalid_refresh_token", "the refresh token is not good (any more); log in")
    return _tokens(services, grant, response)


@router.post("/exchange", responses=documented(401, 404))
async def exchange(services: ServicesDep, body: OutsideToken, response: Response) -> TokensBody:
    """Trade a token of the outside issuer for tokens of ours; its subject is a user from the first time on.

    401 ``invalid_outside_token``, also for one issued before its user logged out everywhere; 404 ``no_outside_issuer``
    where none is trusted.
    """
    issuer = services.outside_issuer
    if issuer is None:
        raise Problem(404, "no_outside_issuer", "no outside issuer is trusted here")
    try:
        identity = await issuer.believe(body.token.get_secret_value(), services.clock())
    except TokenError as error:
        raise _invalid_outside_token() from error
    grant = await services.graph.external_identities.log_in(
        issuer.issuer, identity.subject, identity.display_name, identity.issued_at_ms
    )
    if grant is None:
        raise _invalid_outside_token()
    return _tokens(services, grant, response)


def _invalid_outside_token() -> Problem:
    return Problem(401, "invalid_outside_token", "the token is not one of the outside issuer, or not good (any more)")


@router.delete("", status_code=204, responses=documented(401))
async def log_out(services: ServicesDep, caller: Caller) -> None:
    """Log out everywhere: all tokens end, and sockets are closed with 4403."""
    changes = await services.graph.credentials.revoke_tokens(caller.user_id, caller.issued_at_ms)
    await services.announcer.announce(changes)


def _tokens(services: Services, grant: Grant, response: Response) -> TokensBody:
    response.headers.update(_NO_STORE)
    lifetime_s = services.access_token_lifetime_s
    return TokensBody(
        access_token=services.token_keys.issue(grant.user_id, grant.issued_at_ms, lifetime_s),
        refresh_token=grant.refresh_token,
        expires_in_s=lifetime_s,
    )
