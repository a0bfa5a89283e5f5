"""Users: who they are and how others find them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.errors import NotFound
from nearby.model import UserId
from social_graph.database import Database
from social_graph.locks import hold
from social_graph.schema import users
from social_graph.visibility import exists_for


class Person(msgspec.Struct, frozen=True):
    """A user as other users may know them."""

    user_id: UserId
    handle: str
    display_name: str


HANDLE = r"^[a-z0-9_]{3,30}$"
"""What a handle looks like."""

_HANDLE = re.compile(HANDLE)

PERSON_COLUMNS = (users.c.id, users.c.handle, users.c.display_name)


def person_of(row: Row[*tuple[Any, ...]]) -> Person:
    """Return the person in a row that begins with :data:`PERSON_COLUMNS`."""
    return Person(UserId(row[0]), row[1], row[2])


def is_handle(text: str) -> bool:
    """Whether ``text`` may be a handle; nothing else is worth a look into the database, which takes no zero bytes."""
    return _HANDLE.fullmatch(text) is not None


def user_not_found() -> NotFound:
    """Return the error for a user who does not exist."""
    return NotFound("user_not_found", "there is no such user")


async def find_person(connection: AsyncConnection, user_id: UserId, viewer_id: UserId) -> Person:
    """Return the person with ``user_id`` as ``viewer_id`` sees them.

    Raises:
        NotFound: ``user_not_found``: nobody has this id, or one of the two has blocked the other.
    """
    query = select(*PERSON_COLUMNS).where(users.c.id == user_id, exists_for(viewer_id))
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise user_not_found()
    return person_of(row)


class Users:
    """Reading and renaming users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, user_id: UserId) -> Person:
        """Return the person with ``user_id``.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        rows = await self._database.rows(select(*PERSON_COLUMNS).where(users.c.id == user_id))
        if not rows:
            raise user_not_found()
        return person_of(rows[0])

    async def by_handle(self, handle: str, viewer_id: UserId | None) -> Person:
        """Return the person with exactly ``handle`` as ``viewer_id`` sees them; ``None`` is an operator.

        Raises:
            NotFound: ``user_not_found``: nobody has this handle, or one of the two has blocked the other.
            StoreUnavailable: the database failed.
        """
        if not is_handle(handle):
            raise user_not_found()
        query = select(*PERSON_COLUMNS).where(users.c.handle == handle)
        if viewer_id is not None:
            query = query.where(exists_for(viewer_id))
        rows = await self._database.rows(query)
        if not rows:
            raise user_not_found()
        return person_of(rows[0])

    async def ids_after(self, user_id: str, limit: int) -> list[UserId]:
        """Return up to ``limit`` ids of users in their order, those that come after ``user_id``; empty: the first.

        Raises:
            StoreUnavailable: the database failed.
        """
        query = select(users.c.id).where(users.c.id > user_id).order_by(users.c.id).limit(limit)
        return [UserId(row.id) for row in await self._database.rows(query)]

    async def rename(self, user_id: UserId, display_name: str, check: Callable[[Person], None] | None = None) -> None:
        """Give ``user_id`` another display name.

        ``check`` is shown the person as they are, and nothing happens if it raises.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            await hold(connection, user_id)
            person = await find_person(connection, user_id, user_id)
            if check is not None:
                check(person)
            await connection.execute(update(users).where(users.c.id == user_id).values(display_name=display_name))
