from __future__ import annotations

import asyncio

import pytest

from nearby.errors import StoreUnavailable
from social_graph.passwords import Passwords


async def test_a_hash_names_argon2id_and_the_parameters_of_owasp() -> None:
    assert (await Passwords().hash("a long password")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_the_same_password_never_has_the_same_hash_and_verifies_against_each() -> None:
    passwords = Passwords()
    one, other = await passwords.hash("a long password"), await passwords.hash("a long password")
    assert one != other
    assert await passwords.verify(one, "a long password")
    assert await passwords.verify(other, "a long password")
    assert not await passwords.verify(one, "a long passwore")


async def test_who_waits_too_long_for_a_turn_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("social_graph.passwords.WAIT_S", 0)
    passwords = Passwords()
    outcomes = await asyncio.gather(*(passwords.hash("a long password") for _ in range(8)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable)]
    assert len(refused) == 6, "two are computed at once"
