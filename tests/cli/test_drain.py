"""``nearby gateways`` and ``nearby drain`` against real gateways: what they print, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.support.eventually import eventually
from tests.support.light_clients import LightClient
from tests.support.seeding import seed
from tests.support.stack import ANY_PORTS, Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

THREE = tuple("0,0,0" if argument == "0,0" else argument for argument in ANY_PORTS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Three gateways, of which ``gw-3`` is drained by the last test."""
    async with running_stack(tmp_path_factory.mktemp("stack"), arguments=THREE) as running:
        yield running


async def start(*arguments: str, **environ: str) -> Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NEARBY_")}
    command = (sys.executable, "-m", "cli", *arguments)
    return await asyncio.create_subprocess_exec(
        *command, env={**clean, **environ}, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )


async def nearby(*arguments: str, **environ: str) -> tuple[int | None, str, str]:
    """Run a command to its end; return its exit status and what it wrote."""
    process = await start(*arguments, **environ)
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def at(stack: Stack) -> tuple[str, str]:
    return "--data-dir", str(stack.data_dir)


async def test_every_gateway_has_a_row_with_its_state_and_its_numbers(stack: Stack) -> None:
    status, out, _ = await nearby("gateways", *at(stack))
    assert status == 0
    for word in ("gw-1", "gw-2", "gw-3", "serving", "connections", "reports/s", "ring epoch", "loop lag ms"):
        assert word in out


async def test_the_rows_as_json_count_connections_and_reports(stack: Stack) -> None:
    (token, *_) = seed(stack.data_dir, 3, 2).values()
    client = LightClient(token)
    await client.connect(stack.gateways[1].ws_url)
    reporting = asyncio.ensure_future(report_for_ever(client))
    try:
        status, out, _ = await nearby("gateways", *at(stack), "--json")
    finally:
        reporting.cancel()
        client.close()
        await client.left.wait()
    first, second, third = json.loads(out)
    assert status == 0
    assert [row["id"] for row in (first, second, third)] == ["gw-1", "gw-2", "gw-3"]
    assert (second["state"], second["connections"], second["ring_epoch"]) == ("serving", 1, 1)
    assert second["reports_per_s"] > 0
    assert (first["connections"], first["reports_per_s"]) == (0, 0)
    assert second["loop_lag_ms"] >= 0


async def report_for_ever(client: LightClient) -> None:
    while True:
        client.report(41.88, -87.63)
        await asyncio.sleep(0.5)


async def test_a_gateway_that_does_not_answer_is_shown_as_unreachable_and_the_exit_status_says_so(stack: Stack) -> None:
    (here, *_) = stack.gateways
    nobody = f"http://127.0.0.1:{dead_port()}"
    arguments = ("gateways", "--json", "--admin", here.admin_url, "--admin", nobody)
    status, out, _ = await nearby(*arguments, NEARBY_ADMIN_TOKEN=stack.admin_token)
    assert status == 1
    assert {row["id"]: row["state"] for row in json.loads(out)} == {"gw-1": "serving", nobody: "unreachable"}


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def test_what_is_wrong_is_told_in_one_line(stack: Stack, tmp_path: Path) -> None:
    (first, *_) = stack.gateways
    admin = ("--admin", first.admin_url)
    nobody = f"http://127.0.0.1:{dead_port()}"
    token = {"NEARBY_ADMIN_TOKEN": stack.admin_token}
    expected = [
        (
            2,
            f"error: no stack is ready in {tmp_path}; name --data-dir or --admin",
            await nearby("drain", "gw-1", "--data-dir", str(tmp_path)),
        ),
        (
            2,
            "error: there is no gateway gw-9; there are: gw-1, gw-2, gw-3",
            await nearby("drain", "gw-9", *at(stack)),
        ),
        (
            2,
            "error: NEARBY_ADMIN_TOKEN is not set; with --admin it must be",
            await nearby("drain", "gw-1", *admin),
        ),
        (
            1,
            f"error: {first.admin_url} answers 401 unauthorized: show the admin token",
            await nearby("drain", "gw-1", *admin, NEARBY_ADMIN_TOKEN="wrong"),
        ),
        (
            1,
            f"error: no gateway answers at {nobody} (ConnectError)",
            await nearby("drain", "gw-1", "--admin", nobody, **token),
        ),
        (
            1,
            f"error: no gateway answers at {stack.api_admin_url} (what answers there is none: 404)",
            await nearby("drain", "gw-1", "--admin", stack.api_admin_url, **token),
        ),
        (
            1,
            f"error: {first.admin_url} answers 401 unauthorized: show the admin token",
            await nearby("gateways", *admin, NEARBY_ADMIN_TOKEN="wrong"),
        ),
    ]
    for status, line, found in expected:
        assert found == (status, "", f"{line}\n")


async def test_options_that_make_no_sense_are_refused() -> None:
    for arguments, word in (
        ((), "name the gateways"),
        (("gw-1", "--status", "--cancel"), "exclude each other"),
        (("gw-1", "--deadline", "soon"), "is not a duration"),
    ):
        status, _, err = await nearby("drain", *arguments)
        assert (status, word in err) == (2, True)


async def test_if_one_gateway_cannot_be_marked_none_is_drained(stack: Stack) -> None:
    first, second, _ = stack.gateways
    stack.kill("gw-2", signal.SIGSTOP)
    try:
        status, _, err = await nearby("drain", "gw-1", "gw-2", *at(stack))
    finally:
        stack.kill("gw-2", signal.SIGCONT)
    assert (status, err) == (1, f"error: no gateway answers at {second.admin_url} (ReadTimeout)\n")
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"{first.admin_url}/readyz")).status_code == 200
    # What was sent to it while it was frozen it has done since.
    await nearby("drain", "gw-2", "--cancel", *at(stack))


async def test_ctrl_c_stops_watching_and_the_drain_goes_on_to_its_end(stack: Stack) -> None:
    tokens = seed(stack.data_dir, 9, 2)
    clients = [LightClient(token, stubborn=True) for token in tokens.values()]
    for client in clients:
        await client.connect(stack.gateways[2].ws_url)
    orders = ("--rate", "3", "--deadline", "12s", "--reason", "new kernel")
    process = await start("drain", "gw-3", *orders, *at(stack))
    await eventually(lambda: any(client.told for client in clients), within_s=15)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        _, told = await process.communicate()
    assert process.returncode == 130
    assert "No longer watching; it goes on." in told.decode()

    status, out, _ = await nearby("drain", "--status", *at(stack), "--json")
    known = {each["gateway_id"]: each for each in json.loads(out)}
    assert status == 0
    assert known["gw-1"]["state"] == "serving"
    assert (known["gw-3"]["state"], known["gw-3"]["reason"]) == ("sending_away", "new kernel")
    assert known["gw-3"]["actor"].endswith(f"@{socket.gethostname()}")
    status, out, _ = await nearby("drain", "gw-3", "--detach", *at(stack))
    assert status == 0, "what is being drained already may be asked for again"
    assert out.startswith(("gw-3: sending away", "gw-3: drained"))

    status, out, err = await nearby("drain", "gw-3", *at(stack))
    assert (status, out) == (0, "gw-3: drained, 9 of 9 gone\n")
    assert "gw-3: sending away" in err
    await stack.says("gw-3 is drained and has ended")
    await eventually(lambda: [gateway.id for gateway in stack.gateways] == ["gw-1", "gw-2"])
