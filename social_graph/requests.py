"""Friend requests: the only way into a friendship.

A row is a pending request. Its addressee accepts or declines it, its sender cancels it; each answer deletes it.
Two requests that cross are an acceptance.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, delete, insert, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change
from nearby.errors import Conflict, NotAllowed, NotFound
from nearby.model import UserId
from nearby.ports import Clock
from social_graph.database import Database
from social_graph.friendships import Friend, are_friends, befriend, find_friend
from social_graph.locks import hold
from social_graph.schema import friend_requests, users
from social_graph.users import Person, find_person

Direction = Literal["incoming", "outgoing"]


@dataclass(frozen=True, slots=True)
class FriendRequest:
    """A pending request, made at ``created_ms`` (Unix milliseconds)."""

    request_id: str
    sender: Person
    addressee: Person
    created_ms: int


@dataclass(frozen=True, slots=True)
class Befriended:
    """A friendship that has just begun: the other one as the caller's friend, and the changes to publish."""

    friend: Friend
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class RequestPage:
    """Requests, newest first; ``next_after`` (instant, request id) continues the list, ``None`` at its end."""

    requests: tuple[FriendRequest, ...]
    next_after: tuple[int, str] | None


class FriendRequests:
    """Sending, listing and answering requests."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def send(self, sender_id: UserId, addressee_id: UserId) -> FriendRequest | Befriended:
        """Ask ``addressee_id`` for friendship; if they have asked already, that makes the two friends.

        Raises:
            NotFound: ``user_not_found``.
            Conflict: ``request_to_self``, ``already_friends``, ``request_exists``.
            StoreUnavailable: the database failed.
        """
        if sender_id == addressee_id:
            raise Conflict("request_to_self", "nobody can befriend themselves")
        now_ms = self._clock()
        async with self._database.write() as connection:
            await hold(connection, sender_id, addressee_id)
            sender = await find_person(connection, sender_id)
            addressee = await find_person(connection, addressee_id)
            if await are_friends(connection, sender_id, addressee_id):
                raise Conflict("already_friends", "the two are friends already")
            if await _pending(connection, sender_id, addressee_id) is not None:
                raise Conflict("request_exists", "this request is waiting for an answer already")
            crossing = await _pending(connection, addressee_id, sender_id)
            if crossing is not None:
                return await _accept(connection, crossing, sender_id, addressee_id, now_ms)
            return await _store(connection, sender, addressee, now_ms)

    async def page(
        self, user_id: UserId, direction: Direction, limit: int, after: tuple[int, str] | None = None
    ) -> RequestPage:
        """Return up to ``limit`` requests to or from ``user_id`` that follow ``after`` (``None``: from the newest on).

        Raises:
            StoreUnavailable: the database failed.
        """
        query = _page_query(user_id, direction, after).limit(limit + 1)
        rows = await self._database.rows(query)
        requests = tuple(_request_of(row) for row in rows[:limit])
        more = len(rows) > limit
        return RequestPage(requests, (requests[-1].created_ms, requests[-1].request_id) if more else None)

    async def accept(self, user_id: UserId, request_id: str) -> Befriended:
        """Become friends with whoever sent ``request_id`` to ``user_id``.

        Raises:
            NotFound: ``request_not_found``: none is pending, or it is between others.
            NotAllowed: ``not_addressee``: it is ``user_id``'s own.
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            sender_id = await _sender_of(connection, user_id, request_id)
            return await _accept(connection, request_id, user_id, sender_id, self._clock())

    async def decline(self, user_id: UserId, request_id: str) -> None:
        """Refuse the request; its sender is not told. Raises as :meth:`accept`."""
        async with self._database.write() as connection:
            await _sender_of(connection, user_id, request_id)
            await _delete(connection, request_id)

    async def cancel(self, user_id: UserId, request_id: str) -> None:
        """Take back a request of ``user_id``'s own.

        Raises:
            NotFound: ``request_not_found``: none is pending, or it is between others.
            NotAllowed: ``not_sender``: it was sent to ``user_id``.
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            sender_id, _ = await _parties(connection, user_id, request_id)
            if sender_id != user_id:
                raise NotAllowed("not_sender", "only its sender may cancel a request")
            await _delete(connection, request_id)


async def _store(connection: AsyncConnection, sender: Person, addressee: Person, now_ms: int) -> FriendRequest:
    request = FriendRequest(str(uuid.uuid4()), sender, addressee, now_ms)
    row = insert(friend_requests).values(
        id=request.request_id, from_id=sender.user_id, to_id=addressee.user_id, created_ms=now_ms
    )
    await connection.execute(row)
    return request


async def _pending(connection: AsyncConnection, sender_id: UserId, addressee_id: UserId) -> str | None:
    query = select(friend_requests.c.id).where(
        friend_requests.c.from_id == sender_id, friend_requests.c.to_id == addressee_id
    )
    return await connection.scalar(query)


async def _accept(
    connection: AsyncConnection, request_id: str, user_id: UserId, friend_id: UserId, now_ms: int
) -> Befriended:
    await _delete(connection, request_id)
    change = await befriend(connection, user_id, friend_id, now_ms)
    return Befriended(await find_friend(connection, user_id, friend_id), [change])


async def _delete(connection: AsyncConnection, request_id: str) -> None:
    await connection.execute(delete(friend_requests).where(friend_requests.c.id == request_id))


async def _sender_of(connection: AsyncConnection, addressee_id: UserId, request_id: str) -> UserId:
    sender_id, _ = await _parties(connection, addressee_id, request_id)
    if sender_id == addressee_id:
        raise NotAllowed("not_addressee", "only its addressee may answer a request")
    return sender_id


async def _parties(connection: AsyncConnection, user_id: UserId, request_id: str) -> tuple[UserId, UserId]:
    """Return sender and addressee of a request to or from ``user_id``, both held."""
    query = select(friend_requests.c.from_id, friend_requests.c.to_id).where(friend_requests.c.id == request_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None or user_id not in row:
        raise _request_not_found()
    await hold(connection, UserId(row.from_id), UserId(row.to_id))
    # It may have been answered while we waited.
    if (await connection.execute(query)).one_or_none() is None:
        raise _request_not_found()
    return UserId(row.from_id), UserId(row.to_id)


def _request_not_found() -> NotFound:
    return NotFound("request_not_found", "there is no such request")


def _page_query(user_id: UserId, direction: Direction, after: tuple[int, str] | None) -> Any:
    senders, addressees = users.alias("senders"), users.alias("addressees")
    mine = friend_requests.c.to_id if direction == "incoming" else friend_requests.c.from_id
    position: ColumnElement[Any] = tuple_(friend_requests.c.created_ms, friend_requests.c.id)
    query = (
        select(
            friend_requests.c.id,
            friend_requests.c.created_ms,
            *(table.c[name] for table in (senders, addressees) for name in ("id", "handle", "display_name")),
        )
        .join(senders, senders.c.id == friend_requests.c.from_id)
        .join(addressees, addressees.c.id == friend_requests.c.to_id)
        .where(mine == user_id)
        .order_by(friend_requests.c.created_ms.desc(), friend_requests.c.id.desc())
    )
    if after is not None:
        query = query.where(position < tuple_(literal(after[0]), literal(after[1])))
    return query


def _request_of(row: Row[*tuple[Any, ...]]) -> FriendRequest:
    request_id, created_ms, *people = row
    return FriendRequest(request_id, Person(*people[:3]), Person(*people[3:]), created_ms)
