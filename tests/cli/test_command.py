"""The command line itself: help, version, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import main
from cli.up.plan import SECRET_VARIABLES
from cli.up.secrets_file import load_secrets
from nearby import __version__


def run(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments), env=environ, catch_exceptions=False)
    return result.exit_code, result.output


def test_version_is_that_of_the_package() -> None:
    assert run("--version") == (0, f"nearby {__version__}\n")


@pytest.mark.parametrize(
    "command", ["up", "simulate", "capacity", "gateways", "drain", "ring", "ring show", "ring resize", "ring replace"]
)
def test_help_of_each_command_shows_examples_a_line_each(command: str) -> None:
    status, output = run(*command.split(), "--help")
    assert status == 0
    lines = [line.strip() for line in output.splitlines()]
    assert "Examples:" in lines
    assert any(f"nearby {command} " in line for line in lines[lines.index("Examples:") :])


def test_without_a_command_the_commands_are_listed() -> None:
    _, output = run()
    assert "nearby up " in output
    assert all(f"  {command} " in output for command in ("simulate", "gateways", "drain", "ring"))


def test_print_env_shows_each_process_with_masked_secrets_and_makes_nothing(tmp_path: Path) -> None:
    secrets = load_secrets(tmp_path / "secrets.json", {})
    data_dir = tmp_path / "data"
    status, output = run("up", "--data-dir", str(data_dir), "--print-env", "--gateway-ports", "81,82", environ=secrets)
    assert status == 0
    for name in ("api", "writer-1", "gw-1", "gw-2", "keeper-1"):
        assert f" {name}: " in output
    assert f"NEARBY_DISCOVERY=file://{data_dir}/discovery" in output
    assert "NEARBY_PORT=82" in output
    for variable in SECRET_VARIABLES:
        assert f"{variable}=…" in output
    assert not any(secret in output for secret in secrets.values())
    assert not data_dir.exists()


@pytest.mark.parametrize("ports", ["", "one", "8081,", "8081;8082", "65536", "-1"])
def test_a_list_of_ports_that_is_none_is_refused(ports: str) -> None:
    status, output = run("up", f"--gateway-ports={ports}", "--print-env")
    assert status == 2
    assert "port" in output


@pytest.mark.parametrize("ensemble", ["zk", "zk:2181/chroot", "zk:2181,", "zk://h:2181", "u:p@zk:2181"])
def test_an_address_of_zookeeper_that_is_none_is_refused(ensemble: str) -> None:
    status, output = run("up", "--zookeeper", ensemble, "--print-env")
    assert status == 2
    assert "HOST:PORT" in output


def test_no_shards_are_refused() -> None:
    assert run("up", "--shards", "0", "--print-env")[0] == 2
