"""``GET /v1/nearby``: the map of a moment, for clients without a socket."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import Caller
from api.problems import Problem, documented
from api.schemas import FriendEntryBody, NearbyBody
from api.services import Services, ServicesDep
from nearby.geo import metres_of, squared_chord, squared_chord_of, unit_vector
from nearby.model import UserId
from nearby.record import LocationRecord

router = APIRouter(prefix="/v1/nearby", tags=["nearby"])


@router.get("", responses=documented(401, 409))
async def nearby(
    services: ServicesDep,
    caller: Caller,
    radius_m: Annotated[float | None, Query(ge=50, le=50_000)] = None,
) -> NearbyBody:
    """Return the friends who share and are at most ``radius_m`` metres away, nearest first.

    409 ``location_unknown`` before my first report, or after I was silent for too long.
    """
    friend_ids = await _sharing_friends(services, caller.user_id)
    mine, *theirs = await services.cache.read_many([caller.user_id, *friend_ids])
    if mine is None:
        raise Problem(409, "location_unknown", "report where you are first")
    radius = services.default_radius_m if radius_m is None else radius_m
    entries = [
        entry
        for friend_id, cached in zip(friend_ids, theirs, strict=True)
        if cached is not None and (entry := entry_within(radius, mine.record, friend_id, cached.record)) is not None
    ]
    return NearbyBody(friends=sorted(entries, key=lambda entry: (entry.distance_m, entry.user_id)))


async def _sharing_friends(services: Services, user_id: UserId) -> list[UserId]:
    (friend_list,) = await services.graph.friend_lists.read([user_id])
    return [] if friend_list is None else [edge.user_id for edge in friend_list.friends if edge.sharing]


def entry_within(
    radius_m: float, mine: LocationRecord, friend_id: UserId, record: LocationRecord
) -> FriendEntryBody | None:
    """Return the entry of a friend who is at ``record``, or ``None`` if that is more than ``radius_m`` from me."""
    squared = squared_chord(unit_vector(mine.lat_deg, mine.lon_deg), unit_vector(record.lat_deg, record.lon_deg))
    if squared > squared_chord_of(radius_m):
        return None
    return FriendEntryBody(
        user_id=friend_id,
        lat=record.lat_deg,
        lon=record.lon_deg,
        distance_m=round(metres_of(squared)),
        updated_at_ms=record.recorded_at_ms,
        precision="exact",
        accuracy_m=record.accuracy_m,
        speed_mps=record.speed_mps,
        heading_deg=record.heading_deg,
    )
