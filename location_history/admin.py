"""What operators may ask a history writer: how many points the store keeps of a user, and never where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from location_history.entries import user_bytes
from nearby.errors import StoreUnavailable
from nearby.model import UserId
from nearby.ports import HistoryStore

COUNT_PATH = "/admin/v1/history/count"
PAGE_COUNT = 5_000
RETRY_AFTER_S = 1


def count_route(store: HistoryStore, is_operator: Callable[[str | None], bool]) -> Route:
    """Return the route of ``GET /admin/v1/history/count?user_id=&from=&to=``.

    ``is_operator`` judges by the ``Authorization`` header.

    ``from`` and ``to`` are days (UTC), both included; without them, everything is counted.
    """

    async def count(request: Request) -> Response:
        if not is_operator(request.headers.get("authorization")):
            return _problem(401, "not_authenticated", {"WWW-Authenticate": "Bearer"})
        try:
            user_id, from_ms, to_ms = _asked(request.query_params)
        except (KeyError, ValueError):
            return _problem(422, "invalid_request")
        try:
            days = await count_by_day(store, user_id, from_ms, to_ms)
        except StoreUnavailable:
            return _problem(503, "unavailable", {"Retry-After": str(RETRY_AFTER_S)})
        return JSONResponse({"user_id": user_id, "total": sum(days.values()), "days": days})

    return Route(COUNT_PATH, count)


async def count_by_day(store: HistoryStore, user_id: UserId, from_ms: int, to_ms: int) -> dict[str, int]:
    """Return how many points of ``user_id`` there are of each day of [``from_ms``, ``to_ms``), oldest day first.

    Raises:
        StoreUnavailable: the store did not answer.
    """
    counts: Counter[str] = Counter()
    before_ms: int | None = to_ms
    while before_ms is not None:
        page = await store.read(user_id, from_ms, before_ms, PAGE_COUNT)
        counts.update(_day(point.location.recorded_at_ms) for point in page.points)
        before_ms = page.next_before_ms
    return dict(sorted(counts.items()))


def _asked(query: Mapping[str, str]) -> tuple[UserId, int, int]:
    user_id = UserId(query["user_id"])
    user_bytes(user_id)
    first = date.fromisoformat(query["from"]) if "from" in query else date.min
    last = date.fromisoformat(query["to"]) if "to" in query else date.max
    return user_id, max(0, _start_ms(first)), _start_ms(last) + 86_400_000


def _start_ms(day: date) -> int:
    return (day - date(1970, 1, 1)) // timedelta(milliseconds=1)


def _day(instant_ms: int) -> str:
    return datetime.fromtimestamp(instant_ms / 1000, UTC).date().isoformat()


def _problem(status: int, code: str, headers: Mapping[str, str] | None = None) -> Response:
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code}
    return JSONResponse(body, status, headers, "application/problem+json")
