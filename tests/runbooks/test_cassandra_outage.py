"""docs/runbooks/cassandra-outage.md, followed while a real node stands still and after it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import cassandra
from tests.support.cassandra import CassandraNode, migrate
from tests.support.eventually import eventually
from tests.support.runbook import Reader, following
from tests.support.stack import running_stack
from tests.support.steady import SETTINGS, steady_crowd

pytestmark = pytest.mark.xdist_group("cassandra")


async def test_what_waited_while_cassandra_was_away_is_stored_without_anybody_doing_anything(
    tmp_path: Path, shared_cassandra: CassandraNode
) -> None:
    url = shared_cassandra.fresh_url()
    migrate(url, cassandra.SETTINGS)
    environ = {**SETTINGS, **cassandra.SETTINGS, "NEARBY_HISTORY_URL": url}
    async with running_stack(tmp_path, environ) as stack, steady_crowd(stack, 10, 4) as crowd:
        reporter = crowd.reporters[0]
        async with following("cassandra-outage.md", stack, USER_ID=reporter) as reader:
            shared_cassandra.freeze()
            try:
                async with crowd.reporting(20):
                    await eventually(lambda: says(reader, "history is unavailable"), within_s=60)
            finally:
                shared_cassandra.thaw()
            await eventually(lambda: crowd.lost() == [], within_s=5)
            await reader.follow_until_true("Verify", within_s=90)


async def says(reader: Reader, text: str) -> bool:
    printed = await reader.follow("Check")
    assert text in printed, printed
    return True
