"""``/v1/me/history``: one's own past, to read, take away and delete. There is no way to ask for anybody else's here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.auth import Caller
from api.cursors import Cursor, Instant, decode_cursor, encode_cursor
from api.eraser import INLINE_S
from api.history_formats import FORMATS, FileFormat
from api.history_ranges import Range, measure, oldest_first
from api.problems import documented
from api.retention import kept_from_ms
from api.schemas import HistoryPageBody, HistoryPointBody, InstantMs
from api.services import Services, ServicesDep
from api.thinning import thin
from nearby.model import MAX_SEQ, HistoryPoint, UserId

router = APIRouter(prefix="/v1/me/history", tags=["history"])

FormatName = Literal["json", "gpx", "geojson", "csv"]
ToleranceM = Annotated[float, Query(ge=0, le=100_000)]

_FILES: dict[int | str, dict[str, object]] = {
    200: {"content": {each.media_type.split(";")[0]: {"schema": {"type": "string"}} for each in FORMATS.values()}}
}


@router.get("", response_model=HistoryPageBody, responses={**_FILES, **documented(401)})
async def history(
    services: ServicesDep,
    caller: Caller,
    request: Request,
    from_ms: InstantMs = 0,
    to_ms: InstantMs | None = None,
    limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
    cursor: Cursor = None,
    format: FormatName | None = None,  # noqa: A002 - the parameter's name is the contract's
    simplify_m: ToleranceM = 0,
) -> HistoryPageBody | Response:
    """Return my points with ``from_ms`` <= recorded < ``to_ms`` (default: now).

    As JSON a page of ``limit`` (default 100), newest first. As ``gpx``, ``geojson`` or ``csv``, asked for by ``format``
    or the Accept header, a file of the whole interval or of its newest ``limit`` points, oldest first.
    ``simplify_m`` leaves out points without which the line between the others is at most that many metres off; a page
    then has fewer.
    """
    end_ms = services.clock() + 1 if to_ms is None else to_ms
    if cursor is not None:
        end_ms = min(end_ms, decode_cursor(cursor, Instant))
    retention_s = await services.graph.erasures.retention_s(caller.user_id)
    begin_ms = max(from_ms, kept_from_ms(retention_s, services.clock()))
    file_format = FORMATS.get(format) if format else _accepted(request)
    if file_format is None:
        return await _page(services, caller.user_id, (begin_ms, end_ms), limit or 100, simplify_m)
    if limit is None:
        wanted = await measure(services.history, caller.user_id, begin_ms, end_ms)
    else:
        page = await services.history.read(caller.user_id, begin_ms, end_ms, limit)
        oldest_ms = page.points[-1].location.recorded_at_ms if page.points else end_ms
        wanted = Range(caller.user_id, oldest_ms, end_ms, (), len(page.points))
    headers = {
        "Content-Disposition": f'attachment; filename="nearby-history.{file_format.suffix}"',
        "Cache-Control": "no-store",
    }
    stream = _file(services, file_format, wanted, simplify_m)
    return StreamingResponse(stream, media_type=file_format.media_type, headers=headers)


def _accepted(request: Request) -> FileFormat | None:
    """Return the first format that the Accept header names; ``None``: none, or JSON before it."""
    for part in request.headers.get("accept", "").split(","):
        media_type = part.split(";")[0].strip().lower()
        if media_type == "application/json":
            return None
        for file_format in FORMATS.values():
            if media_type == file_format.media_type.split(";")[0]:
                return file_format
    return None


async def _page(
    services: Services, user_id: UserId, interval_ms: tuple[int, int], limit: int, simplify_m: float
) -> HistoryPageBody:
    page = await services.history.read(user_id, *interval_ms, limit)
    return HistoryPageBody(
        items=[_body(point) for point in thin(page.points, simplify_m)],
        next_cursor=encode_cursor(page.next_before_ms),
    )


async def _file(services: Services, file_format: FileFormat, wanted: Range, simplify_m: float) -> AsyncIterator[bytes]:
    yield file_format.head
    first = True
    async for points in oldest_first(services.history, wanted):
        yield file_format.piece(thin(points, simplify_m), first=first)
        first = first and not points
    yield file_format.tail


@router.delete("", status_code=204, responses={202: {"description": "Accepted"}, **documented(401, 409)})
async def delete_history(
    services: ServicesDep, caller: Caller, from_ms: InstantMs = 0, to_ms: InstantMs = MAX_SEQ
) -> Response:
    """Delete my points with ``from_ms`` <= recorded < ``to_ms``, by default all of them, also what is on its way there.

    204: they are gone for good. 202: that goes on in the background, however long a store is away. 409
    ``too_many_deletions``.
    """
    erasure = await services.graph.erasures.delete_range(caller.user_id, from_ms, to_ms)
    return Response(status_code=204 if await services.eraser.attempt(erasure, INLINE_S) else 202)


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
