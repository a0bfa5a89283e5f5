"""Bodies of what concerns people's rights over their data: retention, exports, grants of the history."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from api.schemas import InstantMs, OptionalFloat, Request
from nearby.model import HistoryPoint
from social_graph.exports import Export
from social_graph.history_grants import Grant

Retention = Literal["live_only", "1_day", "30_days", "default"]

RETENTION_S: dict[Retention, int | None] = {"live_only": 0, "1_day": 86_400, "30_days": 2_592_000, "default": None}
"""Seconds; 0: nothing is kept, ``None``: as long as the store keeps by default."""


class HistorySettings(Request):
    """How long my points are kept, as asked and as answered."""

    retention: Retention


class HistoryGrant(Request):
    """Until when a friend may see where I am from now on; null: until I withdraw it."""

    until_ms: InstantMs | None = None


class HistoryGrantBody(BaseModel):
    """A friend may see what I recorded from ``from_ms`` on, until ``until_ms``; null: until I withdraw it."""

    from_ms: int
    until_ms: int | None

    @classmethod
    def of(cls, grant: Grant) -> HistoryGrantBody:
        """Return ``grant`` as a body."""
        return cls(from_ms=grant.from_ms, until_ms=grant.until_ms)


class FriendPointBody(BaseModel):
    """Where a friend was."""

    lat: float
    lon: float
    recorded_at_ms: int
    accuracy_m: OptionalFloat = None

    @classmethod
    def of(cls, point: HistoryPoint) -> FriendPointBody:
        """Return ``point`` as a friend may see it."""
        at = point.location
        return cls(lat=at.lat_deg, lon=at.lon_deg, recorded_at_ms=at.recorded_at_ms, accuracy_m=at.accuracy_m)


class FriendHistoryPageBody(BaseModel):
    """Where a friend was, newest first; ``next_cursor`` is null at the end."""

    items: list[FriendPointBody]
    next_cursor: str | None


class ExportBody(BaseModel):
    """An export: ``progress`` from 0 to 1; ready, it may be downloaded until ``expires_ms``."""

    export_id: str
    state: Annotated[Literal["preparing", "ready"], Field(examples=["preparing"])]
    progress: float
    created_ms: int
    expires_ms: int
    size_bytes: Annotated[int | None, Field(exclude_if=lambda value: value is None)] = None

    @classmethod
    def of(cls, export: Export) -> ExportBody:
        """Return ``export`` as a body."""
        progress = export.done_count / export.total_count if export.total_count else 0.0
        return cls(
            export_id=export.export_id,
            state="ready" if export.ready else "preparing",
            progress=1.0 if export.ready else round(progress, 3),
            created_ms=export.created_ms,
            expires_ms=export.expires_ms,
            size_bytes=export.size_bytes if export.ready else None,
        )


class RejectedPointBody(BaseModel):
    """A point that was refused, by its place in ``points``."""

    index: int
    code: str


class AckBody(BaseModel):
    """What became of a report: of one location when it was and whether it is live, of points how many are stored."""

    recorded_at_ms: int | None = None
    live: bool | None = None
    stored: int | None = None
    rejected: list[RejectedPointBody] | None = None
