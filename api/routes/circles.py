"""``/v1/circles``: named lists of friends with a rule of their own."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from api.auth import Caller
from api.cursors import PAGE_COUNT, Cursor, IdPosition, Limit, decode_cursor, encode_cursor
from api.problems import documented
from api.routes.sharing import refuse_past
from api.schemas import user_id_of
from api.services import ServicesDep
from api.sharing_schemas import CircleBody, CirclePageBody, CircleRequest
from nearby.sharing import CircleRule, Tier

router = APIRouter(prefix="/v1/circles", tags=["sharing"])


@router.get("", responses=documented(401))
async def list_circles(
    services: ServicesDep,
    caller: Caller,
    limit: Limit = PAGE_COUNT,
    cursor: Cursor = None,
) -> CirclePageBody:
    """List my circles, ordered by circle id."""
    after = None if cursor is None else decode_cursor(cursor, IdPosition)
    page = await services.graph.circles.page(caller.user_id, limit, after)
    return CirclePageBody(
        items=[CircleBody.of(circle) for circle in page.circles],
        next_cursor=encode_cursor(page.next_after),
    )


@router.post("", status_code=201, responses=documented(401, 409))
async def create_circle(services: ServicesDep, caller: Caller, body: CircleRequest) -> CircleBody:
    """Make an empty circle. 409 ``circle_exists``, ``too_many_circles``."""
    refuse_past(services, body.until_ms)
    return CircleBody.of(await services.graph.circles.create(caller.user_id, body.name, _rule(body)))


@router.get("/{circle_id}", responses=documented(401, 404))
async def read_circle(services: ServicesDep, caller: Caller, circle_id: UUID) -> CircleBody:
    """Return a circle of mine. 404 ``circle_not_found``."""
    return CircleBody.of(await services.graph.circles.get(caller.user_id, str(circle_id)))


@router.put("/{circle_id}", responses=documented(401, 404, 409))
async def change_circle(services: ServicesDep, caller: Caller, circle_id: UUID, body: CircleRequest) -> CircleBody:
    """Give a circle another name or rule. 404 ``circle_not_found``; 409 ``circle_exists``."""
    refuse_past(services, body.until_ms)
    circle, changes = await services.graph.circles.change(caller.user_id, str(circle_id), body.name, _rule(body))
    await services.announcer.announce(changes)
    return CircleBody.of(circle)


@router.delete("/{circle_id}", status_code=204, responses=documented(401, 404))
async def delete_circle(services: ServicesDep, caller: Caller, circle_id: UUID) -> None:
    """Delete a circle; its members stay my friends. 404 ``circle_not_found``."""
    await services.announcer.announce(await services.graph.circles.delete(caller.user_id, str(circle_id)))


@router.put("/{circle_id}/members/{user_id}", status_code=204, responses=documented(401, 404, 409))
async def add_member(services: ServicesDep, caller: Caller, circle_id: UUID, user_id: UUID) -> None:
    """Put a friend into a circle. 404 ``circle_not_found``, ``friend_not_found``; 409 ``circle_full``."""
    changes = await services.graph.circles.add(caller.user_id, str(circle_id), user_id_of(user_id))
    await services.announcer.announce(changes)


@router.delete("/{circle_id}/members/{user_id}", status_code=204, responses=documented(401, 404))
async def remove_member(services: ServicesDep, caller: Caller, circle_id: UUID, user_id: UUID) -> None:
    """Take a friend out of a circle. 404 ``circle_not_found``, ``friend_not_found``."""
    changes = await services.graph.circles.remove(caller.user_id, str(circle_id), user_id_of(user_id))
    await services.announcer.announce(changes)


def _rule(body: CircleRequest) -> CircleRule:
    return CircleRule(Tier.of(body.precision), body.until_ms)
