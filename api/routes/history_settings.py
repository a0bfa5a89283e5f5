"""``/v1/me/history-settings``: how long my points are kept."""

from __future__ import annotations

from fastapi import APIRouter

from api.auth import Caller
from api.etags import IfMatch, only_if
from api.problems import documented
from api.rights_schemas import RETENTION_S, HistorySettings, Retention
from api.services import ServicesDep

router = APIRouter(prefix="/v1/me/history-settings", tags=["rights"])


@router.get("", responses=documented(401))
async def history_settings(services: ServicesDep, caller: Caller) -> HistorySettings:
    """Return how long my points are kept."""
    return _body(await services.graph.erasures.retention_s(caller.user_id))


@router.put("", responses=documented(401, 412))
async def set_history_settings(
    services: ServicesDep, caller: Caller, body: HistorySettings, if_match: IfMatch = None
) -> HistorySettings:
    """Keep my points for that long. What is older cannot be read from now on, and is deleted in the background."""
    check = only_if(if_match, _body)
    changes = await services.graph.erasures.set_retention(caller.user_id, RETENTION_S[body.retention], check)
    await services.announcer.announce(changes)
    return body


def _body(retention_s: int | None) -> HistorySettings:
    return HistorySettings(retention=_named(retention_s))


def _named(retention_s: int | None) -> Retention:
    return next(name for name, seconds in RETENTION_S.items() if seconds == retention_s)
