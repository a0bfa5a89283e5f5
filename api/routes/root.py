"""``GET /``: the way for somebody who has just arrived; and the description of the socket."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from nearby import __version__
from nearby.asyncapi import asyncapi_document

router = APIRouter(tags=["root"])


class RootBody(BaseModel):
    """What this is, and where to go from here."""

    name: str = "nearby"
    version: str = __version__
    links: dict[str, str] = {
        "openapi": "/openapi.json",
        "asyncapi": "/asyncapi.json",
        "sign_up": "/v1/users",
        "log_in": "/v1/tokens",
        "gateway": "/v1/gateway",
    }


@router.get("/")
async def root() -> RootBody:
    """Return links."""
    return RootBody()


@router.get("/asyncapi.json", include_in_schema=False)
async def asyncapi() -> JSONResponse:
    """Return the AsyncAPI document of the socket."""
    return JSONResponse(asyncapi_document(__version__))
