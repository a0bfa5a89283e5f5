"""Settings: every error names the variable, its value and what is allowed; secrets are never shown."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest

from nearby.errors import SettingsError
from nearby.settings import (
    ApiSettings,
    GatewaySettings,
    HistoryWriterSettings,
    LimitSettings,
    ProberSettings,
    Secret,
    load,
    variables,
)

KEY = base64.b64encode(b"k" * 32).decode()
SECRET = "a-secret-of-operators"
ENVIRON = {
    "NEARBY_DISCOVERY": "file:///var/lib/nearby",
    "NEARBY_CACHE_URL": "redis://cache:6379",
    "NEARBY_HISTORY_STREAM_URL": "unix:///run/stream",
    "NEARBY_HISTORY_URL": "sqlite:////var/lib/nearby/history.sqlite",
    "NEARBY_DATABASE_URL": "sqlite:////var/lib/nearby/users.sqlite",
    "NEARBY_GATEWAY_ID": "gw-1",
    "NEARBY_API_INTERNAL_URL": "http://api:9000",
    "NEARBY_TOKEN_KEYS": f"new={KEY},old={KEY}",
    "NEARBY_SERVICE_TOKEN": SECRET,
    "NEARBY_ADMIN_TOKEN": SECRET,
    "NEARBY_API_URL": "http://api:8080",
    "NEARBY_PROBER_GATEWAYS": "ws://gateways:8081/v1/ws",
    "NEARBY_PROBER_PASSWORD": SECRET,
}
KINDS: list[type[Any]] = [GatewaySettings, ApiSettings, HistoryWriterSettings, ProberSettings]


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_has_no_default_must_be_set(kind: type[Any]) -> None:
    load(kind, ENVIRON)
    for variable in variables(kind):
        if variable.default is None:
            without = {name: value for name, value in ENVIRON.items() if name != variable.name}
            with pytest.raises(SettingsError) as error:
                load(kind, without)
            assert str(error.value) == f"{variable.name} is not set; allowed: {variable.allowed}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_default_is_allowed(kind: type[Any]) -> None:
    defaults = {variable.name: variable.default for variable in variables(kind) if variable.default is not None}
    assert load(kind, ENVIRON | defaults) == load(kind, ENVIRON)


def test_the_defaults_are_those_of_the_protocol() -> None:
    limits = load(LimitSettings, {})
    assert limits.max_speed_mps == 278
    assert limits.message_rate == 2
    assert limits.message_burst == 20
    assert limits.report_interval_s == 30
    assert limits.radius_m == 8047
    gateway = load(GatewaySettings, ENVIRON)
    assert gateway.cache.ttl_s == 600
    assert gateway.probe_interval_s == 5


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("NEARBY_DISCOVERY", "etcd://host", "file:///DIRECTORY or zk://"),
        ("NEARBY_ZOOKEEPER_SESSION_S", "0.5", "1 to 300"),
        ("NEARBY_LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("NEARBY_LOG_FORMAT", "xml", "text, json"),
        ("NEARBY_TRACES_URL", "grpc://collector:4317", "http://HOST:PORT/v1/traces, or empty"),
        ("NEARBY_TRACES_PART", "1.1", "0 to 1"),
        ("NEARBY_CACHE_URL", "http://cache", "redis://"),
        ("NEARBY_CACHE_URL", "redis://", "redis://"),
        ("NEARBY_CACHE_URL", "", "redis://"),
        ("NEARBY_INACTIVE_AFTER_S", "0", "1 to 86400"),
        ("NEARBY_INACTIVE_AFTER_S", "600.5", "1 to 86400"),
        ("NEARBY_MAX_SPEED_MPS", "-1", "0 to 100000"),
        ("NEARBY_MAX_SPEED_MPS", "nan", "0 to 100000"),
        ("NEARBY_MAX_SPEED_MPS", "inf", "0 to 100000"),
        ("NEARBY_MAX_SPEED_MPS", "fast", "0 to 100000"),
        ("NEARBY_MESSAGE_BURST", "0", "1 to 100000"),
        ("NEARBY_RADIUS_M", "49.9", "50 to 50000"),
        ("NEARBY_PORT", "65536", "0 to 65535"),
        ("NEARBY_GATEWAY_ID", "", "any name"),
        ("NEARBY_COMPACT_MEMORY", "yes", "0 or 1"),
        ("NEARBY_PUBLIC_URL", "http://x", "ws://"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_what_is_allowed(name: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(GatewaySettings, ENVIRON | {name: value})
    assert (error.value.variable, error.value.value) == (name, value)
    assert str(error.value).startswith(f"{name} is {value!r}; allowed: ")
    assert allowed in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NEARBY_PROBER_GATEWAYS", ""),
        ("NEARBY_PROBER_GATEWAYS", "ws://one:8081/v1/ws,http://two:8081/v1/ws"),
        ("NEARBY_PROBER_HANDLE", "Prober"),
        ("NEARBY_PROBER_HANDLE", "a" * 25),
    ],
)
def test_a_prober_is_told_gateways_and_a_beginning_of_handles(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is "):
        load(ProberSettings, ENVIRON | {name: value})


def test_the_password_of_an_address_is_in_no_repr_and_no_error() -> None:
    url = "redis+sentinel://user:hunter2@cache:26379/nearby?sentinel_password=hunter2"
    settings = load(GatewaySettings, ENVIRON | {"NEARBY_CACHE_URL": url})
    assert settings.cache.url == url
    assert "hunter2" not in repr(settings)
    with pytest.raises(SettingsError) as error:
        load(GatewaySettings, ENVIRON | {"NEARBY_CACHE_URL": url + "&colour=blue"})
    assert "hunter2" not in str(error.value)
    assert "cache:26379" in str(error.value)


def test_the_history_stream_stands_on_no_cluster() -> None:
    with pytest.raises(SettingsError, match="NEARBY_HISTORY_STREAM_URL"):
        load(GatewaySettings, ENVIRON | {"NEARBY_HISTORY_STREAM_URL": "redis+cluster://h:1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NEARBY_ADMIN_TOKEN", "hunter2"),
        ("NEARBY_LOG_USER_KEY", "hunter2"),
        ("NEARBY_ZOOKEEPER_RING_AUTH", "hunter2"),
        ("NEARBY_ZOOKEEPER_RING_AUTH", "hunter2:"),
        ("NEARBY_TOKEN_KEYS", "hunter2"),
        ("NEARBY_TOKEN_KEYS", "kid=hunter2"),
        ("NEARBY_TOKEN_KEYS", f"kid={base64.b64encode(b'hunter2').decode()}"),
        ("NEARBY_TOKEN_KEYS", f"={KEY}"),
        ("NEARBY_TOKEN_KEYS", f"a={KEY},a={KEY}"),
        ("NEARBY_TOKEN_KEYS", ""),
    ],
)
def test_a_wrong_secret_is_refused_without_being_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(GatewaySettings, ENVIRON | {name: value})
    assert error.value.variable == name
    assert not value or value not in str(error.value)
    assert error.value.value == "…"


def test_secrets_are_not_shown_by_what_holds_them() -> None:
    shown = repr(load(GatewaySettings, ENVIRON)) + str(Secret(SECRET)) + f"{Secret(SECRET)}"
    assert SECRET not in shown
    assert KEY not in shown
    assert repr(b"k" * 32) not in shown


def test_a_ttl_under_which_users_flicker_is_refused() -> None:
    intervals = {"NEARBY_REPORT_INTERVAL_S": "30", "NEARBY_INACTIVE_AFTER_S": "90"}
    assert load(GatewaySettings, ENVIRON | intervals).cache.ttl_s == 90
    with pytest.raises(SettingsError, match="NEARBY_INACTIVE_AFTER_S is '89'; allowed: 3 times"):
        load(GatewaySettings, ENVIRON | intervals | {"NEARBY_INACTIVE_AFTER_S": "89"})


def test_settings_are_frozen() -> None:
    gateway = load(GatewaySettings, ENVIRON)
    with pytest.raises(dataclasses.FrozenInstanceError):
        gateway.port = 1  # type: ignore[misc]


def test_lists_are_read_from_commas() -> None:
    gateway = load(GatewaySettings, ENVIRON | {"NEARBY_ALLOWED_ORIGINS": " https://a.example ,, https://b.example"})
    assert gateway.allowed_origins == ("https://a.example", "https://b.example")
    assert load(GatewaySettings, ENVIRON).allowed_origins == ()


def test_the_first_token_key_signs() -> None:
    assert list(load(GatewaySettings, ENVIRON).token_keys.keys) == ["new", "old"]
