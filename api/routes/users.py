"""``/v1/users``: signing up, and finding somebody by handle."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import Caller
from api.problems import documented
from api.schemas import PersonBody, SignUp
from api.services import ServicesDep

router = APIRouter(prefix="/v1/users", tags=["users"])


@router.post("", status_code=201, responses=documented(409))
async def sign_up(services: ServicesDep, body: SignUp) -> PersonBody:
    """Sign up. 409 ``handle_taken``."""
    password = body.password.get_secret_value()
    return PersonBody.of(await services.graph.credentials.sign_up(body.handle, password, body.display_name))


@router.get("", responses=documented(401, 404))
async def find_user(services: ServicesDep, caller: Caller, handle: Annotated[str, Query(max_length=30)]) -> PersonBody:
    """Find a user by their exact handle. 404 ``user_not_found``."""
    return PersonBody.of(await services.graph.users.by_handle(handle, caller.user_id))
