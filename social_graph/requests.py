"""Friend requests: the way into a friendship (an invite link is the other).

A row is a pending request until it is answered, which deletes it, or has expired, after which nobody sees it any more.
Its addressee accepts or declines it, its sender cancels it. Two requests that cross are an acceptance.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, and_, delete, insert, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change
from nearby.errors import Conflict, NotAllowed, NotFound
from nearby.model import UserId
from nearby.ports import Clock
from social_graph import request_quota
from social_graph.database import Database, among
from social_graph.friendships import Friend, are_friends, befriend, check_room, find_friend
from social_graph.limits import Limits
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

    def __init__(self, database: Database, clock: Clock, limits: Limits) -> None:
        self._database = database
        self._clock = clock
        self._limits = limits

    async def send(self, sender_id: UserId, addressee_id: UserId) -> FriendRequest | Befriended:
        """Ask ``addressee_id`` for friendship; if they have asked already, that makes the two friends.

        Raises:
            NotFound: ``user_not_found``: nobody, or one of the two has blocked the other.
            Conflict: ``request_to_self``, ``already_friends``, ``request_exists``, ``too_many_friends``.
            QuotaSpent: ``too_many_requests_today``.
            StoreUnavailable: the database failed.
        """
        if sender_id == addressee_id:
            raise Conflict("request_to_self", "nobody can befriend themselves")
        now_ms, limits = self._clock(), self._limits
        async with self._database.write() as connection:
            await hold(connection, sender_id, addressee_id)
            sender = await find_person(connection, sender_id, sender_id)
            addressee = await find_person(connection, addressee_id, sender_id)
            if await are_friends(connection, sender_id, addressee_id):
                raise Conflict("already_friends", "the two are friends already")
            await delete_expired_between(connection, sender_id, addressee_id, self._oldest_ms(now_ms))
            if await _pending(connection, sender_id, addressee_id) is not None:
                raise Conflict("request_exists", "this request is waiting for an answer already")
            await request_quota.take(connection, sender_id, limits.requests_per_day, now_ms)
            crossing = await _pending(connection, addressee_id, sender_id)
            if crossing is not None:
                return await self._accept(connection, sender_id, addressee_id, now_ms)
            await check_room(connection, sender_id, limits.max_friends)
            return await _store(connection, sender, addressee, now_ms)

    async def page(
        self, user_id: UserId, direction: Direction, limit: int, after: tuple[int, str] | None = None
    ) -> RequestPage:
        """Return up to ``limit`` requests to or from ``user_id`` that follow ``after`` (``None``: from the newest on).

        Raises:
            StoreUnavailable: the database failed.
        """
        query = _page_query(user_id, direction, after, self._oldest_ms(self._clock())).limit(limit + 1)
        rows = await self._database.rows(query)
        requests = tuple(_request_of(row) for row in rows[:limit])
        more = len(rows) > limit
        return RequestPage(requests, (requests[-1].created_ms, requests[-1].request_id) if more else None)

    async def accept(self, user_id: UserId, request_id: str) -> Befriended:
        """Become friends with whoever sent ``request_id`` to ``user_id``.

        Raises:
            NotFound: ``request_not_found``: none is pending, or it is between others.
            NotAllowed: ``not_addressee``: it is ``user_id``'s own.
            Conflict: ``too_many_friends``, either of the two.
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        async with self._database.write() as connection:
            sender_id = await _sender_of(connection, user_id, request_id, self._oldest_ms(now_ms))
            return await self._accept(connection, user_id, sender_id, now_ms)

    async def decline(self, user_id: UserId, request_id: str) -> None:
        """Refuse the request; its sender is not told. Raises as :meth:`accept`."""
        async with self._database.write() as connection:
            await _sender_of(connection, user_id, request_id, self._oldest_ms(self._clock()))
            await _delete(connection, request_id)

    async def cancel(self, user_id: UserId, request_id: str) -> None:
        """Take back a request of ``user_id``'s own.

        Raises:
            NotFound: ``request_not_found``: none is pending, or it is between others.
            NotAllowed: ``not_sender``: it was sent to ``user_id``.
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            sender_id, _ = await _parties(connection, user_id, request_id, self._oldest_ms(self._clock()))
            if sender_id != user_id:
                raise NotAllowed("not_sender", "only its sender may cancel a request")
            await _delete(connection, request_id)

    async def delete_expired(self, limit: int = 1_000) -> int:
        """Delete up to ``limit`` requests that have expired; return how many. Nobody sees them anyway.

        Raises:
            StoreUnavailable: the database failed.
        """
        oldest_ms = self._oldest_ms(self._clock())
        due = select(friend_requests.c.id).where(friend_requests.c.created_ms <= oldest_ms).limit(limit)
        request_ids = [row.id for row in await self._database.rows(due)]
        if not request_ids:
            return 0
        async with self._database.write() as connection:
            result = await connection.execute(
                delete(friend_requests).where(among(connection, friend_requests.c.id, request_ids))
            )
        return result.rowcount

    def _oldest_ms(self, now_ms: int) -> int:
        """The instant (Unix milliseconds) at which, or before which, a request was made that is over now."""
        return now_ms - self._limits.request_lifetime_s * 1000

    async def _accept(self, connection: AsyncConnection, user_id: UserId, friend_id: UserId, now_ms: int) -> Befriended:
        for each in (user_id, friend_id):
            await check_room(connection, each, self._limits.max_friends)
        await delete_between(connection, user_id, friend_id)
        change = await befriend(connection, user_id, friend_id, now_ms)
        return Befriended(await find_friend(connection, user_id, friend_id, now_ms), [change])


def _between(user_id: UserId, other_id: UserId) -> ColumnElement[bool]:
    there = and_(friend_requests.c.from_id == user_id, friend_requests.c.to_id == other_id)
    back = and_(friend_requests.c.from_id == other_id, friend_requests.c.to_id == user_id)
    return or_(there, back)


async def delete_between(connection: AsyncConnection, user_id: UserId, other_id: UserId) -> None:
    """Delete whatever requests there are between the two, who are held."""
    await connection.execute(delete(friend_requests).where(_between(user_id, other_id)))


async def delete_expired_between(
    connection: AsyncConnection, user_id: UserId, other_id: UserId, oldest_ms: int
) -> None:
    """Delete the requests between the two, who are held, that were made at ``oldest_ms`` or before."""
    expired = friend_requests.c.created_ms <= oldest_ms
    await connection.execute(delete(friend_requests).where(_between(user_id, other_id), expired))


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


async def _delete(connection: AsyncConnection, request_id: str) -> None:
    await connection.execute(delete(friend_requests).where(friend_requests.c.id == request_id))


async def _sender_of(connection: AsyncConnection, addressee_id: UserId, request_id: str, oldest_ms: int) -> UserId:
    sender_id, _ = await _parties(connection, addressee_id, request_id, oldest_ms)
    if sender_id == addressee_id:
        raise NotAllowed("not_addressee", "only its addressee may answer a request")
    return sender_id


async def _parties(
    connection: AsyncConnection, user_id: UserId, request_id: str, oldest_ms: int
) -> tuple[UserId, UserId]:
    """Return sender and addressee of a request to or from ``user_id``, both held; made after ``oldest_ms``."""
    query = select(friend_requests.c.from_id, friend_requests.c.to_id).where(
        friend_requests.c.id == request_id, friend_requests.c.created_ms > oldest_ms
    )
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


def _page_query(user_id: UserId, direction: Direction, after: tuple[int, str] | None, oldest_ms: int) -> Any:
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
        .where(mine == user_id, friend_requests.c.created_ms > oldest_ms)
        .order_by(friend_requests.c.created_ms.desc(), friend_requests.c.id.desc())
    )
    if after is not None:
        query = query.where(position < tuple_(literal(after[0]), literal(after[1])))
    return query


def _request_of(row: Row[*tuple[Any, ...]]) -> FriendRequest:
    request_id, created_ms, *people = row
    return FriendRequest(request_id, Person(*people[:3]), Person(*people[3:]), created_ms)
