"""Ports are chosen once, before anything starts."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from cli.up.errors import StartError
from cli.up.listen_ports import reserve_ports
from http_port.serve import listen

HOST = "127.0.0.1"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


def test_each_port_left_open_becomes_a_free_one_of_its_own() -> None:
    with reserve_ports(HOST, 0, [0, 0]) as ports:
        chosen = [
            ports.api,
            ports.api_admin,
            ports.api_internal,
            *ports.gateways,
            *ports.gateway_admins,
            ports.history_writer_admin,
        ]
    assert len(chosen) == 8
    assert all(chosen)
    assert len(set(chosen)) == 8


def test_a_process_can_listen_on_its_reserved_port_again_and_again() -> None:
    with reserve_ports(HOST, 0, [0]) as ports:
        for _ in range(2):
            with listen(HOST, ports.api) as server:
                server.listen()
                socket.create_connection((HOST, ports.api), timeout=5).close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a reserved port is not held")
def test_nobody_else_is_given_a_reserved_port() -> None:
    with reserve_ports(HOST, 0, [0]) as ports, socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind((HOST, ports.api))


def test_a_taken_port_is_refused_with_its_number_and_option(taken_port: int) -> None:
    with (
        pytest.raises(StartError, match=f"port {taken_port} of --api-port is taken"),
        reserve_ports(HOST, taken_port, [0]),
    ):
        pass
    with (
        pytest.raises(StartError, match=f"port {taken_port} of --gateway-ports is taken") as refusal,
        reserve_ports(HOST, 0, [0, taken_port]),
    ):
        pass
    assert refusal.value.exit_status == 2


def test_a_port_named_twice_is_refused() -> None:
    with pytest.raises(StartError, match="port 8080 is named twice"), reserve_ports(HOST, 8080, [8081, 8080]):
        pass


def test_an_address_of_another_machine_is_refused_by_its_variable() -> None:
    with pytest.raises(StartError, match="NEARBY_HOST"), reserve_ports("192.0.2.1", 0, [0]):
        pass
