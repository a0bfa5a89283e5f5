"""docs/runbooks/friends-are-stale.md, followed for a pair whose gateway hangs."""

from __future__ import annotations

import signal
from pathlib import Path

from nearby_client import NearbyApi
from tests.support.eventually import eventually
from tests.support.people import befriend, sign_up
from tests.support.runbook import Reader, following
from tests.support.stack import running_stack

HERE, NEAR, ELSEWHERE = (41.88, -87.63), (41.881, -87.63), (42.5, -87.63)


async def test_why_somebody_is_not_seen_is_told_and_a_hanging_gateway_is_found_and_ended(tmp_path: Path) -> None:
    async with running_stack(tmp_path, {"NEARBY_MAX_SPEED_MPS": "0"}) as stack, NearbyApi(stack.api_url) as api:
        ann, ben = await sign_up(api), await sign_up(api)
        await befriend(ann, ben)
        handles = [(await person.account.me()).handle for person in (ann, ben)]
        async with (
            following("friends-are-stale.md", stack, VIEWER=handles[0], FRIEND=handles[1]) as reader,
            ben.online(stack.gateways[1].ws_url) as bens_phone,
            ann.online() as anns_phone,
        ):
            await reader.follow("")
            assert "is inactive, the cache knows no location" in await reader.follow("Check: one pair")
            anns_phone.report(*HERE)
            bens_phone.report(*ELSEWHERE)
            await eventually(lambda: says(reader, "is out of the radius"), within_s=20)
            bens_phone.report(*NEAR)
            await eventually(lambda: ben.user_id in anns_phone.friends)
            await reader.follow("Verify")
            await reader.follow("Check: everybody")

            hanging = stack.kill("gw-1", signal.SIGSTOP)
            await reader.follow("Act")
            await stack.restarted("gw-1", hanging)
            await eventually(lambda: anns_phone.connected and ben.user_id in anns_phone.friends, within_s=35)
            await reader.follow_until_true("Verify")


async def says(reader: Reader, text: str) -> bool:
    return text in await reader.follow("Check: one pair")
