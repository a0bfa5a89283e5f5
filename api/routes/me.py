"""``/v1/me``: oneself."""

from __future__ import annotations

from fastapi import APIRouter

from api.auth import Caller
from api.eraser import INLINE_S
from api.etags import IfMatch, only_if
from api.problems import documented
from api.rates import limit_log_ins
from api.schemas import AccountDeletion, ErasureBody, MeChange, PersonBody
from api.services import ServicesDep

router = APIRouter(prefix="/v1/me", tags=["me"])


@router.get("", responses=documented(401))
async def me(services: ServicesDep, caller: Caller) -> PersonBody:
    """Return who I am."""
    return PersonBody.of(await services.graph.users.get(caller.user_id))


@router.patch("", status_code=204, responses=documented(401, 412))
async def change_me(services: ServicesDep, caller: Caller, body: MeChange, if_match: IfMatch = None) -> None:
    """Change the display name, the password or both. A new password logs out everywhere, here too.

    ``If-Match`` is that of ``GET /v1/me``, and guards the display name.
    """
    if body.display_name is not None:
        check = only_if(if_match, PersonBody.of)
        await services.graph.users.rename(caller.user_id, body.display_name, check)
    if body.password is not None:
        password = body.password.get_secret_value()
        changes = await services.graph.credentials.change_password(caller.user_id, password, caller.issued_at_ms)
        await services.announcer.announce(changes)


@router.delete("", status_code=202, responses=documented(401, 403))
async def delete_me(services: ServicesDep, caller: Caller, body: AccountDeletion | None = None) -> ErasureBody:
    """Delete my account and everything about me. At once I am nobody's friend and cannot log in any more.

    The rest of it is deleted in the background, however long a store is away. 403 ``wrong_password``, if one is given.
    """
    password = None if body is None or body.password is None else body.password.get_secret_value()
    if password is not None:
        handle = (await services.graph.users.get(caller.user_id)).handle
        await limit_log_ins(services.rates, services.limiter, handle)
    erasure, changes = await services.graph.erasures.delete_account(caller.user_id, password)
    await services.announcer.announce(changes)
    await services.eraser.attempt(erasure, INLINE_S)
    return ErasureBody(erasure_id=erasure.erasure_id)
