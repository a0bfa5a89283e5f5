from __future__ import annotations

import pytest

from nearby.changes import TokensRevoked
from nearby.errors import Conflict
from nearby.model import UserId
from social_graph.graph import SocialGraph
from social_graph.passwords import Passwords
from tests.social_graph import raw
from tests.social_graph.clock import NOW_MS, HeldClock
from tests.social_graph.conftest import REFRESH_LIFETIME_S
from tests.social_graph.people import PASSWORD, person


async def _refresh_token(graph: SocialGraph, handle: str = "ann") -> str:
    grant = await graph.credentials.log_in(handle, PASSWORD)
    assert grant is not None
    return grant.refresh_token


async def test_a_handle_belongs_to_one_user(graph: SocialGraph) -> None:
    await person(graph, "ann")
    with pytest.raises(Conflict) as caught:
        await person(graph, "ann")
    assert caught.value.code == "handle_taken"


async def test_only_the_right_password_logs_in(graph: SocialGraph) -> None:
    ann = await person(graph, "ann")
    grant = await graph.credentials.log_in("ann", PASSWORD)
    assert grant is not None
    assert grant.user_id == ann
    assert grant.issued_at_ms == NOW_MS
    assert await graph.credentials.log_in("ann", PASSWORD + "x") is None


async def test_an_unknown_handle_costs_one_verification_like_a_wrong_password(
    graph: SocialGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    await person(graph, "ann")
    hashes: list[str] = []
    verify = Passwords.verify

    async def counted(self: Passwords, password_hash: str, password: str) -> bool:
        hashes.append(password_hash.rsplit("$", 2)[0])
        return await verify(self, password_hash, password)

    monkeypatch.setattr(Passwords, "verify", counted)
    assert await graph.credentials.log_in("ann", "not her password") is None
    assert await graph.credentials.log_in("nobody", "not her password") is None
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]


async def test_a_password_changed_while_the_old_one_is_checked_wins(
    graph: SocialGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await person(graph, "ann")
    verify = Passwords.verify

    async def slow(self: Passwords, password_hash: str, password: str) -> bool:
        await graph.credentials.change_password(ann, "another password", NOW_MS)
        return await verify(self, password_hash, password)

    monkeypatch.setattr(Passwords, "verify", slow)
    assert await graph.credentials.log_in("ann", PASSWORD) is None


async def test_neither_passwords_nor_refresh_tokens_are_stored(graph: SocialGraph, database_url: str) -> None:
    await person(graph, "ann")
    token = await _refresh_token(graph)
    stored = await raw.dump(database_url)
    assert "ann" in stored
    assert PASSWORD not in stored
    assert token not in stored


async def test_a_refresh_token_is_good_once(graph: SocialGraph) -> None:
    ann = await person(graph, "ann")
    token = await _refresh_token(graph)
    grant = await graph.refresh_tokens.rotate(token)
    assert grant is not None
    assert grant.user_id == ann
    assert grant.refresh_token != token
    assert await graph.refresh_tokens.rotate(token) is None


async def test_using_a_refresh_token_twice_ends_its_family_and_no_other(graph: SocialGraph) -> None:
    await person(graph, "ann")
    stolen, elsewhere = await _refresh_token(graph), await _refresh_token(graph)
    successor = await graph.refresh_tokens.rotate(stolen)
    assert successor is not None
    assert await graph.refresh_tokens.rotate(stolen) is None
    assert await graph.refresh_tokens.rotate(successor.refresh_token) is None
    assert await graph.refresh_tokens.rotate(elsewhere) is not None


async def test_a_refresh_token_ends_at_its_time(graph: SocialGraph, clock: HeldClock) -> None:
    await person(graph, "ann")
    token = await _refresh_token(graph)
    clock.advance(REFRESH_LIFETIME_S - 0.001)
    successor = await graph.refresh_tokens.rotate(token)
    assert successor is not None
    clock.advance(REFRESH_LIFETIME_S)
    assert await graph.refresh_tokens.rotate(successor.refresh_token) is None


async def test_logging_in_forgets_expired_refresh_tokens(
    graph: SocialGraph, clock: HeldClock, database_url: str
) -> None:
    await person(graph, "ann")
    await _refresh_token(graph)
    clock.advance(REFRESH_LIFETIME_S)
    await _refresh_token(graph)
    assert await raw.scalar(database_url, "SELECT count(*) FROM refresh_tokens") == 1


async def test_a_made_up_refresh_token_is_refused(graph: SocialGraph) -> None:
    assert await graph.refresh_tokens.rotate("made up") is None


async def test_logging_out_everywhere_ends_refresh_tokens_and_enters_the_feed(graph: SocialGraph) -> None:
    ann = await person(graph, "ann")
    token = await _refresh_token(graph)
    changes = await graph.credentials.revoke_tokens(ann, NOW_MS)
    assert changes == [TokensRevoked(1, ann, NOW_MS + 1)]
    assert await graph.changes.changes_after(0, 10) == changes
    assert await graph.credentials.valid_from_ms(ann) == NOW_MS + 1
    assert await graph.refresh_tokens.rotate(token) is None


async def test_a_log_in_in_the_millisecond_of_a_log_out_is_not_revoked_by_it(graph: SocialGraph) -> None:
    ann = await person(graph, "ann")
    await graph.credentials.revoke_tokens(ann, NOW_MS)
    grant = await graph.credentials.log_in("ann", PASSWORD)
    assert grant is not None
    assert grant.issued_at_ms == await graph.credentials.valid_from_ms(ann)


async def test_a_log_out_ends_a_token_from_a_server_whose_clock_is_ahead(graph: SocialGraph) -> None:
    ann = await person(graph, "ann")
    await graph.credentials.revoke_tokens(ann, NOW_MS + 5_000)
    assert await graph.credentials.valid_from_ms(ann) == NOW_MS + 5_001
    await graph.credentials.revoke_tokens(ann, NOW_MS)
    assert await graph.credentials.valid_from_ms(ann) == NOW_MS + 5_001, "it never goes back"


async def test_a_new_password_replaces_the_old_and_logs_out_everywhere(graph: SocialGraph) -> None:
    ann = await person(graph, "ann")
    token = await _refresh_token(graph)
    changes = await graph.credentials.change_password(ann, "another password", NOW_MS)
    assert changes == [TokensRevoked(1, ann, NOW_MS + 1)]
    assert await graph.refresh_tokens.rotate(token) is None
    assert await graph.credentials.log_in("ann", PASSWORD) is None
    assert await graph.credentials.log_in("ann", "another password") is not None


async def test_an_unknown_user_has_no_instant_and_nothing_to_revoke(graph: SocialGraph) -> None:
    nobody = UserId("00000000-0000-4000-8000-000000000000")
    assert await graph.credentials.valid_from_ms(nobody) is None
    assert await graph.credentials.revoke_tokens(nobody, NOW_MS) == []
