"""One's history as a file, whole, and thinned."""

from __future__ import annotations

import csv
import io
import math
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from api.history_ranges import PAGE_COUNT
from nearby.geo import distance_m
from nearby.model import HistoryPoint, Location
from tests.api.stack import Stack, User, assert_problem
from tests.social_graph.clock import NOW_MS

GPX = "{http://www.topografix.com/GPX/1/1}"
COUNT = 2 * PAGE_COUNT + 17
"""Enough for three pages."""


def walk(user: User, count: int = COUNT) -> list[HistoryPoint]:
    """A long curve, a point every 30 s, the last of them now."""
    return [
        HistoryPoint(
            user.user_id,
            Location(41.0 + step * 1e-4, -87.0 + math.sin(step / 50) * 1e-2, NOW_MS - (count - 1 - step) * 30_000, 5.0),
            flagged=step % 10 == 3,
        )
        for step in range(count)
    ]


async def walked(stack: Stack, count: int = COUNT) -> tuple[User, list[HistoryPoint]]:
    ann = await stack.user("ann")
    points = walk(ann, count)
    await stack.services.history.write_many(points)
    return ann, points


def rounded(points: list[HistoryPoint]) -> list[tuple[float, float]]:
    return [(round(point.location.lat_deg, 7), round(point.location.lon_deg, 7)) for point in points]


async def test_gpx_holds_every_point_oldest_first(stack: Stack) -> None:
    ann, points = await walked(stack)
    answer = await stack.get("/v1/me/history?format=gpx", ann)
    assert answer.headers["content-type"] == "application/gpx+xml"
    assert answer.headers["content-disposition"] == 'attachment; filename="nearby-history.gpx"'
    root = ET.fromstring(answer.content)
    assert (root.tag, root.get("version")) == (f"{GPX}gpx", "1.1")
    found = root.findall(f"{GPX}trk/{GPX}trkseg/{GPX}trkpt")
    assert [(float(each.attrib["lat"]), float(each.attrib["lon"])) for each in found] == rounded(points)
    times = [each.findtext(f"{GPX}time") or "" for each in found]
    assert times == sorted(times)
    assert times[-1] == "2026-11-21T05:00:00.000Z"
    assert found[0].findtext(f"{GPX}extensions/{{urn:nearby:history:1}}accuracy_m") == "5.0"
    assert len(root.findall(".//{urn:nearby:history:1}flagged")) == sum(point.flagged for point in points)


async def test_geojson_holds_every_point_oldest_first(stack: Stack) -> None:
    ann, points = await walked(stack)
    answer = await stack.get("/v1/me/history?format=geojson", ann)
    assert answer.headers["content-type"] == "application/geo+json"
    body = answer.json()
    assert body["type"] == "FeatureCollection"
    assert [feature["properties"]["recorded_at_ms"] for feature in body["features"]] == [
        point.location.recorded_at_ms for point in points
    ]
    assert body["features"][0] == {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [points[0].location.lon_deg, points[0].location.lat_deg]},
        "properties": {
            "time": "2026-11-20T12:12:00.000Z",
            "recorded_at_ms": points[0].location.recorded_at_ms,
            "accuracy_m": 5.0,
            "flagged": False,
        },
    }


async def test_csv_holds_every_point_oldest_first(stack: Stack) -> None:
    ann, points = await walked(stack)
    answer = await stack.get("/v1/me/history?format=csv", ann)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [int(row["recorded_at_ms"]) for row in rows] == [point.location.recorded_at_ms for point in points]
    assert [(float(row["lat"]), float(row["lon"])) for row in rows] == rounded(points)
    assert {row["speed_mps"] for row in rows} == {""}


