"""The close codes of protocol §5."""

from __future__ import annotations

import pytest

from nearby.close_codes import AfterClose, CloseCode, after_close


@pytest.mark.parametrize(
    ("codes", "then"),
    [
        ((1001, 1012, 1013, 4408, 4410, 4413, 4500), AfterClose.RECONNECT),
        ((1002, 1003, 1007, 1009, 4400, 4403, 4409), AfterClose.STOP),
        ((4401,), AfterClose.RENEW_TOKEN),
        ((4429,), AfterClose.WAIT_A_MINUTE),
        ((1000, 1005, 1006, 1011, 1015, 3000, 4999, 0), AfterClose.RECONNECT),
    ],
)
def test_a_client_does_after_each_close_what_the_protocol_says(codes: tuple[int, ...], then: AfterClose) -> None:
    assert {after_close(code) for code in codes} == {then}


def test_our_own_codes_are_in_the_private_range() -> None:
    # RFC 6455 §7.4.2
    ours = [code for code in CloseCode if code >= 1100]
    assert ours
    assert all(4000 <= code <= 4999 for code in ours)
