"""The history writers as the command line sees them: where they are, and what their admin ports tell."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from nearby.errors import NearbyError

TIMEOUT_S = 30.0
"""More than a writer gives its store."""
TOKEN_VARIABLE = "NEARBY_ADMIN_TOKEN"
COUNT_PATH = "/admin/v1/history/count"
PREFIX = "nearby_history_"


class WritersNotFound(NearbyError):
    """Nothing says where the history writers are, or there is no token. The caller's to mend."""


class WriterUnreachable(NearbyError):
    """Nobody answers at a writer's admin port, or refuses to."""


@dataclass(frozen=True, slots=True)
class Writers:
    """Admin URLs, and the token that they take, empty if none is known."""

    admin_urls: Sequence[str]
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one writer tells: its own work, and what it sees of the streams, which all share.

    ``problem`` is why points are not being stored at the moment, empty if they are. Counters count since the writer's
    start, except ``lost_count``, which counts since the streams began.
    """

    writer: str
    problem: str
    streams_count: int
    held_count: int
    written_count: int
    fenced_count: int
    waiting_count: int
    oldest_s: float
    lost_count: int


def find_writers(data_dir: Path, admin_urls: Sequence[str], environ: Mapping[str, str]) -> Writers:
    """Return the writers at ``admin_urls``, or where there are none, that of the stack in ``data_dir``.

    Raises:
        WritersNotFound: no stack is ready there.
    """
    if admin_urls:
        return Writers([url.rstrip("/") for url in admin_urls], environ.get(TOKEN_VARIABLE, ""))
    try:
        document = json.loads((data_dir / "stack.json").read_text(encoding="utf-8"))
        return Writers([document["history_writer"]["admin_url"]], document["admin_token"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WritersNotFound(f"no stack is ready in {data_dir}; name --data-dir or --writer") from error


class WriterPort:
    """Calls to one writer; :func:`open_ports` makes them."""

    def __init__(self, url: str, http: httpx.AsyncClient, token: str) -> None:
        self.url = url
        self._http = http
        self._token = token

    async def sample(self) -> Sample:
        """Return what the writer tells now.

        Raises:
            WriterUnreachable: nobody answers, or somebody else.
        """
        values = {
            sample.name.removeprefix(PREFIX): sample.value
            for family in text_string_to_metric_families((await self._get("/metrics")).text)
            for sample in family.samples
            if sample.name.startswith(PREFIX) and not sample.labels
        }
        _, _, trouble = (await self._get("/readyz")).text.strip().partition("\n")
        try:
            return Sample(
                self.url,
                trouble,
                int(values["streams"]),
                int(values["points_held"]),
                int(values["points_written_total"]),
                int(values["points_fenced_total"]),
                int(values["stream_entries"]),
                round(values["stream_oldest_seconds"], 3),
                int(values["points_lost"]),
            )
        except KeyError as error:
            raise WriterUnreachable(f"what answers at {self.url} is no history writer") from error

    async def count(self, user_id: str, first_day: str | None, last_day: str | None) -> dict[str, Any]:
        """Return how many points the store keeps of ``user_id``: ``total``, and ``days`` by day.

        Raises:
            WritersNotFound: there is no token, or it is wrong.
            WriterUnreachable: nobody answers, or the store does not.
        """
        if not self._token:
            raise WritersNotFound(f"{TOKEN_VARIABLE} is not set; with --writer it must be")
        days = {"from": first_day, "to": last_day}
        query = {"user_id": user_id, **{name: day for name, day in days.items() if day is not None}}
        answer = await self._get(COUNT_PATH, query, accepted=(200, 401, 422, 503))
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise WritersNotFound(f"the token is not that of {self.url}")
        if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            raise WritersNotFound("a user is a UUID, and a day looks like 2026-01-31")
        if not answer.is_success:
            raise WriterUnreachable("the history store does not answer; try again")
        found: dict[str, Any] = answer.json()
        return found

    async def _get(
        self, path: str, query: Mapping[str, str] | None = None, accepted: Sequence[int] = (200,)
    ) -> httpx.Response:
        try:
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            answer = await self._http.get(f"{self.url}{path}", params=query, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise WriterUnreachable(f"no history writer answers at {self.url} ({type(error).__name__})") from error
        if answer.status_code not in accepted:
            raise WriterUnreachable(f"{self.url} answers {answer.status_code}")
        return answer


@asynccontextmanager
async def open_ports(writers: Writers) -> AsyncIterator[list[WriterPort]]:
    """Yield a :class:`WriterPort` for each of ``writers``."""
    # Proxies of the environment are for other hosts than ours.
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
        yield [WriterPort(url, http, writers.token) for url in writers.admin_urls]
