"""Traces of a whole stack, taken by a collector: an arrival into the API, a report across pub/sub, nothing private."""

from __future__ import annotations

import struct
from pathlib import Path

from nearby_client import NearbyApi
from tests.support.collector import running_collector
from tests.support.eventually import eventually
from tests.support.people import befriend, sign_up
from tests.support.stack import ANY_PORTS, running_stack

LAT, LON = 41.8812345, -87.6254321


async def test_an_arrival_and_a_report_are_followed_through_every_process(tmp_path: Path) -> None:
    async with running_collector() as collector:
        settings = {"NEARBY_TRACES_URL": collector.url, "NEARBY_TRACES_PART": "1"}
        async with running_stack(tmp_path, settings, ANY_PORTS) as stack, NearbyApi(stack.api_url) as api:
            anna, ben = await sign_up(api), await sign_up(api)
            await befriend(anna, ben)
            here, there = stack.gateways
            async with anna.online(here.ws_url), ben.online(there.ws_url):
                anna.client.report(LAT, LON)
                ben.client.report(LAT, LON)
                await eventually(lambda: anna.user_id in ben.map and ben.user_id in anna.map, within_s=10)
                anna.client.report(LAT + 0.0005, LON)
                await eventually(lambda: ben.map[anna.user_id] > 50, within_s=10)
            token = await anna.account.token()

        # The processes have ended, and sent what they had.
        arrivals = collector.named("connect")
        assert {span.instance for span in arrivals} == {here.id, there.id}
        for arrival in arrivals:
            steps = collector.children(arrival)
            assert steps.keys() == {
                "subscribe to oneself",
                "read the friend list",
                "subscribe to friends",
                "read the cache",
            }
            answered = collector.children(steps["read the friend list"])["POST /internal/v1/friend-lists"]
            assert (answered.service, answered.trace_id) == ("nearby-api", arrival.trace_id)

        reports = {span.span_id: span for span in collector.named("report")}
        assert {span.instance for span in reports.values()} == {here.id, there.id}
        assert all(span.attributes["nearby.stored"] == "bool_value: true" for span in reports.values())
        across = [(reports[span.parent_id], span) for span in collector.named("deliver") if span.parent_id in reports]
        assert (here.id, there.id) in {(report.instance, deliver.instance) for report, deliver in across}
        for report, deliver in across:
            assert deliver.trace_id == report.trace_id
            assert report.begin_ns < deliver.begin_ns <= deliver.end_ns

        sent = b"".join(collector.bodies)
        for person in (anna, ben):
            assert person.user_id.encode() not in sent
        assert token.rsplit(".", 1)[1].encode() not in sent
        for coordinate in (LAT, LON):
            assert f"{coordinate:.4f}".encode() not in sent
            assert struct.pack("<d", coordinate) not in sent


async def test_a_collector_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    settings = {"NEARBY_TRACES_URL": "http://127.0.0.1:9/v1/traces", "NEARBY_TRACES_PART": "1"}
    async with running_stack(tmp_path, settings, ANY_PORTS) as stack, NearbyApi(stack.api_url) as api:
        anna, ben = await sign_up(api), await sign_up(api)
        await befriend(anna, ben)
        here, there = stack.gateways
        async with anna.online(here.ws_url), ben.online(there.ws_url):
            anna.client.report(LAT, LON)
            ben.client.report(LAT, LON)
            await eventually(lambda: anna.user_id in ben.map and ben.user_id in anna.map, within_s=10)
