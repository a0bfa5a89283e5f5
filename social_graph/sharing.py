"""What a user says to everyone: the switch that stops sharing, for good or until an instant, and the limits.

A pause whose instant has passed is over, whoever looks; gateways end it by their own clocks, and
:meth:`SharingSwitches.resume_due` says so in the change feed after that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change, SharingChanged
from nearby.model import UserId
from nearby.ports import Clock
from nearby.sharing import NO_LIMITS, Limits, Tier, Window
from social_graph.changes import UNNUMBERED, append
from social_graph.database import Database
from social_graph.locks import hold
from social_graph.schema import users
from social_graph.users import user_not_found

UTC = "UTC"
LIMIT_COLUMNS = (
    users.c.sharing_paused,
    users.c.sharing_paused_until_ms,
    users.c.sharing_windows,
    users.c.time_zone,
)


@dataclass(frozen=True, slots=True)
class Switch:
    """``until_ms`` (Unix milliseconds) ends a pause; ``None``: it lasts until resumed, or there is none."""

    sharing: bool
    until_ms: int | None


def shares(paused: bool, until_ms: int | None, now_ms: int) -> bool:
    """Whether a user with this row in the database shares at ``now_ms``."""
    return not paused or (until_ms is not None and until_ms <= now_ms)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may say to everyone besides the switch; ``default`` is the rule towards friends to come.

    As a change, ``None`` leaves a part as it is.
    """

    default: Tier | None = None
    windows: tuple[Window, ...] | None = None
    time_zone: str | None = None


UNCHANGED = Settings()


@dataclass(frozen=True, slots=True)
class Said:
    """What a user says to everyone, as friends' gateways need it."""

    sharing: bool
    limits: Limits


def said_of(paused: bool, until_ms: int | None, windows: str | None, time_zone: str | None, *, now_ms: int) -> Said:
    """Return what the :data:`LIMIT_COLUMNS` of a row say at ``now_ms``."""
    sharing = shares(paused, until_ms, now_ms)
    if windows is None and (sharing or until_ms is None):
        return Said(sharing, NO_LIMITS)
    return Said(sharing, Limits(None if sharing else until_ms, windows_of(windows), time_zone or UTC))


@lru_cache(maxsize=10_000)
def windows_of(text: str | None) -> tuple[Window, ...]:
    """Return the windows in a column of the database."""
    return () if text is None else msgspec.json.decode(text, type=tuple[Window, ...])


async def said_by(connection: AsyncConnection, user_id: UserId, now_ms: int) -> Said:
    """Return what ``user_id`` says to everyone at ``now_ms``.

    Raises:
        NotFound: ``user_not_found``.
    """
    paused, until_ms, windows, time_zone = await _row(connection, user_id, *LIMIT_COLUMNS)
    return said_of(paused, until_ms, windows, time_zone, now_ms=now_ms)


async def default_of(connection: AsyncConnection, user_id: UserId) -> Tier:
    """Return the rule of ``user_id`` towards friends to come.

    Raises:
        NotFound: ``user_not_found``.
    """
    (label,) = await _row(connection, user_id, users.c.default_sharing)
    return Tier.of(label)


async def _row(connection: AsyncConnection, user_id: UserId, *columns: Any) -> Any:
    row = (await connection.execute(select(*columns).where(users.c.id == user_id))).one_or_none()
    if row is None:
        raise user_not_found()
    return row


async def _switch(connection: AsyncConnection, user_id: UserId, now_ms: int) -> Switch:
    said = await said_by(connection, user_id, now_ms)
    return Switch(said.sharing, said.limits.paused_until_ms)


async def _settings(connection: AsyncConnection, user_id: UserId) -> Settings:
    default, windows, time_zone = await _row(
        connection, user_id, users.c.default_sharing, users.c.sharing_windows, users.c.time_zone
    )
    return Settings(Tier.of(default), windows_of(windows), time_zone or UTC)


Check = Callable[[tuple[Switch, Settings]], None]
"""Raises where what stands is not what a client believes."""


