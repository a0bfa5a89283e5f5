"""The bodies of sharing rules, circles and windows; see :mod:`api.schemas` for what holds for all bodies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

from api.schemas import DisplayName, InstantMs, PersonBody, Request
from nearby.sharing import Decision, Rule, Tier, Window, is_time_zone
from social_graph.circles import Circle
from social_graph.rules import Sharing
from social_graph.sharing import Settings, Switch
from social_graph.viewers import Viewer

Precision = Literal["exact", "approximate", "off"]
PRECISIONS: dict[Tier, Precision] = {Tier.EXACT: "exact", Tier.APPROXIMATE: "approximate", Tier.OFF: "off"}
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_WINDOWS = 50
WallClock = Annotated[str, StringConstraints(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]


class WindowBody(Request):
    """A time of the week during which I share at most ``precision``.

    From ``from``, inclusive, to ``to``, exclusive, by the wall clocks of my time zone, on each of ``days``; to that
    time of the next day where ``to`` is not later than ``from``.
    """

    model_config = Request.model_config | {"serialize_by_alias": True}

    days: Annotated[list[Day], Field(min_length=1, max_length=7)]
    start: Annotated[WallClock, Field(alias="from")]
    end: Annotated[WallClock, Field(alias="to")]
    precision: Literal["approximate", "off"]

    @model_validator(mode="after")
    def _begins_within_the_day(self) -> WindowBody:
        if self.start == "24:00":
            raise ValueError("from is before 24:00")
        return self

    @classmethod
    def of(cls, window: Window) -> WindowBody:
        """Return ``window`` as a body."""
        return cls.model_validate(
            {
                "days": [DAYS[day] for day in window.days],
                "from": f"{window.start_minute // 60:02}:{window.start_minute % 60:02}",
                "to": f"{window.end_minute // 60:02}:{window.end_minute % 60:02}",
                "precision": PRECISIONS[window.tier],
            }
        )

    def window(self) -> Window:
        """Return this body as a window."""
        days = tuple(sorted({DAYS.index(day) for day in self.days}))
        return Window(days, _minute(self.start), _minute(self.end), Tier.of(self.precision))


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


class MySharing(Request):
    """What I say to everyone. ``until_ms`` ends a pause; null: until resumed. What is left out stays as it is.

    ``default_precision`` is the rule towards friends to come, and changes nothing for those I have.
    """

    state: Literal["on", "paused"]
    until_ms: InstantMs | None = None
    default_precision: Precision | None = None
    windows: Annotated[list[WindowBody], Field(max_length=MAX_WINDOWS)] | None = None
    time_zone: Annotated[str, Field(max_length=64)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> MySharing:
        if self.state == "on" and self.until_ms is not None:
            raise ValueError("until_ms goes with state paused")
        if self.time_zone is not None and not is_time_zone(self.time_zone):
            raise ValueError("time_zone is not a name of the IANA time zone database")
        return self

    def settings(self) -> Settings:
        """Return all but the switch."""
        return Settings(
            None if self.default_precision is None else Tier.of(self.default_precision),
            None if self.windows is None else tuple(window.window() for window in self.windows),
            self.time_zone,
        )


class MySharingBody(BaseModel):
    """What I say to everyone. ``until_ms`` ends a pause; null: until resumed."""

    state: Literal["on", "paused"]
    until_ms: int | None
    default_precision: Precision
    windows: list[WindowBody]
    time_zone: str

    @classmethod
    def of(cls, switch: Switch, settings: Settings) -> MySharingBody:
        """Return both parts as one body."""
        return cls(
            state="on" if switch.sharing else "paused",
            until_ms=switch.until_ms,
            default_precision=PRECISIONS[settings.default or Tier.OFF],
            windows=[WindowBody.of(window) for window in settings.windows or ()],
            time_zone=settings.time_zone or "UTC",
        )


class InForceBody(BaseModel):
    """How exactly a friend may see me now, all things considered.

    At ``until_ms`` it may become another; null: it stays until I change something. ``reason``: what sets it.
    """

    precision: Precision
    until_ms: int | None
    reason: Literal["paused", "window", "circle", "rule"]

    @classmethod
    def of(cls, decision: Decision) -> InForceBody:
        """Return ``decision`` as a body."""
        return cls(precision=PRECISIONS[decision.tier], until_ms=decision.until_ms, reason=decision.reason.value)


class FriendSharing(Request):
    """My rule towards a friend. With ``until_ms`` the rule from before holds again from then on.

    ``openly`` goes with ``off``: the friend is told that I ended it, and does not merely see me go offline.
    """

    precision: Precision
    until_ms: InstantMs | None = None
    openly: bool = False

    @model_validator(mode="after")
    def _openly_off(self) -> FriendSharing:
        if self.openly and self.precision != "off":
            raise ValueError("openly goes with precision off")
        return self


class FriendSharingBody(BaseModel):
    """My rule towards a friend: ``precision`` until ``until_ms``, then ``then``; both null where it has no end."""

    precision: Precision
    until_ms: int | None
    then: Precision | None
    openly: bool
    in_force: InForceBody

    @classmethod
    def of(cls, sharing: Sharing, now_ms: int) -> FriendSharingBody:
        """Return ``sharing`` as a body."""
        rule = sharing.rule
        timed = _is_timed(rule, now_ms)
        return cls(
            precision=PRECISIONS[rule.at(now_ms)],
            until_ms=rule.until_ms if timed else None,
            then=PRECISIONS[rule.standing] if timed else None,
            openly=rule.openly,
            in_force=InForceBody.of(sharing.in_force),
        )


def _is_timed(rule: Rule, now_ms: int) -> bool:
    return rule.meanwhile is not None and rule.until_ms is not None and rule.until_ms > now_ms


class CircleRequest(Request):
    """A circle's name, and the most that its members see of me; until an instant, or for good."""

    name: DisplayName
    precision: Precision
    until_ms: InstantMs | None = None


class CircleBody(BaseModel):
    """A circle of mine and the user ids of its members."""

    circle_id: str
    name: str
    precision: Precision
    until_ms: int | None
    members: list[str]

    @classmethod
    def of(cls, circle: Circle) -> CircleBody:
        """Return ``circle`` as a body."""
        return cls(
            circle_id=circle.circle_id,
            name=circle.name,
            precision=PRECISIONS[circle.rule.tier],
            until_ms=circle.rule.until_ms,
            members=list(circle.members),
        )


class CirclePageBody(BaseModel):
    """My circles, ordered by circle id; ``next_cursor`` is null at the end."""

    items: list[CircleBody]
    next_cursor: str | None


class ViewerBody(PersonBody):
    """A friend, how exactly they may see me now and why, and when they last got a location of mine, to the minute."""

    in_force: InForceBody
    last_seen_ms: int | None

    @classmethod
    def of_viewer(cls, viewer: Viewer) -> ViewerBody:
        """Return ``viewer`` as a body."""
        person = PersonBody.of(viewer.person).model_dump()
        in_force = InForceBody.of(viewer.in_force).model_dump()
        return cls.model_validate({**person, "in_force": in_force, "last_seen_ms": viewer.last_seen_ms})


class ViewerPageBody(BaseModel):
    """My friends as viewers; ``next_cursor`` is null at the end."""

    items: list[ViewerBody]
    next_cursor: str | None
