"""``GET /v1/me/history``: one's own past. There is no way to ask for anybody else's."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import Caller
from api.cursors import Instant, decode_cursor, encode_cursor
from api.problems import documented
from api.schemas import HistoryPageBody, HistoryPointBody, InstantMs
from api.services import ServicesDep
from nearby.model import HistoryPoint

router = APIRouter(prefix="/v1/me/history", tags=["history"])


@router.get("", responses=documented(401))
async def history(
    services: ServicesDep,
    caller: Caller,
    from_ms: InstantMs = 0,
    to_ms: InstantMs | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> HistoryPageBody:
    """Return my points with ``from_ms`` <= recorded < ``to_ms`` (default: now), newest first."""
    end_ms = services.clock() + 1 if to_ms is None else to_ms
    if cursor is not None:
        end_ms = min(end_ms, decode_cursor(cursor, Instant))
    page = await services.history.read(caller.user_id, from_ms, end_ms, limit)
    return HistoryPageBody(
        items=[_body(point) for point in page.points],
        next_cursor=None if page.next_before_ms is None else encode_cursor(page.next_before_ms),
    )


def _body(point: HistoryPoint) -> HistoryPointBody:
    location = point.location
    return HistoryPointBody(
        lat=location.lat_deg,
        lon=location.lon_deg,
        recorded_at_ms=location.recorded_at_ms,
        accuracy_m=location.accuracy_m,
        speed_mps=location.speed_mps,
        heading_deg=location.heading_deg,
        flagged=point.flagged,
    )
