"""``GET /v1/nearby``: the map of a moment, for clients without a socket."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import Caller
from api.problems import Problem, documented
from api.schemas import FriendEntryBody, NearbyBody
from api.services import Services, ServicesDep
from nearby.geo import metres_of, shown_distance_m, squared_chord, squared_chord_of, unit_vector
from nearby.model import UserId
from nearby.record import LocationRecord, approximate
from nearby.sharing import Tier, ceiling

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
    tiers = await _tiers(services, caller.user_id)
    mine, *theirs = await services.cache.read_many([caller.user_id, *tiers])
    if mine is None:
        raise Problem(409, "location_unknown", "report where you are first")
    radius = services.default_radius_m if radius_m is None else radius_m
    entries = [
        entry
        for (friend_id, tier), cached in zip(tiers.items(), theirs, strict=True)
        if cached is not None
        and (entry := entry_within(radius, mine.record, friend_id, cached.record, tier)) is not None
    ]
    return NearbyBody(friends=sorted(entries, key=lambda entry: (entry.distance_m, entry.user_id)))


async def _tiers(services: Services, user_id: UserId) -> dict[UserId, Tier]:
    """Return how exactly ``user_id`` may see each friend now, those left out whom they may not."""
    (friend_list,) = await services.graph.friend_lists.read([user_id])
    now_ms = services.clock()
    edges = () if friend_list is None else friend_list.friends
    tiers = {
        edge.user_id: min(edge.shows.at(now_ms), ceiling(edge.sharing, edge.limits, now_ms).tier) for edge in edges
    }
    return {friend_id: tier for friend_id, tier in tiers.items() if tier is not Tier.OFF}


def entry_within(
    radius_m: float, mine: LocationRecord, friend_id: UserId, record: LocationRecord, tier: Tier = Tier.EXACT
) -> FriendEntryBody | None:
    """Return the entry of a friend who is at ``record``, or ``None`` if that is more than ``radius_m`` from me.

    All of it is about the centre of their cell where I see them approximately.
    """
    exact = tier is Tier.EXACT
    if not exact:
        record = approximate(record)
    squared = squared_chord(unit_vector(mine.lat_deg, mine.lon_deg), unit_vector(record.lat_deg, record.lon_deg))
    if squared > squared_chord_of(radius_m):
        return None
    return FriendEntryBody(
        user_id=friend_id,
        lat=record.lat_deg,
        lon=record.lon_deg,
        distance_m=shown_distance_m(metres_of(squared), exact=exact),
        updated_at_ms=record.recorded_at_ms,
        precision="exact" if exact else "approximate",
        accuracy_m=record.accuracy_m,
        speed_mps=record.speed_mps,
        heading_deg=record.heading_deg,
    )
