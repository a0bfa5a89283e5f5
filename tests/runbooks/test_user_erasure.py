"""docs/runbooks/user-erasure.md, followed with a history store that is away at first."""

from __future__ import annotations

import signal
from pathlib import Path

from nearby_client import NearbyApi
from tests.support.eventually import eventually
from tests.support.history_probes import SqliteProbe
from tests.support.people import befriend, sign_up
from tests.support.runbook import Reader, following
from tests.support.stack import running_stack
from tests.support.traces import nothing_is_left

HERE = (41.88, -87.63)


async def test_an_account_erased_by_an_operator_is_gone_from_maps_at_once_and_from_every_store_when_all_answer(
    tmp_path: Path,
) -> None:
    async with running_stack(tmp_path) as stack, NearbyApi(stack.api_url) as api:
        ann, ben = await sign_up(api), await sign_up(api)
        await befriend(ann, ben)
        handle = (await ann.account.me()).handle
        async with (
            following("user-erasure.md", stack, WHO=handle) as reader,
            ben.online() as bens_phone,
            ann.online() as anns_phone,
        ):
            bens_phone.report(*HERE)
            anns_phone.report(*HERE)
            await eventually(lambda: ann.user_id in bens_phone.friends)
            await reader.follow("")
            assert ann.user_id in await reader.follow("Check")

            stack.kill("cache", signal.SIGSTOP)
            try:
                await reader.follow("Act")
                await eventually(lambda: ann.user_id not in bens_phone.friends, within_s=5)
                await reader.follow_until_true("It does not end")
                assert "account waits to be finished" in await still_waiting(reader)
            finally:
                stack.kill("cache", signal.SIGCONT)
            await reader.follow_until_true("Verify", within_s=60)
        await nothing_is_left(stack, SqliteProbe(stack.data_dir), ann)


async def still_waiting(reader: Reader) -> str:
    return await reader.type('nearby accounts erasure "$USER_ID" || [ $? = 3 ]')
