"""What ``nearby up`` decides before it starts anything."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from cli.up.plan import (
    DATABASE_URL,
    MASK,
    RING_AUTH,
    SECRET_VARIABLES,
    Kind,
    Layout,
    Ports,
    ProcessSpec,
    Programs,
    check_settings,
    environment,
    next_ring,
    plan,
    shown_settings,
    socket_paths_fit,
    with_spare,
)
from cli.up.secrets_file import load_secrets, masked_secrets
from nearby.errors import SettingsError
from nearby.ports import RingState

LAYOUT = Layout(Path("/data/a place"), Path("/data/run"))
PORTS = Ports("127.0.0.1", 8080, 9080, 9090, (8081, 8082), (9081, 9082), 9083)
PROGRAMS = Programs("/usr/bin/python3", "/usr/bin/valkey-server")


@pytest.fixture
def secrets(tmp_path: Path) -> Mapping[str, str]:
    return load_secrets(tmp_path / "secrets.json", {})


def specs(secrets: Mapping[str, str], *, shards: int = 2, persistent: bool = True) -> list[ProcessSpec]:
    return plan(LAYOUT, PORTS, shards, secrets, PROGRAMS, persistent=persistent)


def named(name: str, among: list[ProcessSpec]) -> ProcessSpec:
    return next(spec for spec in among if spec.name == name)


def test_a_stack_is_shards_a_cache_an_api_a_writer_and_a_gateway_for_each_port(secrets: Mapping[str, str]) -> None:
    assert [(spec.name, spec.kind) for spec in specs(secrets, shards=3)] == [
        ("shard-1", Kind.SHARD),
        ("shard-2", Kind.SHARD),
        ("shard-3", Kind.SHARD),
        ("spare-1", Kind.SPARE),
        ("cache", Kind.CACHE),
        ("api", Kind.API),
        ("writer-1", Kind.HISTORY_WRITER),
        ("gw-1", Kind.GATEWAY),
        ("gw-2", Kind.GATEWAY),
        ("keeper-1", Kind.RING_KEEPER),
    ]


def test_every_process_accepts_the_settings_planned_for_it(secrets: Mapping[str, str]) -> None:
    check_settings(specs(secrets), {})


def test_a_wrong_setting_of_the_caller_is_found_before_anything_starts(secrets: Mapping[str, str]) -> None:
    with pytest.raises(SettingsError, match="NEARBY_MAX_SPEED_MPS is 'fast'"):
        check_settings(specs(secrets), {"NEARBY_MAX_SPEED_MPS": "fast"})


def test_a_setting_of_the_caller_reaches_our_processes_but_not_addresses_and_ports(secrets: Mapping[str, str]) -> None:
    caller = {"NEARBY_MAX_SPEED_MPS": "0", "NEARBY_PORT": "1", "NEARBY_CACHE_URL": "redis://elsewhere:1", "HOME": "/"}
    gateway = environment(named("gw-2", specs(secrets)), caller)
    assert gateway["NEARBY_MAX_SPEED_MPS"] == "0"
    assert gateway["HOME"] == "/"
    assert gateway["NEARBY_PORT"] == "8082"
    assert gateway["NEARBY_CACHE_URL"] == "unix:///data/run/cache.sock"


def test_the_caller_may_name_another_history_store(secrets: Mapping[str, str]) -> None:
    elsewhere = {"NEARBY_HISTORY_URL": "cassandra://elsewhere/history"}
    for name in ("api", "writer-1"):
        assert (
            environment(named(name, specs(secrets)), {})["NEARBY_HISTORY_URL"]
            == "sqlite:////data/a place/history.sqlite"
        )
        assert (
            environment(named(name, specs(secrets)), elsewhere)["NEARBY_HISTORY_URL"] == elsewhere["NEARBY_HISTORY_URL"]
        )


def test_valkey_servers_get_none_of_our_variables(secrets: Mapping[str, str]) -> None:
    shard = environment(named("shard-1", specs(secrets)), {"NEARBY_ADMIN_TOKEN": "of the caller", "HOME": "/"})
    assert shard == {"HOME": "/"}


def test_a_process_is_given_only_the_secrets_that_it_reads(secrets: Mapping[str, str]) -> None:
    given = {spec.name: SECRET_VARIABLES & set(spec.settings) for spec in specs(secrets)}
    assert given["writer-1"] == {"NEARBY_ADMIN_TOKEN"}
    assert given["gw-1"] == given["api"] == SECRET_VARIABLES - {RING_AUTH}
    assert given["keeper-1"] == {"NEARBY_ADMIN_TOKEN", RING_AUTH}


def test_the_credentials_of_the_ring_reach_the_keeper_alone_even_if_the_caller_has_them(
    secrets: Mapping[str, str],
) -> None:
    caller = {RING_AUTH: "keeper:of the caller"}
    informed = [spec.name for spec in specs(secrets) if RING_AUTH in environment(spec, caller)]
    assert informed == ["keeper-1"]


def test_the_user_database_may_be_elsewhere_and_its_password_reaches_the_api_alone(secrets: Mapping[str, str]) -> None:
    url = "postgresql://somebody:hunter2@db.example:5432/users?sslmode=verify-full"
    layout = dataclasses.replace(LAYOUT, database=url)
    of_stack = plan(layout, PORTS, 1, secrets, PROGRAMS, persistent=True)
    check_settings(of_stack, {})
    caller = {DATABASE_URL: "postgresql://another:one@db.example/users"}
    assert [spec.name for spec in of_stack if DATABASE_URL in environment(spec, caller)] == ["api"]
    assert environment(named("api", of_stack), caller)[DATABASE_URL] == url
    shown = shown_settings(named("api", of_stack))
    assert f"{DATABASE_URL}=postgresql://somebody:{MASK}@db.example:5432/users?sslmode=verify-full" in shown
    assert "hunter2" not in f"{layout} {of_stack}"


def test_as_many_spares_as_wanted_are_started() -> None:
    layout_specs = plan(LAYOUT, PORTS, 1, masked_secrets(), PROGRAMS, persistent=False, spare_count=3)
    assert [spec.name for spec in layout_specs if spec.kind is Kind.SPARE] == ["spare-1", "spare-2", "spare-3"]


def test_a_stack_in_zookeeper_has_a_node_of_its_own_for_each_data_directory(secrets: Mapping[str, str]) -> None:
    def discovery(layout: Layout) -> str:
        of_stack = plan(layout, PORTS, 1, secrets, PROGRAMS, persistent=True)
        return named("gw-1", of_stack).settings["NEARBY_DISCOVERY"]

    one, other = (Layout(Path(directory), Path("/data/run"), "zk-1:2181,zk-2:2181") for directory in ("/a", "/b"))
    assert discovery(one).startswith("zk://zk-1:2181,zk-2:2181/nearby-")
    assert discovery(one) == discovery(one) != discovery(other)
    check_settings(plan(one, PORTS, 1, secrets, PROGRAMS, persistent=True), {})


def test_a_cache_elsewhere_is_told_to_those_who_use_it_and_holds_no_stream(secrets: Mapping[str, str]) -> None:
    url = "redis+sentinel://gateway:hunter2@cache-1,cache-2,cache-3/nearby"
    layout = Layout(Path("/data"), Path("/data/run"), cache=url)
    of_stack = plan(layout, PORTS, 1, secrets, PROGRAMS, persistent=True)
    users = [spec.name for spec in of_stack if spec.settings.get("NEARBY_CACHE_URL") == url]
    assert users == ["api", "gw-1", "gw-2"]
    assert named("gw-1", of_stack).settings["NEARBY_HISTORY_STREAM_URL"] == "unix:///data/run/cache.sock"
    assert not any("hunter2" in line for spec in of_stack for line in (*shown_settings(spec), repr(spec), repr(layout)))
    check_settings(of_stack, {})


def test_shown_settings_mask_each_secret(secrets: Mapping[str, str]) -> None:
    shown = [line for spec in specs(secrets) for line in shown_settings(spec)]
    assert "NEARBY_GATEWAY_ID=gw-1" in shown
    for variable, value in secrets.items():
        assert f"{variable}={MASK}" in shown
        assert not any(value in line for line in shown)


def test_no_secret_is_in_the_repr_of_a_plan_or_on_a_command_line(secrets: Mapping[str, str]) -> None:
    text = repr(specs(secrets))
    assert not any(value in text for value in secrets.values())


def test_only_the_cache_of_a_persistent_stack_writes_to_disk(secrets: Mapping[str, str]) -> None:
    def append_only(among: list[ProcessSpec]) -> dict[str, str]:
        return {spec.name: spec.argv[spec.argv.index("--appendonly") + 1] for spec in among if not spec.settings}

    assert append_only(specs(secrets)) == {"shard-1": "no", "shard-2": "no", "spare-1": "no", "cache": "yes"}
    assert set(append_only(specs(secrets, persistent=False)).values()) == {"no"}


def test_a_cache_that_writes_to_disk_may_finish_when_nearby_up_is_killed(secrets: Mapping[str, str]) -> None:
    ends = {spec.name: spec.on_parent_death for spec in specs(secrets)}
    assert ends.pop("cache") is signal.SIGTERM
    assert set(ends.values()) == {signal.SIGKILL}


def test_the_directory_of_discovery_is_quoted_in_its_url(secrets: Mapping[str, str]) -> None:
    assert named("api", specs(secrets)).settings["NEARBY_DISCOVERY"] == "file:///data/a%20place/discovery"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("::", "http://[::1]:80"),
        ("localhost", "http://localhost:80"),
    ],
)
def test_urls_are_usable_on_this_machine_whatever_address_is_listened_on(host: str, url: str) -> None:
    assert Ports(host).url(80) == url


def test_a_socket_path_that_is_too_long_or_not_plain_does_not_fit() -> None:
    assert socket_paths_fit(Path("/tmp/nearby/run"))
    assert socket_paths_fit(Path("/" + "x" * 83))
    assert not socket_paths_fit(Path("/" + "x" * 84))
    assert not socket_paths_fit(Path("/tmp/100%/run"))
    assert not socket_paths_fit(Path("/tmp/my data/run"))


NODES = {"shard-1": "unix:///a", "shard-2": "unix:///b"}


def test_the_first_ring_has_epoch_one() -> None:
    assert next_ring(None, NODES) == RingState(1, NODES)


def test_a_ring_that_is_in_force_is_not_written_again() -> None:
    assert next_ring(RingState(7, NODES), NODES) is None


@pytest.mark.parametrize("nodes", [{"shard-1": "unix:///a"}, NODES | {"shard-2": "unix:///elsewhere"}])
def test_other_shards_or_addresses_make_a_ring_of_the_next_epoch(nodes: dict[str, str]) -> None:
    assert next_ring(RingState(7, NODES), nodes) == RingState(8, nodes)


def test_other_spares_do_not_make_another_epoch() -> None:
    assert next_ring(RingState(7, NODES, spares=("unix:///s",)), NODES, ["unix:///t"]) == RingState(
        7, NODES, spares=("unix:///t",)
    )
    assert next_ring(RingState(7, NODES, spares=("unix:///s",)), NODES, ["unix:///s"]) is None


def test_a_server_that_is_back_is_a_spare_unless_any_ring_uses_it() -> None:
    ring = RingState(7, NODES, pending={"a": "unix:///c"}, previous={"a": "unix:///d"}, spares=("unix:///s",))
    added = with_spare(ring, "unix:///x")
    assert added is not None
    assert (added.epoch, added.spares) == (7, ("unix:///s", "unix:///x"))
    for used in ("unix:///a", "unix:///c", "unix:///d", "unix:///s"):
        assert with_spare(ring, used) is None
    assert with_spare(None, "unix:///x") is None


def test_a_resize_that_was_left_unfinished_is_given_up() -> None:
    assert next_ring(RingState(7, NODES, pending=NODES), NODES) == RingState(8, NODES)
    assert next_ring(RingState(7, NODES, previous=NODES), NODES) == RingState(8, NODES)
