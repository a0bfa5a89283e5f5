"""What each process exports, asked of a live stack."""

from __future__ import annotations

import httpx
import pytest

from monitoring.local import targets
from tests.monitoring.conftest import Jobs, expositions
from tests.support.eventually import eventually
from tests.support.prometheus import exported_names, promtool
from tests.support.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMMON = ("process_", "python_", "nearby_")


async def test_promtool_finds_nothing_to_object_to_in_any_process(jobs: Jobs) -> None:
    for job, text in (await expositions(jobs)).items():
        checked = promtool("check", "metrics", stdin=text)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", ""), job


async def test_each_name_has_our_prefix_or_that_of_every_process(jobs: Jobs) -> None:
    for text in (await expositions(jobs)).values():
        names = exported_names(text)
        assert {name for name in names if not name.startswith(COMMON)} == set()
        assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "nearby_build_info"} <= names


async def test_a_friend_who_was_seen_shows_in_the_counters_of_each_objective(stack: Stack) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:

        async def samples() -> dict[str, float]:
            lines = []
            for addresses in targets(stack.document).values():
                for address in addresses:
                    lines += (await http.get(f"http://{address}/metrics")).text.splitlines()
            values: dict[str, float] = {}
            for line in lines:
                if line and line[0] != "#":
                    name, _, value = line.rpartition(" ")
                    values[name] = values.get(name, 0.0) + float(value)
            return values

        values = await samples()
        assert values['nearby_gateway_arrivals_total{end="served"}'] >= 2
        assert values["nearby_gateway_connections_accepted_total"] >= 2
        assert values["nearby_gateway_arrival_seconds_count"] >= 2
        assert values["nearby_gateway_reports_acknowledged_total"] >= 3
        assert values["nearby_gateway_history_points_appended_total"] >= 3
        assert values['nearby_gateway_fan_out_seconds_bucket{le="2.0"}'] > 0
        assert values['nearby_api_requests_total{method="POST",route="/v1/friend-requests",status="201"}'] >= 1

        async def stored() -> bool:
            values = await samples()
            appended = values["nearby_gateway_history_points_appended_total"]
            return values["nearby_history_points_written_total"] == appended

        await eventually(stored, 10)

        async def sampled() -> bool:
            return (await samples())['nearby_gateway_shown_locations_sampled_total{age="fresh"}'] >= 2

        await eventually(sampled, 30)
