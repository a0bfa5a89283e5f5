"""``/v1/blocks``: with whom there shall be nothing."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from api.auth import Caller
from api.cursors import PAGE_COUNT, Cursor, IdPosition, Limit, decode_cursor, encode_cursor
from api.invite_schemas import BlockBody, BlockPageBody
from api.problems import documented
from api.schemas import user_id_of
from api.services import ServicesDep
from nearby.model import UserId

router = APIRouter(prefix="/v1/blocks", tags=["blocks"])


@router.get("", responses=documented(401))
async def list_blocks(
    services: ServicesDep,
    caller: Caller,
    limit: Limit = PAGE_COUNT,
    cursor: Cursor = None,
) -> BlockPageBody:
    """List whom I block, ordered by user id."""
    after = None if cursor is None else UserId(decode_cursor(cursor, IdPosition))
    page = await services.graph.blocks.page(caller.user_id, limit, after)
    return BlockPageBody(
        items=[BlockBody.of(block) for block in page.blocks],
        next_cursor=encode_cursor(page.next_after),
    )


@router.put("/{user_id}", status_code=204, responses=documented(401, 409))
async def block(services: ServicesDep, caller: Caller, user_id: UUID) -> None:
    """Block an id: friendship and requests between us end, and neither finds the other any more.

    The answer is the same whether somebody has the id or not. 409 ``block_self``, ``too_many_blocks``.
    """
    changes = await services.graph.blocks.block(caller.user_id, user_id_of(user_id))
    await services.announcer.announce(changes)


@router.delete("/{user_id}", status_code=204, responses=documented(401, 404))
async def unblock(services: ServicesDep, caller: Caller, user_id: UUID) -> None:
    """Take a block back; what it ended does not return. 404 ``block_not_found``."""
    await services.graph.blocks.unblock(caller.user_id, user_id_of(user_id))
