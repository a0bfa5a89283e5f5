"""From what API and gateways know, the one sentence that answers the question. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Who(msgspec.Struct, frozen=True):
    """One of the two."""

    user_id: str
    handle: str


class InForce(msgspec.Struct, frozen=True):
    """How exactly the friend lets the viewer see them."""

    precision: str
    until_ms: int | None
    reason: str


class Cached(msgspec.Struct, frozen=True):
    """Somebody's last location, by its age and by how long the cache keeps it."""

    age_ms: int
    remaining_ms: int


class FromApi(msgspec.Struct, frozen=True):
    """What the API knows; see ``api/explain.py``."""

    viewer: Who
    friend: Who
    in_force: InForce | None
    viewer_location: Cached | None
    friend_location: Cached | None
    distance_m: int | None
    default_radius_m: float
    blocked: bool = False


class Watching(msgspec.Struct, frozen=True):
    """What a gateway knows of one connection of the viewer; see ``ws_gateway/explain.py``."""

    connection_id: str
    loaded: bool
    located: bool
    radius_m: float
    precision: str | None
    shares: bool | None
    shown: bool
    shard: str | None
    shard_answers: bool | None
    age_ms: int | None
    expires_in_ms: int | None
    distance_m: int | None


class Publishing(msgspec.Struct, frozen=True):
    """What a gateway knows of one connection of the friend."""

    connection_id: str
    exact: bool
    approximate: bool


class FromGateway(msgspec.Struct, frozen=True):
    """What one gateway knows."""

    gateway_id: str
    viewer: list[Watching]
    friend: list[Publishing]


def verdict(known: FromApi, gateways: Sequence[FromGateway]) -> str:
    """Say why the viewer does or does not see the friend."""
    viewer, friend = known.viewer.handle, known.friend.handle
    connections = [connection for gateway in gateways for connection in gateway.viewer]
    if any(connection.shown for connection in connections):
        return f"{viewer} sees {friend}"
    return f"{viewer} does not see {friend}: {_obstacle(known) or _on_gateways(connections, friend)}"


def _obstacle(known: FromApi) -> str | None:
    """Say what stands in the way whatever the gateways do."""
    viewer, friend = known.viewer.handle, known.friend.handle
    if known.viewer.user_id == known.friend.user_id:
        return "nobody is on their own map"
    if known.in_force is None:
        return "one of them blocks the other" if known.blocked else "they are no friends"
    if known.in_force.precision == "off":
        return f"{friend} does not let them ({known.in_force.reason})"
    if known.friend_location is None:
        return f"{friend} is inactive, the cache knows no location"
    return None if known.viewer_location is not None else f"{viewer} is inactive, the cache knows no location"


def _on_gateways(connections: Sequence[Watching], friend: str) -> str:
    if not connections:
        return "not connected to any gateway that answered"
    watching = connections[-1]
    if not watching.loaded:
        return "still connecting"
    if watching.precision is None:
        return "their gateway does not know of the friendship yet"
    if watching.precision == "off" or not watching.shares:
        return f"their gateway does not know yet that {friend} lets them"
    if watching.distance_m is None:
        return "their gateway knows no location of one of the two yet"
    if watching.distance_m > watching.radius_m:
        return f"{watching.distance_m} m is out of the radius of {watching.radius_m:.0f} m"
    return "entered the radius just now, or left it by less than a tenth"
