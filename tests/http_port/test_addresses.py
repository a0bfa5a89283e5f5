"""What a process calls itself, where it listens on more than that."""

from __future__ import annotations

import pytest

from http_port.addresses import advertised


@pytest.mark.parametrize(
    ("url", "host", "told"),
    [
        ("http://127.0.0.1:8080", "", "http://127.0.0.1:8080"),
        ("http://0.0.0.0:8080", "10.1.2.3", "http://10.1.2.3:8080"),
        ("ws://0.0.0.0:8081/v1/ws", "gw-0.gateways", "ws://gw-0.gateways:8081/v1/ws"),
        ("ws://[::]:8081/v1/ws", "fd00::7", "ws://[fd00::7]:8081/v1/ws"),
    ],
)
def test_the_advertised_host_takes_the_place_of_the_one_listened_on(url: str, host: str, told: str) -> None:
    assert advertised(url, host) == told
