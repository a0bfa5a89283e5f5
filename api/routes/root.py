"""``GET /``: the way for somebody who has just arrived."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from nearby import __version__

router = APIRouter(tags=["root"])


class RootBody(BaseModel):
    """What this is, and where to go from here."""

    name: str = "nearby"
    version: str = __version__
    links: dict[str, str] = {
        "openapi": "/openapi.json",
        "sign_up": "/v1/users",
        "log_in": "/v1/tokens",
        "gateway": "/v1/gateway",
    }


@router.get("/")
async def root() -> RootBody:
    """Return links."""
    return RootBody()
