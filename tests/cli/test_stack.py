"""A stack that does not come up says what it waited for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.up import stack as stack_module
from cli.up.data_dir import open_data_dir
from cli.up.errors import ProcessFailed
from cli.up.plan import API, Kind, Ports, Programs, plan
from cli.up.secrets_file import load_secrets
from cli.up.stack import StackPlan, run
from cli.up.valkey import valkey_server
from nearby.settings import DiscoverySettings, load
from tests.cli.processes import mentioning


@pytest.fixture
def stack_plan(tmp_path: Path) -> Iterator[StackPlan]:
    """Valkey servers, and in place of the API a process that does nothing."""
    programs = Programs(sys.executable, valkey_server())
    with open_data_dir(tmp_path, ephemeral=True) as (layout, lock):
        secrets = load_secrets(layout.secrets_file, {})
        specs = plan(layout, Ports("127.0.0.1"), 1, secrets, programs, persistent=False)
        needed = [spec for spec in specs if spec.kind in (Kind.SHARD, Kind.CACHE)]
        idle_api = next(replace(spec, argv=("sleep", "60")) for spec in specs if spec.name == API)
        discovery = load(DiscoverySettings, {"NEARBY_DISCOVERY": layout.discovery_url})
        yield StackPlan(layout, lock, [*needed, idle_api], ("true",), (), dict(os.environ), "token", discovery)


async def test_a_process_that_is_not_ready_in_time_ends_the_start_and_is_named(
    stack_plan: StackPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_module, "START_TIMEOUT_S", 1.0)
    said: list[str] = []
    with pytest.RaisesGroup(
        pytest.RaisesExc(ProcessFailed, match="^api did not become ready in 1 s: it is not announced in discovery$")
    ):
        await run(stack_plan, said.append)
    assert [line.split()[0] for line in sorted(said)] == ["cache", "shard-1"]
    if sys.platform == "linux":
        assert mentioning(stack_plan.layout.data_dir) == []
