"""``nearby accounts`` against a real API: what it prints, how it ends, and how fast it goes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from nearby_client import NearbyApi
from tests.support.people import sign_up
from tests.support.seeding import seed
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

ARGUMENTS = ("--api-port", "0", "--gateway-ports", "0", "--shards", "1", "--spares", "0", "--ephemeral")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("stack"), arguments=ARGUMENTS) as running:
        yield running


async def accounts(*arguments: str, **environ: str) -> tuple[int | None, str, str]:
    """Run ``nearby accounts …`` to its end; return its exit status and what it wrote."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NEARBY_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "accounts", *arguments),
        env={**clean, **environ},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def at(stack: Stack) -> tuple[str, str]:
    return "--data-dir", str(stack.data_dir)


async def test_who_is_unknown_is_named_and_the_others_are_logged_out(stack: Stack) -> None:
    (user, *_) = seed(stack.data_dir, 3, 2)
    status, out, err = await accounts("revoke", user, "nobody", "--reason", "a test", *at(stack))
    assert (status, out, err) == (1, "1 users are logged out everywhere\n", "there is no nobody\n")


async def test_everybody_goes_page_by_page_at_the_rate_that_was_asked_for_and_goes_on_behind_somebody(
    stack: Stack,
) -> None:
    users = sorted(seed(stack.data_dir, 12, 2))
    began_s = time.monotonic()
    status, out, err = await accounts(
        "revoke", "--everyone", "--after", users[5], "--rate", "3", "--reason", "a test", "--json", *at(stack)
    )
    assert (status, err) == (0, "")
    revoked_count = json.loads(out)["revoked"]
    assert 6 <= revoked_count <= 9  # of the test before, some may come behind
    assert time.monotonic() - began_s >= (revoked_count - 3) / 3


async def test_an_account_is_erased_and_its_end_told(stack: Stack) -> None:
    async with NearbyApi(stack.api_url) as api:
        ann = await sign_up(api)
    named = ("--api-admin", stack.api_admin_url)
    status, out, _ = await accounts(
        "erase", ann.user_id, "--reason", "a letter", *named, NEARBY_ADMIN_TOKEN=stack.admin_token
    )
    assert (status, out.splitlines()[0]) == (0, f"{ann.user_id}: the account does not exist")
    status, out, _ = await accounts("erase", ann.user_id, "--reason", "a letter", *at(stack))
    assert status == 1
    status, out, _ = await accounts("erasure", ann.user_id, "--json", *at(stack))
    assert (status, json.loads(out)["exists"]) in ((0, False), (3, False))


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("revoke", "--reason", "x"), 2, "name users, or --everyone"),
        (("revoke", "ann", "--everyone", "--reason", "x"), 2, "name users, or --everyone"),
        (("revoke", "ann"), 2, "--reason"),
        (("erasure", "ann", "--api-admin", "http://127.0.0.1:1"), 2, "NEARBY_ADMIN_TOKEN is not set"),
        (("erasure", "ann", "--data-dir", "/nowhere"), 2, "no stack is ready"),
    ],
)
async def test_what_the_caller_must_change_is_told_in_a_line(
    arguments: tuple[str, ...], status: int, says: str
) -> None:
    ended, _, err = await accounts(*arguments)
    assert ended == status
    assert says in err


async def test_an_api_that_does_not_answer_is_told_in_a_line() -> None:
    status, _, err = await accounts(
        "erasure", "ann", "--api-admin", "http://127.0.0.1:1", NEARBY_ADMIN_TOKEN="sixteen characters"
    )
    assert (status, err.startswith("error: no API answers at http://127.0.0.1:1")) == (1, True)
