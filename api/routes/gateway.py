"""``GET /v1/gateway``: where to open the WebSocket."""

from __future__ import annotations

from fastapi import APIRouter

from api.auth import Caller
from api.problems import RETRY_AFTER_S, Problem, documented
from api.schemas import GatewayBody
from api.services import ServicesDep

router = APIRouter(prefix="/v1/gateway", tags=["gateway"])


@router.get("", responses=documented(401))
async def gateway(services: ServicesDep, _: Caller) -> GatewayBody:
    """Return the least loaded gateway that is not draining. 503 ``no_gateway``."""
    url = services.gateways.choose()
    if url is None:
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        raise Problem(503, "no_gateway", "no gateway is serving; try again", headers)
    return GatewayBody(url=url)
