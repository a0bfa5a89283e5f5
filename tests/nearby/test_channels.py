from __future__ import annotations

from nearby.channels import (
    approximate_channel,
    control_channel,
    is_approximate,
    is_location,
    location_channel,
    user_of,
)
from nearby.model import UserId

ANNA = UserId("00000000-0000-4000-8000-00000000000a")


def test_exact_and_approximate_locations_have_channels_of_their_own() -> None:
    exact, approximate = location_channel(ANNA), approximate_channel(ANNA)
    assert (exact, approximate) == (b"loc:" + ANNA.encode(), b"loc:" + ANNA.encode() + b":approx")
    assert is_location(exact)
    assert is_location(approximate)
    assert (is_approximate(exact), is_approximate(approximate)) == (False, True)
    assert {user_of(channel) for channel in (exact, approximate, control_channel(ANNA))} == {ANNA}
    assert not is_location(control_channel(ANNA))