@pytest.mark.parametrize("name", ["gpx", "geojson", "csv"])
async def test_a_file_without_points_is_a_whole_file(stack: Stack, name: str) -> None:
    ann = await stack.user("ann")
    answer = await stack.get(f"/v1/me/history?format={name}", ann)
    assert answer.status_code == 200
    if name == "gpx":
        assert ET.fromstring(answer.content).findall(f".//{GPX}trkpt") == []
    elif name == "geojson":
        assert answer.json() == {"type": "FeatureCollection", "features": []}
    else:
        assert len(answer.text.splitlines()) == 1


async def test_a_file_holds_its_interval_and_of_it_the_newest(stack: Stack) -> None:
    ann, points = await walked(stack, 50)
    times = [point.location.recorded_at_ms for point in points]
    interval = f"format=csv&from_ms={times[10]}&to_ms={times[20]}"
    for query, expected in ((interval, times[10:20]), (f"{interval}&limit=3", times[17:20])):
        answer = await stack.get(f"/v1/me/history?{query}", ann)
        assert [int(line.split(",")[1]) for line in answer.text.splitlines()[1:]] == expected


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/gpx+xml", "application/gpx+xml"),
        ("application/geo+json;q=0.9, */*", "application/geo+json"),
        ("text/csv", "text/csv; charset=utf-8"),
        ("application/json, text/csv", "application/json"),
        ("*/*", "application/json"),
    ],
)
async def test_the_accept_header_chooses_a_format(stack: Stack, accept: str, media_type: str) -> None:
    ann = await stack.user("ann")
    answer = await stack.public.get("/v1/me/history", headers={**ann.headers, "Accept": accept})
    assert answer.headers["content-type"] == media_type


async def test_no_file_holds_another_users_points(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.services.history.write_many(walk(ann, 10))
    for name in ("gpx", "geojson", "csv"):
        answer = await stack.get(f"/v1/me/history?format={name}", bob)
        assert "41.0" not in answer.text


async def test_a_thinned_track_stays_within_the_tolerance(stack: Stack) -> None:
    ann, points = await walked(stack)
    whole = len(points)
    answer = await stack.get("/v1/me/history?format=csv&simplify_m=25", ann)
    kept = [tuple(map(float, line.split(",")[2:4])) for line in answer.text.splitlines()[1:]]
    assert 20 < len(kept) < whole / 10
    assert kept[0] == rounded(points)[0]
    assert kept[-1] == rounded(points)[-1]
    for lat_deg, lon_deg in rounded(points)[::7]:
        assert min(_distance_to_leg(lat_deg, lon_deg, a, b) for a, b in pairwise(kept)) < 26


def _distance_to_leg(lat_deg: float, lon_deg: float, a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """By brute force: the least distance to a hundred points of the leg."""
    parts = [(a[0] + (b[0] - a[0]) * part / 100, a[1] + (b[1] - a[1]) * part / 100) for part in range(101)]
    near = min(parts, key=lambda at: (at[0] - lat_deg) ** 2 + ((at[1] - lon_deg) * 0.75) ** 2)
    return distance_m(lat_deg, lon_deg, *near)


async def test_thinned_pages_join_to_the_whole_interval(stack: Stack) -> None:
    ann, points = await walked(stack, 500)
    found: list[int] = []
    cursor = ""
    for _ in range(10):
        body = (await stack.get(f"/v1/me/history?limit=100&simplify_m=25{cursor}", ann)).json()
        found += [item["recorded_at_ms"] for item in body["items"]]
        assert len(body["items"]) < 50
        if body["next_cursor"] is None:
            break
        cursor = f"&cursor={body['next_cursor']}"
    assert found == sorted(set(found), reverse=True)
    assert (found[0], found[-1]) == (points[-1].location.recorded_at_ms, points[0].location.recorded_at_ms)


@pytest.mark.parametrize(
    "query", ["format=kml", "simplify_m=-1", "simplify_m=x", "simplify_m=nan", "simplify_m=100001"]
)
async def test_a_wrong_format_or_tolerance_is_refused(stack: Stack, query: str) -> None:
    ann = await stack.user("ann")
    assert_problem(await stack.get(f"/v1/me/history?{query}", ann), 422, "invalid_request")