class SharingSwitches:
    """Reading and setting the switches."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, user_id: UserId) -> Switch:
        """Return the switch of ``user_id`` as it stands now.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        async with self._database.read() as connection:
            return await _switch(connection, user_id, self._clock())

    async def settings(self, user_id: UserId) -> Settings:
        """Return what else ``user_id`` says to everyone; nothing in it is ``None``.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        async with self._database.read() as connection:
            return await _settings(connection, user_id)

    async def pause(
        self, user_id: UserId, until_ms: int | None, settings: Settings = UNCHANGED, check: Check | None = None
    ) -> list[Change]:
        """Stop sharing until ``until_ms`` (``None``: until resumed); return the changes to publish.

        ``check`` is shown what stands, and nothing happens if it raises.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        switch = {"sharing_paused": True, "sharing_paused_until_ms": until_ms}
        return await self._set(user_id, switch, settings, check)

    async def resume(self, user_id: UserId, settings: Settings = UNCHANGED, check: Check | None = None) -> list[Change]:
        """Share again; return the changes to publish. ``check`` as for :meth:`pause`.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        switch = {"sharing_paused": False, "sharing_paused_until_ms": None}
        return await self._set(user_id, switch, settings, check)

    async def _set(
        self, user_id: UserId, switch: dict[str, Any], settings: Settings, check: Check | None
    ) -> list[Change]:
        now_ms = self._clock()
        values = switch | _columns_of(settings)
        async with self._database.write() as connection:
            await hold(connection, user_id)
            if check is not None:
                check((await _switch(connection, user_id, now_ms), await _settings(connection, user_id)))
            was_paused, *rest = await _row(connection, user_id, *LIMIT_COLUMNS)
            was = said_of(was_paused, *rest, now_ms=now_ms)
            await connection.execute(update(users).where(users.c.id == user_id).values(values))
            said = await said_by(connection, user_id, now_ms)
            # A pause that is over by itself is in the database until somebody says so.
            if said == was and was_paused == values["sharing_paused"]:
                return []
            return [await _announce(connection, user_id, said, now_ms)]

    async def resume_due(self, limit: int = 100) -> list[Change]:
        """End up to ``limit`` pauses whose instant has passed, oldest first; return the changes to publish.

        However many processes call it, each pause is ended once.

        Raises:
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        due = (
            select(users.c.id)
            .where(users.c.sharing_paused, users.c.sharing_paused_until_ms <= now_ms)
            .order_by(users.c.sharing_paused_until_ms)
            .limit(limit)
        )
        user_ids = [UserId(row.id) for row in await self._database.rows(due)]
        if not user_ids:
            return []
        async with self._database.write() as connection:
            await hold(connection, *user_ids)
            # Some may have been ended meanwhile, and others are due that are not held.
            still_due = set(await connection.scalars(due))
            return [await _resume(connection, user_id, now_ms) for user_id in user_ids if user_id in still_due]


def _columns_of(settings: Settings) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if settings.default is not None:
        values["default_sharing"] = settings.default.label
    if settings.windows is not None:
        values["sharing_windows"] = msgspec.json.encode(settings.windows).decode() if settings.windows else None
    if settings.time_zone is not None:
        values["time_zone"] = settings.time_zone
    return values


async def _resume(connection: AsyncConnection, user_id: UserId, now_ms: int) -> Change:
    values = {"sharing_paused": False, "sharing_paused_until_ms": None}
    await connection.execute(update(users).where(users.c.id == user_id).values(values))
    return await _announce(connection, user_id, await said_by(connection, user_id, now_ms), now_ms)


async def _announce(connection: AsyncConnection, user_id: UserId, said: Said, now_ms: int) -> Change:
    change = await append(connection, SharingChanged(UNNUMBERED, user_id, said.sharing, said.limits), now_ms)
    await connection.execute(update(users).where(users.c.id == user_id).values(switch_sequence=change.sequence))
    return change
