from __future__ import annotations

import asyncio

from nearby.model import UserId
from social_graph.graph import SocialGraph
from tests.social_graph import raw
from tests.social_graph.clock import NOW_MS

ISSUER = "https://issuer.example"


async def _log_in(graph: SocialGraph, subject: str, issuer: str = ISSUER) -> UserId:
    grant = await graph.external_identities.log_in(issuer, subject, "Ann", NOW_MS)
    assert grant is not None
    return grant.user_id


async def test_a_subject_is_one_user_even_if_its_first_requests_come_at_once(
    graph: SocialGraph, database_url: str
) -> None:
    user_ids = await asyncio.gather(*(_log_in(graph, "subject-1") for _ in range(5)))
    assert len(set(user_ids)) == 1
    assert await raw.scalar(database_url, "SELECT count(*) FROM users") == 1


async def test_the_same_subject_of_another_issuer_is_somebody_else(graph: SocialGraph) -> None:
    assert await _log_in(graph, "subject-1") != await _log_in(graph, "subject-1", "https://other.example")


async def test_a_log_in_earns_a_refresh_token_and_there_is_no_password(graph: SocialGraph) -> None:
    grant = await graph.external_identities.log_in(ISSUER, "subject-1", "Ann", NOW_MS)
    assert grant is not None
    assert await graph.refresh_tokens.rotate(grant.refresh_token) is not None
    person = await graph.users.get(grant.user_id)
    assert person.display_name == "Ann"
    assert await graph.credentials.log_in(person.handle, "-") is None


async def test_a_token_of_before_a_log_out_everywhere_earns_nothing(graph: SocialGraph) -> None:
    user_id = await _log_in(graph, "subject-1")
    await graph.credentials.revoke_tokens(user_id, NOW_MS)
    assert await graph.external_identities.log_in(ISSUER, "subject-1", "Ann", NOW_MS) is None
    assert await graph.external_identities.log_in(ISSUER, "subject-1", "Ann", NOW_MS + 1) is not None
