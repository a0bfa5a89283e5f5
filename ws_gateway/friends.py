"""The friend directory over HTTP: the API's internal port, asked in batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import httpx
import msgspec

from nearby.changes import Change, decode_row
from nearby.errors import FeedBroken, StoreUnavailable
from nearby.model import FriendList, UserId
from nearby.settings import Secret

GATHER_S = 0.003
"""How long the first caller waits for others to share its request."""
MAX_BATCH = 500
MAX_REQUESTS_AT_ONCE = 4
TIMEOUT_S = 3.0
CHANGES_PER_PAGE = 1000
SIGHTINGS_PER_CALL = 500


class _Lists(msgspec.Struct):
    lists: list[FriendList | None]


class _Changes(msgspec.Struct):
    changes: list[msgspec.Raw]
    latest: int
    # An older API keeps every change.
    pruned_to: int = 0


_lists_decoder = msgspec.json.Decoder(_Lists)
_changes_decoder = msgspec.json.Decoder(_Changes)


class ApiFriendDirectory:
    """Implements :class:`nearby.ports.FriendDirectory`; built by :func:`open_directory`."""

    def __init__(self, http: httpx.AsyncClient, carried: Callable[[], dict[str, str]] | None = None) -> None:
        self._http = http
        self._carried = carried
        self._headers: dict[str, str] = {}
        self._waiting: dict[UserId, asyncio.Future[FriendList | None]] = {}
        self._wake = asyncio.Event()
        self._free = asyncio.Semaphore(MAX_REQUESTS_AT_ONCE)

    async def friend_list(self, user_id: UserId) -> FriendList | None:
        """Return the friends of ``user_id``; see the port."""
        future = self._waiting.get(user_id)
        if future is None:
            future = self._waiting[user_id] = asyncio.get_running_loop().create_future()
            self._wake.set()
            if self._carried is not None and not self._headers:
                self._headers = self._carried()  # of all who share a request one can be traced
        return await asyncio.shield(future)

    async def changes_after(self, sequence: int) -> list[Change]:
        """Return the next changes of the feed; see the port."""
        part = await self._changes(sequence, CHANGES_PER_PAGE)
        if sequence < part.pruned_to or sequence > part.latest:
            raise FeedBroken(f"it is kept from {part.pruned_to} to {part.latest}, and was read up to {sequence}")
        with _understood():
            return [decode_row(row) for row in part.changes]

    async def note_sightings(self, pairs: Sequence[tuple[UserId, UserId]]) -> None:
        """Note who has just received whose location; see the port."""
        for start in range(0, len(pairs), SIGHTINGS_PER_CALL):
            body = msgspec.json.encode({"pairs": pairs[start : start + SIGHTINGS_PER_CALL]})
            await self._call("POST", "/internal/v1/sightings", body)

    async def latest_sequence(self) -> int:
        """Return the newest row of the feed; see the port."""
        return (await self._changes(0, 1)).latest

    async def run(self) -> None:
        """Carry the waiting calls to the API, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._wake.wait()
                await asyncio.sleep(GATHER_S)
                await self._free.acquire()
                batch = dict(list(self._waiting.items())[:MAX_BATCH])
                for user_id in batch:
                    del self._waiting[user_id]
                if not self._waiting:
                    self._wake.clear()
                headers, self._headers = self._headers, {}
                tasks.create_task(self._fetch(batch, headers))

    async def _fetch(self, batch: dict[UserId, asyncio.Future[FriendList | None]], headers: dict[str, str]) -> None:
        try:
            lists = await self._lists(list(batch), headers)
        except StoreUnavailable as error:
            for future in batch.values():
                future.set_exception(StoreUnavailable(error.store, error.detail))
                future.exception()  # the caller may have gone; then nobody else looks at it
        else:
            for future, friends in zip(batch.values(), lists, strict=True):
                future.set_result(friends)
        finally:
            self._free.release()

    async def _lists(self, user_ids: list[UserId], headers: dict[str, str]) -> list[FriendList | None]:
        body = msgspec.json.encode({"user_ids": user_ids})
        answer = await self._call("POST", "/internal/v1/friend-lists", body, headers)
        with _understood():
            lists = _lists_decoder.decode(answer).lists
        if len(lists) != len(user_ids):
            raise StoreUnavailable("social_graph", f"{len(lists)} friend lists for {len(user_ids)} users")
        return lists

    async def _changes(self, after: int, limit: int) -> _Changes:
        answer = await self._call("GET", f"/internal/v1/changes?after={after}&limit={limit}")
        with _understood():
            return _changes_decoder.decode(answer)

    async def _call(
        self, method: str, url: str, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        try:
            response = await self._http.request(method, url, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise StoreUnavailable("social_graph", str(error) or type(error).__name__) from error
        if response.status_code != 200:
            raise StoreUnavailable("social_graph", f"the API answered {response.status_code}")
        return response.content


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except msgspec.MsgspecError as error:
        raise StoreUnavailable("social_graph", f"the API's answer is not understood: {error}") from error


@asynccontextmanager
async def open_directory(
    api_internal_url: str, service_token: Secret, carried: Callable[[], dict[str, str]] | None = None
) -> AsyncIterator[ApiFriendDirectory]:
    """Yield a directory that asks the API at ``api_internal_url``, showing it ``service_token``.

    ``carried`` returns the headers by which whoever asks for a friend list is traced.
    """
    headers = {"Authorization": f"Bearer {service_token.value}", "Content-Type": "application/json"}
    limits = httpx.Limits(max_connections=MAX_REQUESTS_AT_ONCE + 1)
    async with httpx.AsyncClient(
        base_url=api_internal_url, headers=headers, timeout=TIMEOUT_S, limits=limits, trust_env=False
    ) as http:
        directory = ApiFriendDirectory(http, carried)
        async with asyncio.TaskGroup() as tasks:
            carrying = tasks.create_task(directory.run(), name="friend directory")
            try:
                yield directory
            finally:
                carrying.cancel()
