"""``/v1/me/exports``: everything that is held on me, as an archive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api.auth import Caller
from api.problems import Problem, documented
from api.rights_schemas import ExportBody
from api.services import Services, ServicesDep
from social_graph.exports import Export

router = APIRouter(prefix="/v1/me/exports", tags=["rights"])


@router.post("", status_code=202, responses=documented(401))
async def request_export(services: ServicesDep, caller: Caller) -> ExportBody:
    """Ask for an archive of everything that is held on me. One is prepared at a time, and replaces the one before."""
    return ExportBody.of(await services.graph.exports.request(caller.user_id))


@router.get("/{export_id}", responses=documented(401, 404))
async def export_progress(services: ServicesDep, caller: Caller, export_id: UUID) -> ExportBody:
    """Return how far it is. 404 ``export_not_found``."""
    return ExportBody.of(await services.graph.exports.get(caller.user_id, str(export_id)))


@router.get("/{export_id}/download", response_class=StreamingResponse, responses=documented(401, 404, 409))
async def download_export(services: ServicesDep, caller: Caller, export_id: UUID) -> StreamingResponse:
    """Return the archive, a zip. 404 ``export_not_found``, 409 ``export_not_ready``."""
    export = await services.graph.exports.get(caller.user_id, str(export_id))
    if not export.ready:
        raise Problem(409, "export_not_ready", "the export is still being prepared")
    headers = {
        "Content-Disposition": 'attachment; filename="nearby-export.zip"',
        "Content-Length": str(export.size_bytes),
        "Cache-Control": "no-store",
    }
    return StreamingResponse(_parts(services, export), media_type="application/zip", headers=headers)


async def _parts(services: Services, export: Export) -> AsyncIterator[bytes]:
    part = 0
    while (data := await services.graph.exports.part(export, part)) is not None:
        yield data
        part += 1
