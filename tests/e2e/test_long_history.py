"""A long history of one user: the first page at once, and the whole of it as a file in constant memory.

``NEARBY_TEST_HISTORY_POINTS=259200`` is ninety days at one point each 30 s.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import httpx

from location_history.stores import open_store
from nearby.model import HistoryPoint, Location, UserId
from nearby_client import NearbyApi
from tests.support.people import sign_up
from tests.support.stack import Stack, running_stack

COUNT = int(os.environ.get("NEARBY_TEST_HISTORY_POINTS", "40000"))
GROWTH_BYTES = 12 * 1024 * 1024
"""Measured: 1 to 4 MB, whatever the length. Held whole, 40,000 points and their text would take 20 MB and more."""
FIRST_PAGE_S = 2.0
"""Measured: 5 ms; the tests run beside other load."""


async def test_a_long_history_is_read_page_by_page_and_streamed_in_constant_memory(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack, NearbyApi(stack.api_url) as api:
        ann = await sign_up(api)
        await fill(stack, UserId(ann.user_id))
        headers = {"Authorization": f"Bearer {ann.account.access_token}"}
        async with httpx.AsyncClient(base_url=stack.api_url, headers=headers, trust_env=False, timeout=120) as me:
            for path in ("/v1/me/history", "/v1/me/history?simplify_m=50", "/v1/me/history?format=gpx&limit=1000"):
                assert (await me.get(path)).status_code == 200  # imports what it needs
            began_s = time.perf_counter()
            page = await me.get("/v1/me/history?limit=100")
            first_page_s = time.perf_counter() - began_s
            assert len(page.json()["items"]) == 100
            assert first_page_s < FIRST_PAGE_S
            told = [f"first page {first_page_s * 1000:.1f} ms"]
            before_bytes = resident_bytes(stack)
            for query, mark in (("format=gpx", b"<trkpt "), ("format=csv", b"\r\n"), ("format=gpx&simplify_m=20", b"")):
                began_s = time.perf_counter()
                marks_count, size_bytes, most_bytes = await download(me, stack, query, mark)
                took_s = time.perf_counter() - began_s
                growth_bytes = most_bytes - before_bytes
                told.append(f"{query} {size_bytes / 1e6:.1f} MB in {took_s:.1f} s, {growth_bytes / 2**20:+.1f} MB")
                assert marks_count == (COUNT + query.endswith("csv") if mark else size_bytes + 1)
                assert growth_bytes < GROWTH_BYTES, told
            print(f"{COUNT} points: {'; '.join(told)}")  # noqa: T201 - shown with -s or on failure


async def download(me: httpx.AsyncClient, stack: Stack, query: str, mark: bytes) -> tuple[int, int, int]:
    """Return how often ``mark`` was there, the size, and the most memory that the API had meanwhile."""
    count = size_bytes = most_bytes = 0
    tail = b""
    async with me.stream("GET", f"/v1/me/history?{query}") as answer:
        assert answer.status_code == 200
        async for data in answer.aiter_bytes():
            size_bytes += len(data)
            count += (tail + data).count(mark)
            tail = data[-len(mark) + 1 :] if len(mark) > 1 else b""
            most_bytes = max(most_bytes, resident_bytes(stack))
    return (count if mark else size_bytes + 1), size_bytes, most_bytes


async def fill(stack: Stack, user_id: UserId) -> None:
    now_ms = time.time_ns() // 1_000_000
    async with open_store(f"sqlite:///{stack.data_dir / 'history.sqlite'}", 365) as store:
        for start in range(0, COUNT, 10_000):
            steps = range(start, min(start + 10_000, COUNT))
            await store.write_many([HistoryPoint(user_id, _fix(step, now_ms)) for step in steps])


def _fix(step: int, now_ms: int) -> Location:
    lat_deg, lon_deg = 41.88 + math.sin(step / 90) / 20, -87.63 + math.cos(step / 70) / 20
    return Location(round(lat_deg, 7), round(lon_deg, 7), now_ms - (COUNT - step) * 29_990, 8.0, 1.25, 90.0)


def resident_bytes(stack: Stack) -> int:
    for line in Path(f"/proc/{stack.pids['api']}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such process")
