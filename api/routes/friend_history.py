"""``/v1/friends/{id}/history``: where a friend was, for whom they let see that; and letting a friend see mine."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from api.auth import Caller
from api.cursors import Cursor, Instant, decode_cursor, encode_cursor
from api.etags import IfMatch, only_if
from api.problems import Problem, documented, invalid_request
from api.retention import kept_from_ms
from api.rights_schemas import FriendHistoryPageBody, FriendPointBody, HistoryGrant, HistoryGrantBody
from api.schemas import InstantMs, user_id_of
from api.services import ServicesDep
from social_graph.history_grants import Grant

router = APIRouter(prefix="/v1/friends/{user_id}", tags=["rights"])


@router.get("/history", responses=documented(401, 404))
async def friend_history(
    services: ServicesDep,
    caller: Caller,
    user_id: UUID,
    from_ms: InstantMs = 0,
    to_ms: InstantMs | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> FriendHistoryPageBody:
    """Return where a friend was since they let me see it, newest first.

    404 ``friend_not_found`` for everybody who does not let me, whether they exist or not.
    """
    owner_id = user_id_of(user_id)
    now_ms = services.clock()
    grant = await services.graph.history_grants.use(caller.user_id, owner_id)
    ends_ms = [now_ms + 1 if to_ms is None else to_ms, now_ms + 1 if grant.until_ms is None else grant.until_ms]
    if cursor is not None:
        ends_ms.append(decode_cursor(cursor, Instant))
    begin_ms = max(from_ms, grant.from_ms, kept_from_ms(grant.retention_s, now_ms))
    page = await services.history.read(owner_id, begin_ms, min(ends_ms), limit)
    return FriendHistoryPageBody(
        items=[FriendPointBody.of(point) for point in page.points if not point.flagged],
        next_cursor=encode_cursor(page.next_before_ms),
    )


@router.get("/history-grant", responses=documented(401, 404))
async def history_grant(services: ServicesDep, caller: Caller, user_id: UUID) -> HistoryGrantBody:
    """Return until when this friend may see where I am. 404 ``grant_not_found`` if they may not."""
    return HistoryGrantBody.of(await services.graph.history_grants.get(caller.user_id, user_id_of(user_id)))


@router.put("/history-grant", responses=documented(401, 404, 412))
async def give_history_grant(
    services: ServicesDep, caller: Caller, user_id: UUID, body: HistoryGrant, if_match: IfMatch = None
) -> HistoryGrantBody:
    """Let this friend see where I am from now on. It ends at ``until_ms``, and with the friendship.

    404 ``friend_not_found``.
    """
    if body.until_ms is not None and body.until_ms <= services.clock():
        raise invalid_request("body.until_ms: in the past")
    grants = services.graph.history_grants
    check = only_if(if_match, _present)
    return HistoryGrantBody.of(await grants.give(caller.user_id, user_id_of(user_id), body.until_ms, check))


@router.delete("/history-grant", status_code=204, responses=documented(401))
async def withdraw_history_grant(services: ServicesDep, caller: Caller, user_id: UUID) -> None:
    """Let this friend see nothing of where I was any more."""
    await services.graph.history_grants.withdraw(caller.user_id, user_id_of(user_id))


def _present(grant: Grant | None) -> HistoryGrantBody:
    if grant is None:
        raise Problem(412, "precondition_failed", "there is no grant yet")
    return HistoryGrantBody.of(grant)
