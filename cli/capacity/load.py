"""The load that is asked about, and what follows from it per second. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import acos, pi, sqrt
from typing import Literal

CACHE_TTL_S = 600.0
"""How long the location of somebody who left stays in the cache (``NEARBY_INACTIVE_AFTER_S``)."""

CodecName = Literal["json", "msgpack"]


class NonsenseLoad(ValueError):
    """A value that no deployment has. ``option`` is its name on the command line, ``allowed`` what it may be."""

    def __init__(self, option: str, value: object, allowed: str) -> None:
        self.option, self.value, self.allowed = option, value, allowed
        super().__init__(f"{option} is {value}; allowed: {allowed}")


@dataclass(frozen=True, slots=True)
class Load:
    """What people do. Shares are from 0 to 1.

    ``friends``: of each user, all of whom their gateway subscribes to. ``friends_connected``: the share of a connected
    user's friends who are connected, too. ``area_km``: the radius of the disc over which friends are spread evenly;
    ``None``: everybody is near everybody. ``approximate``: the share of friendships that show only the cell.
    ``session_s``: how long a connection lasts. ``linger_s``: ``NEARBY_HISTORY_LINGER_S``. ``peak_to_mean``: how much
    busier than the mean is the hour that this load describes, which counts for what adds up over days.
    """

    users: int = 100_000_000
    connected: float = 0.1
    friends: int = 40
    friends_connected: float = 1.0
    interval_s: float = 30.0
    radius_km: float = 8.047
    area_km: float | None = None
    approximate: float = 0.0
    session_s: float = 1_800.0
    rest_per_session: float = 5.0
    retention_days: float = 90.0
    linger_s: float = 300.0
    peak_to_mean: float = 1.0
    codec: CodecName = "json"
    tls: bool = False

    def __post_init__(self) -> None:
        self._require("--users", self.users, 1, 10_000_000_000)
        self._require("--connected", self.connected, 0.0, 1.0, above=True)
        self._require("--friends", self.friends, 0, 5_000)
        self._require("--friends-connected", self.friends_connected, 0.0, 1.0)
        self._require("--interval", self.interval_s, 0.1, 3_600.0)
        self._require("--radius", self.radius_km, 0.05, 50.0)
        if self.area_km is not None:
            self._require("--area", self.area_km, 0.0, 20_000.0, above=True)
        self._require("--approximate", self.approximate, 0.0, 1.0)
        self._require("--session", self.session_s / 60, 0.1, 43_200.0)
        self._require("--rest", self.rest_per_session, 0.0, 10_000.0)
        self._require("--retention", self.retention_days, 0.0, 3_650.0)
        self._require("--linger", self.linger_s, 0.0, 3_600.0)
        self._require("--peak-to-mean", self.peak_to_mean, 1.0, 100.0)
        if self.friends >= self.users:
            raise NonsenseLoad("--friends", self.friends, f"fewer than --users, {self.users:,}")
        if self.interval_s * 3 > CACHE_TTL_S:
            raise NonsenseLoad("--interval", self.interval_s, f"a third of the cache's {CACHE_TTL_S:g} s or less")

    @staticmethod
    def _require(option: str, value: float, least: float, most: float, *, above: bool = False) -> None:
        # A comparison with what is not a number is false.
        if not (least < value <= most if above else least <= value <= most):
            raise NonsenseLoad(option, value, f"{'more than ' if above else ''}{least:,g} to {most:,g}")

    @property
    def connections(self) -> float:
        """How many people are connected at once."""
        return self.users * self.connected

    @property
    def near(self) -> float:
        """The share of connected friends who are within the radius."""
        return 1.0 if self.area_km is None else share_within(self.radius_km, self.area_km)


def share_within(radius_km: float, area_km: float) -> float:
    """Return the chance that two points of a disc with radius ``area_km`` are ``radius_km`` apart or less.

    Source: "disk line picking", the integral of its density, https://mathworld.wolfram.com/DiskLinePicking.html.
    """
    x = radius_km / area_km
    if x >= 2.0:
        return 1.0
    return 1.0 + 2.0 / pi * (x * x - 1.0) * acos(x / 2.0) - x / pi * (1.0 + x * x / 2.0) * sqrt(1.0 - x * x / 4.0)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What happens in a second. ``audience``: connected friends who hear of a report.

    ``publishes`` include those of cells. ``deliveries``: entries that tell a viewer of a friend's report, a frame each.
    ``unseen``: comparisons whose outcome is that the friend is too far away. ``own_entries``: entries in the frame by
    which a user's own report renews all distances.
    """

    connections: float
    connects: float
    reports: float
    publishes: float
    audience: float
    deliveries: float
    unseen: float
    own_entries: float
    rest: float

    @classmethod
    def of(cls, load: Load) -> Traffic:
        """Return the traffic of ``load``."""
        connections = load.connections
        reports = connections / load.interval_s
        audience = load.friends * load.friends_connected
        # Somebody who has friends of both kinds publishes twice. A cell is published with each report that comes an
        # interval after the last, whether it is another one or not (ws_gateway/audience.py).
        tiers = (1.0 - load.approximate**load.friends) + (1.0 - (1.0 - load.approximate) ** load.friends)
        connects = connections / load.session_s
        return cls(
            connections=connections,
            connects=connects,
            reports=reports,
            publishes=reports * tiers,
            audience=audience,
            deliveries=reports * audience * load.near,
            unseen=2.0 * reports * audience * (1.0 - load.near),
            own_entries=reports * audience * load.near,
            rest=connects * load.rest_per_session,
        )
