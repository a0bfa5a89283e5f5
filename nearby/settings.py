"""Settings: frozen dataclasses read once from an injected mapping, usually the environment.

A field is declared with :func:`setting`, which names its variable, how to read it and what it is for;
``docs/configuration.md`` is that same table, and a test compares the two. A variable whose value is wrong
stops the process at its start with an error that names it, its value and what is allowed.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, TypeVar

from nearby import redis_address
from nearby.errors import SettingsError
from nearby.tokens import MIN_KEY_BYTES, TokenKeys

S = TypeVar("S")
T = TypeVar("T")

_REQUIRED = object()


@dataclasses.dataclass(frozen=True, slots=True)
class Secret:
    """A string that no log and no traceback shows."""

    value: str

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclasses.dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the environment, as documented. ``default`` is ``None`` where it must be set."""

    name: str
    default: str | None
    allowed: str
    meaning: str


def setting(
    name: str, parse: Callable[[str], T], *, allowed: str, meaning: str, default: str | object = _REQUIRED
) -> Any:
    """Declare a field read from variable ``name``; without ``default`` the variable must be set."""
    shown = None if default is _REQUIRED else str(default)
    variable = Variable(name, shown, allowed, meaning)
    return dataclasses.field(metadata={"variable": variable, "parse": parse}, repr=parse not in _MAY_HOLD_A_PASSWORD)


def load(kind: type[S], environ: Mapping[str, str]) -> S:
    """Build the settings dataclass ``kind`` from ``environ``.

    Raises:
        SettingsError: a variable is missing or wrong.
    """
    values: dict[str, Any] = {}
    for spec in dataclasses.fields(kind):  # type: ignore[arg-type]
        if "group" in spec.metadata:
            values[spec.name] = load(spec.metadata["group"], environ)
            continue
        variable: Variable = spec.metadata["variable"]
        text = environ.get(variable.name, variable.default)
        if text is None:
            raise SettingsError(variable.name, None, variable.allowed)
        try:
            values[spec.name] = spec.metadata["parse"](text)
        except (ValueError, binascii.Error) as error:
            secret = spec.metadata["parse"] in _SECRET
            shown = redis_address.masked(text) if spec.metadata["parse"] in _MAY_HOLD_A_PASSWORD else text
            raise SettingsError(variable.name, "…" if secret else shown, variable.allowed) from error
    return kind(**values)


def group(kind: type[S]) -> Any:
    """Declare a field that is itself a settings dataclass."""
    return dataclasses.field(metadata={"group": kind})


def variables(kind: type[Any]) -> list[Variable]:
    """Return every variable that ``kind`` reads, in order of declaration."""
    found: list[Variable] = []
    for spec in dataclasses.fields(kind):
        if "group" in spec.metadata:
            found += variables(spec.metadata["group"])
        else:
            found.append(spec.metadata["variable"])
    return found


# ------------------------------------------------------------------------------------------- parsers


def number(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of finite numbers from ``low`` to ``high``."""

    def parse(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(text)
        return value

    return parse


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of integers from ``low`` to ``high``."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return parse


def url(*schemes: str) -> Callable[[str], str]:
    """Return a parser of URLs that begin with one of ``schemes``, such as ``redis``."""

    def parse(text: str) -> str:
        scheme, separator, rest = text.partition("://")
        if scheme not in schemes or not separator or not rest:
            raise ValueError(text)
        return text

    return parse


def redis_servers(text: str) -> str:
    """Take the address of Redis servers of any topology; see :mod:`nearby.redis_address`."""
    redis_address.parse(text)
    return text


def redis_server(text: str) -> str:
    """Take the address of one Redis server, or of the Sentinels that name it."""
    if redis_address.parse(text).topology is redis_address.Topology.CLUSTER:
        raise ValueError("not on a Cluster")
    return text


def redis_server_list(text: str) -> str:
    """Take the addresses of one or several such servers, separated by spaces (some have commas)."""
    return " ".join(redis_server(word) for word in text.split() or ("",))


def one_redis_server(text: str) -> str:
    """Take the address of one Redis server, or empty text."""
    if text and redis_address.parse(text).topology is not redis_address.Topology.SERVER:
        raise ValueError("not one server")
    return text


_MAY_HOLD_A_PASSWORD = (redis_servers, redis_server_list, one_redis_server)


def numbered_address(text: str) -> str:
    """Take the address of servers that differ by a number, which ``{n}`` stands for, or empty text."""
    if text and (text.count("{n}") != 1 or not text.startswith(("redis://", "unix:///"))):
        raise ValueError(text)
    return text


def words(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list; empty text is an empty list."""
    return tuple(word for part in text.split(",") if (word := part.strip()))


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Parse a comma-separated list of addresses and CIDR ranges."""
    return tuple(ip_network(word) for word in words(text))


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that takes exactly the ``choices``."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


def optional(parse: Callable[[str], str]) -> Callable[[str], str]:
    """Return a parser that takes empty text too, as empty text."""
    return lambda text: parse(text) if text else ""


def nonempty(text: str) -> str:
    """Take any text but none."""
    if not text:
        raise ValueError(text)
    return text


def gateway_urls(text: str) -> tuple[str, ...]:
    """Parse one or more WebSocket URLs, separated by commas."""
    found = tuple(url("ws", "wss")(word) for word in words(text))
    if not found:
        raise ValueError("no URL")
    return found


def handle_beginning(text: str) -> str:
    """Take the beginning of a handle, which leaves room for a number."""
    if not re.fullmatch(r"[a-z0-9_]{3,24}", text):
        raise ValueError(text)
    return text


def replicas(text: str) -> dict[str, int]:
    """Parse ``DATACENTER=COUNT[,DATACENTER=COUNT…]``."""
    counts: dict[str, int] = {}
    for word in words(text):
        name, _, count = word.partition("=")
        if not name.replace("-", "").replace("_", "").isalnum() or name in counts:
            raise ValueError(text)
        counts[name] = integer(1, 100)(count)
    if not counts:
        raise ValueError(text)
    return counts


def boolean(text: str) -> bool:
    """Parse ``0`` or ``1``."""
    return one_of("0", "1")(text) == "1"


def parse_secret(text: str) -> Secret:
    """Take a secret of at least 16 characters."""
    if len(text) < 16:
        raise ValueError("too short")
    return Secret(text)


def optional_secret(text: str) -> Secret | None:
    """Take a secret of at least 16 characters; empty text is ``None``."""
    return parse_secret(text) if text else None


def optional_credentials(text: str) -> Secret | None:
    """Parse ``USER:PASSWORD``; empty text is ``None``."""
    if not text:
        return None
    user, _, password = text.partition(":")
    if not user or not password:
        raise ValueError("not USER:PASSWORD")
    return Secret(text)


def database_url(text: str) -> Secret:
    """Take the URL of a user database; it may hold a password."""
    return Secret(url("sqlite", "postgresql")(text))


def optional_path(text: str) -> Path | None:
    """Take a path; empty text is ``None``."""
    return Path(text) if text else None


def parse_keys(text: str) -> TokenKeys:
    """Parse ``kid=BASE64[,kid=BASE64]``: token signing keys, the first of which signs."""
    keys: dict[str, bytes] = {}
    for word in words(text):
        kid, _, encoded = word.partition("=")
        key = base64.b64decode(encoded, validate=True)
        if not kid or len(key) < MIN_KEY_BYTES or kid in keys:
            raise ValueError("bad key")
        keys[kid] = key
    if not keys:
        raise ValueError("no key")
    return TokenKeys(keys)


_SECRET = (parse_secret, optional_secret, optional_credentials, parse_keys, database_url)

# ------------------------------------------------------------------------------------------ settings

MIN_INTERVALS_PER_TTL = 3
"""A client may lose two reports in a row and still not vanish from its friends' maps."""

# Declared once, read by several processes.


def _host() -> Any:
    return setting(
        "NEARBY_HOST", nonempty, default="127.0.0.1", allowed="an address", meaning="the address to listen on"
    )


def _advertised_host() -> Any:
    return setting(
        "NEARBY_ADVERTISED_HOST",
        str,
        default="",
        allowed="an address or a name, or empty",
        meaning="where others reach this process, which it announces; empty: `NEARBY_HOST`. For 0.0.0.0, or a pod",
    )


def _admin_port() -> Any:
    return setting(
        "NEARBY_ADMIN_PORT",
        integer(0, 65_535),
        default="0",
        allowed="0 to 65535",
        meaning="the port of health, metrics and administration; 0: any free one",
    )


def _probe_interval_s() -> Any:
    return setting(
        "NEARBY_PROBE_INTERVAL_S",
        number(0, 3_600),
        default="5",
        allowed="0 to 3600",
        meaning="a shard connection whose probe does not return in this many seconds is dropped; 0: no probes",
    )


def _radius_m() -> Any:
    return setting(
        "NEARBY_RADIUS_M",
        number(50, 50_000),
        default="8047",
        allowed="50 to 50000",
        meaning="the radius of a viewer who chose none, metres (8047: five miles)",
    )


def _max_speed_mps() -> Any:
    return setting(
        "NEARBY_MAX_SPEED_MPS",
        number(0, 100_000),
        default="278",
        allowed="0 to 100000",
        meaning="a faster jump (metres per second) is not shown until a second fix agrees with it; 0: no limit",
    )


def _max_accuracy_m() -> Any:
    return setting(
        "NEARBY_MAX_ACCURACY_M",
        number(0, 100_000),
        default="5000",
        allowed="0 to 100000",
        meaning="a fix less accurate than this (metres) is not shown; 0: no limit",
    )


def _database_url() -> Any:
    return setting(
        "NEARBY_DATABASE_URL",
        database_url,
        allowed="sqlite:///FILE or postgresql://[USER:PASSWORD@]HOST[:PORT]/DATABASE[?sslmode=…]",
        meaning="the user database",
    )


def _trusted_proxies() -> Any:
    return setting(
        "NEARBY_TRUSTED_PROXIES",
        networks,
        default="",
        allowed="addresses or CIDR ranges separated by commas",
        meaning="load balancers whose `X-Forwarded-For` is believed",
    )


def _quota(name: str, default: int, meaning: str) -> Any:
    return setting(
        name, integer(0, 1_000_000), default=str(default), allowed="0 to 1000000", meaning=f"{meaning}; 0: any number"
    )


def _token_keys() -> Any:
    return setting(
        "NEARBY_TOKEN_KEYS",
        parse_keys,
        allowed="kid=BASE64[,kid=BASE64]",
        meaning="keys of access tokens; the first signs",
    )


def _service_token() -> Any:
    return setting(
        "NEARBY_SERVICE_TOKEN", parse_secret, allowed="16 characters or more", meaning="what gateways show to the API"
    )


def _admin_token() -> Any:
    return setting(
        "NEARBY_ADMIN_TOKEN",
        parse_secret,
        allowed="16 characters or more",
        meaning="what operators show to admin ports",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, and how."""

    level: str = setting(
        "NEARBY_LOG_LEVEL",
        one_of("debug", "info", "warning", "error"),
        default="info",
        allowed="debug, info, warning, error",
        meaning="the least severe level that is logged",
    )
    format: str = setting(
        "NEARBY_LOG_FORMAT",
        one_of("text", "json"),
        default="text",
        allowed="text, json",
        meaning="how a line of the log is written",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """Where members and the pub/sub ring are announced. ``ring_file`` and ``ring_auth`` are ``None`` if not set."""

    url: str = setting(
        "NEARBY_DISCOVERY",
        url("file", "zk"),
        allowed="file:///DIRECTORY or zk://HOST:PORT[,HOST:PORT…]/CHROOT",
        meaning="where members and the pub/sub ring are announced",
    )
    ring_file: Path | None = setting(
        "NEARBY_RING_FILE",
        optional_path,
        default="",
        allowed="a path, or empty",
        meaning="where the last good ring is kept on disk; empty: nowhere",
    )
    ring_auth: Secret | None = setting(
        "NEARBY_ZOOKEEPER_RING_AUTH",
        optional_credentials,
        default="",
        allowed="USER:PASSWORD, or empty",
        meaning="whoever shows this may write the ring in ZooKeeper; for ring keepers and operators only",
    )
    session_timeout_s: float = setting(
        "NEARBY_ZOOKEEPER_SESSION_S",
        number(1, 300),
        default="10",
        allowed="1 to 300",
        meaning="a process that ZooKeeper has not heard of for this many seconds is no longer a member",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class TracesSettings:
    """Traces for OpenTelemetry; none where ``url`` is empty."""

    url: str = setting(
        "NEARBY_TRACES_URL",
        optional(url("http", "https")),
        default="",
        allowed="http://HOST:PORT/v1/traces, or empty",
        meaning="where traces are sent, by OTLP over HTTP; empty: nothing is traced",
    )
    part: float = setting(
        "NEARBY_TRACES_PART",
        number(0, 1),
        default="0.001",
        allowed="0 to 1",
        meaning="the part of arrivals, reports and requests that is traced",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What every process needs."""

    discovery: DiscoverySettings = group(DiscoverySettings)
    log: LogSettings = group(LogSettings)


@dataclasses.dataclass(frozen=True, slots=True)
class CacheSettings:
    """The location cache."""

    url: str = setting(
        "NEARBY_CACHE_URL",
        redis_servers,
        allowed="redis://HOST:PORT, unix:///SOCKET, redis+sentinel://HOST:PORT,…/SERVICE or "
        "redis+cluster://HOST:PORT,…; rediss… for TLS",
        meaning="the location cache (location-cache.md)",
    )
    ttl_s: int = setting(
        "NEARBY_INACTIVE_AFTER_S",
        integer(1, 86_400),
        default="600",
        allowed="1 to 86400",
        meaning="a friend silent for this many seconds becomes inactive; the TTL of the location cache",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class StreamSettings:
    """The history stream."""

    url: str = setting(
        "NEARBY_HISTORY_STREAM_URL",
        redis_server_list,
        allowed="redis://HOST:PORT, unix:///SOCKET or redis+sentinel://HOST:PORT,…/SERVICE; rediss… for TLS; "
        "several separated by spaces",
        meaning="the servers of the history streams, which take turns: the first has streams 0, N, 2N …",
    )
    streams_count: int = setting(
        "NEARBY_HISTORY_STREAMS",
        integer(1, 64),
        default="4",
        allowed="1 to 64",
        meaning="streams that users are spread over; as many history writers can share the work",
    )
    max_entries: int = setting(
        "NEARBY_HISTORY_STREAM_MAX",
        integer(1_000, 1_000_000_000),
        default="1000000",
        allowed="1000 to 1000000000",
        meaning="points the streams may hold while the history store is away; older ones are lost and counted",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class CassandraSettings:
    """How to speak to Cassandra. ``auth`` and the files are ``None`` if not set."""

    consistency: str = setting(
        "NEARBY_CASSANDRA_CONSISTENCY",
        one_of("ONE", "LOCAL_ONE", "TWO", "QUORUM", "LOCAL_QUORUM", "ALL"),
        default="LOCAL_QUORUM",
        allowed="ONE, LOCAL_ONE, TWO, QUORUM, LOCAL_QUORUM, ALL",
        meaning="how many replicas must have taken a point before it counts as stored, and how many are asked",
    )
    datacenter: str = setting(
        "NEARBY_CASSANDRA_DATACENTER",
        str,
        default="",
        allowed="a name, or empty",
        meaning="the datacenter whose nodes are used; empty: that of the first node that answers",
    )
    auth: Secret | None = setting(
        "NEARBY_CASSANDRA_AUTH",
        optional_credentials,
        default="",
        allowed="USER:PASSWORD, or empty",
        meaning="how to log in to Cassandra; empty: not at all",
    )
    auth_file: Path | None = setting(
        "NEARBY_CASSANDRA_AUTH_FILE",
        optional_path,
        default="",
        allowed="a path, or empty",
        meaning="a file that holds USER:PASSWORD, in place of `NEARBY_CASSANDRA_AUTH`; read at each connection",
    )
    ca_file: Path | None = setting(
        "NEARBY_CASSANDRA_CA_FILE",
        optional_path,
        default="",
        allowed="a path, or empty",
        meaning="whose certificates to believe (PEM); empty: no TLS",
    )
    client_file: Path | None = setting(
        "NEARBY_CASSANDRA_CLIENT_FILE",
        optional_path,
        default="",
        allowed="a path, or empty",
        meaning="our own certificate and key (PEM) for a Cassandra that asks for one",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class HistorySettings:
    """The history store."""

    url: str = setting(
        "NEARBY_HISTORY_URL",
        url("sqlite", "cassandra"),
        allowed="sqlite:///FILE or cassandra://HOST[:PORT][,HOST[:PORT]…]/KEYSPACE",
        meaning="the history store",
    )
    cassandra: CassandraSettings = group(CassandraSettings)
    retention_days: float = setting(
        "NEARBY_HISTORY_RETENTION_DAYS",
        number(0.01, 3_650),
        default="90",
        allowed="0.01 to 3650",
        meaning="how many days a point stays in the history",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class LimitSettings:
    """Limits of the wire protocol (protocol §4); 0 switches a limit off where the range allows it."""

    max_speed_mps: float = _max_speed_mps()
    max_accuracy_m: float = _max_accuracy_m()
    message_rate: float = setting(
        "NEARBY_MESSAGE_RATE",
        number(0, 10_000),
        default="2",
        allowed="0 to 10000",
        meaning="messages per second and connection; 0: no limit",
    )
    message_burst: int = setting(
        "NEARBY_MESSAGE_BURST",
        integer(1, 100_000),
        default="20",
        allowed="1 to 100000",
        meaning="messages a connection may send at once",
    )
    report_interval_s: float = setting(
        "NEARBY_REPORT_INTERVAL_S",
        number(0.1, 3_600),
        default="30",
        allowed="0.1 to 3600",
        meaning="how often clients are asked to report, seconds; one silent for three is pinged",
    )
    radius_m: float = _radius_m()
    connections_per_user: int = setting(
        "NEARBY_CONNECTIONS_PER_USER",
        integer(0, 1_000),
        default="5",
        allowed="0 to 1000",
        meaning="connections of one user per gateway, the newest win; 0: no limit",
    )
    max_connections: int = setting(
        "NEARBY_MAX_CONNECTIONS",
        integer(0, 10_000_000),
        default="0",
        allowed="0 to 10000000",
        meaning="connections a gateway accepts before it answers 503; 0: as many as its file descriptors allow",
    )
    max_connection_age_s: float = setting(
        "NEARBY_MAX_CONNECTION_AGE_S",
        number(0, 2_592_000),
        default="21600",
        allowed="0 to 2592000",
        meaning="a connection is closed with 4410 at this age, ± 25 %, so that clients spread again; 0: never",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """Limits of new connections, checked before anything that costs."""

    connect_rate: float = setting(
        "NEARBY_CONNECT_RATE",
        number(0, 1_000_000),
        default="500",
        allowed="0 to 1000000",
        meaning="new connections per second that a gateway lets in before it answers 503; 0: no limit",
    )
    connect_burst: int = setting(
        "NEARBY_CONNECT_BURST",
        integer(1, 1_000_000),
        default="500",
        allowed="1 to 1000000",
        meaning="new connections that a gateway lets in at once",
    )
    connect_rate_per_address: float = setting(
        "NEARBY_CONNECT_RATE_PER_ADDRESS",
        number(0, 1_000_000),
        default="0",
        allowed="0 to 1000000",
        meaning="new connections per second, gateway and client address (IPv6: /64), 5 s of them at once; 0: no limit",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _trusted_proxies()


@dataclasses.dataclass(frozen=True, slots=True)
class DrainSettings:
    """How a gateway is drained, where the operator does not say (``docs/draining.md``)."""

    rate_per_s: float = setting(
        "NEARBY_DRAIN_RATE",
        number(0.1, 1_000_000),
        default="300",
        allowed="0.1 to 1000000",
        meaning="clients that a drained gateway sends away per second; more where the deadline asks for it",
    )
    deadline_s: float = setting(
        "NEARBY_DRAIN_DEADLINE_S",
        number(0.5, 86_400),
        default="120",
        allowed="0.5 to 86400",
        meaning="seconds by which a drained gateway has ended, whoever is still connected",
    )
    grace_s: float = setting(
        "NEARBY_DRAIN_GRACE_S",
        number(0, 3_600),
        default="10",
        allowed="0 to 3600",
        meaning="seconds a client may take to leave by itself before it is closed with 1012",
    )
    notice_s: float = setting(
        "NEARBY_DRAIN_NOTICE_S",
        number(0, 600),
        default="5",
        allowed="0 to 600",
        meaning="seconds from the failing readiness to the first client sent away: two health checks of the load "
        "balancer or more",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class GatewaySettings:
    """``python -m ws_gateway``. ``log_user_key`` is ``None`` if not set."""

    process: ProcessSettings = group(ProcessSettings)
    traces: TracesSettings = group(TracesSettings)
    cache: CacheSettings = group(CacheSettings)
    stream: StreamSettings = group(StreamSettings)
    limits: LimitSettings = group(LimitSettings)
    admission: AdmissionSettings = group(AdmissionSettings)
    drain: DrainSettings = group(DrainSettings)
    log_user_key: Secret | None = setting(
        "NEARBY_LOG_USER_KEY",
        optional_secret,
        default="",
        allowed="16 characters or more, or empty",
        meaning="the key of the hash that stands for a user in logs; empty: one of each process's own",
    )
    gateway_id: str = setting(
        "NEARBY_GATEWAY_ID",
        nonempty,
        allowed="any name unique among gateways",
        meaning="the name of this gateway",
    )
    host: str = _host()
    advertised_host: str = _advertised_host()
    port: int = setting(
        "NEARBY_PORT",
        integer(0, 65_535),
        default="8081",
        allowed="0 to 65535",
        meaning="the public port (the API's default is 8080); 0: any free one",
    )
    admin_port: int = _admin_port()
    public_url: str = setting(
        "NEARBY_PUBLIC_URL",
        optional(url("ws", "wss")),
        default="",
        allowed="ws://… or wss://…, or empty",
        meaning="what clients are told to connect to; empty: made from the address and port",
    )
    api_internal_url: str = setting(
        "NEARBY_API_INTERNAL_URL",
        url("http", "https"),
        allowed="http://HOST:PORT",
        meaning="the API's internal port, where friend lists and the change feed come from",
    )
    allowed_origins: tuple[str, ...] = setting(
        "NEARBY_ALLOWED_ORIGINS",
        words,
        default="",
        allowed="origins separated by commas",
        meaning="the `Origin` values that browsers may connect from; without any, no browser may",
    )
    probe_interval_s: float = _probe_interval_s()
    compact_memory: bool = setting(
        "NEARBY_COMPACT_MEMORY",
        boolean,
        default="0",
        allowed="0 or 1",
        meaning="spend about 15 % more CPU to save about 5 KB per connection",
    )
    token_keys: TokenKeys = _token_keys()
    service_token: Secret = _service_token()
    admin_token: Secret = _admin_token()

    def __post_init__(self) -> None:
        """Refuse a TTL under which users flicker, and a limit that could not be kept.

        Raises:
            SettingsError: naming ``NEARBY_INACTIVE_AFTER_S`` or ``NEARBY_CONNECT_RATE_PER_ADDRESS``.
        """
        rate = self.admission.connect_rate_per_address
        if rate and self.compact_memory:
            raise SettingsError("NEARBY_CONNECT_RATE_PER_ADDRESS", f"{rate:g}", "0 where NEARBY_COMPACT_MEMORY is 1")
        least_s = MIN_INTERVALS_PER_TTL * self.limits.report_interval_s
        if self.cache.ttl_s < least_s:
            allowed = f"{MIN_INTERVALS_PER_TTL} times NEARBY_REPORT_INTERVAL_S or more, here {least_s:g}"
            raise SettingsError("NEARBY_INACTIVE_AFTER_S", str(self.cache.ttl_s), allowed)


@dataclasses.dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """``python -m social_graph``."""

    url: Secret = _database_url()


@dataclasses.dataclass(frozen=True, slots=True)
class RateSettings:
    """How often the API may be asked, by whom. An IPv6 address stands for its /64."""

    url: str = setting(
        "NEARBY_RATE_LIMIT_URL",
        one_redis_server,
        default="",
        allowed="redis://HOST:PORT, rediss://HOST:PORT or unix:///SOCKET, or empty",
        meaning="where API processes count requests together; empty: each counts by itself",
    )
    reads_per_minute: int = _quota("NEARBY_READS_PER_MINUTE", 600, "requests that change nothing, per user and minute")
    writes_per_minute: int = _quota("NEARBY_WRITES_PER_MINUTE", 300, "all other requests, per user and minute")
    anonymous_per_minute: int = _quota(
        "NEARBY_ANONYMOUS_PER_MINUTE", 300, "requests without a good access token, per address and minute"
    )
    log_ins_per_minute: int = _quota("NEARBY_LOG_INS_PER_MINUTE", 30, "log-ins tried, per address and minute")
    log_ins_per_handle: int = _quota("NEARBY_LOG_INS_PER_HANDLE", 100, "log-ins tried, per handle and hour")
    sign_ups_per_hour: int = _quota("NEARBY_SIGN_UPS_PER_HOUR", 20, "sign-ups tried, per address and hour")


@dataclasses.dataclass(frozen=True, slots=True)
class ExternalIssuerSettings:
    """An issuer outside whose tokens may be exchanged for ours; empty: none."""

    issuer: str = setting(
        "NEARBY_EXTERNAL_ISSUER",
        str,
        default="",
        allowed="the `iss` of its tokens, or empty",
        meaning="an outside issuer whose tokens `POST /v1/tokens/exchange` takes; empty: none",
    )
    audience: str = setting(
        "NEARBY_EXTERNAL_AUDIENCE",
        str,
        default="",
        allowed="the `aud` that its tokens have for us, or empty",
        meaning="the audience that tokens of the outside issuer must name",
    )
    jwks_url: str = setting(
        "NEARBY_EXTERNAL_JWKS_URL",
        optional(url("https", "http")),
        default="",
        allowed="https://… (http://… on the way to a machine of ours), or empty",
        meaning="where the outside issuer publishes its keys (RFC 7517)",
    )

    def __post_init__(self) -> None:
        """Refuse a part of what is needed.

        Raises:
            SettingsError: naming the first of the three that is missing.
        """
        names = ("NEARBY_EXTERNAL_ISSUER", "NEARBY_EXTERNAL_AUDIENCE", "NEARBY_EXTERNAL_JWKS_URL")
        values = (self.issuer, self.audience, self.jwks_url)
        if any(values) and not all(values):
            raise SettingsError(names[values.index("")], "", "set, where another of the three is")


@dataclasses.dataclass(frozen=True, slots=True)
class SocialSettings:
    """What users may have and do, and for how long things are kept."""

    max_friends: int = setting(
        "NEARBY_MAX_FRIENDS",
        integer(1, 100_000),
        default="5000",
        allowed="1 to 100000",
        meaning="friends that one user may have",
    )
    requests_per_day: int = _quota("NEARBY_FRIEND_REQUESTS_PER_DAY", 100, "friend requests that a user may send a day")
    request_lifetime_days: float = setting(
        "NEARBY_FRIEND_REQUEST_LIFETIME_DAYS",
        number(0.0001, 3_650),
        default="30",
        allowed="0.0001 to 3650",
        meaning="a friend request without an answer is over after this many days",
    )
    invite_link_base: str = setting(
        "NEARBY_INVITE_LINK_BASE",
        nonempty,
        default="nearby://invite",
        allowed="a URL without a fragment",
        meaning="an invite link is this, # and the token: browsers do not send what follows #",
    )
    change_retention_h: float = setting(
        "NEARBY_CHANGE_RETENTION_H",
        number(0.01, 8_760),
        default="24",
        allowed="0.01 to 8760",
        meaning="hours that the change feed reaches back; a gateway cut off for longer has its clients come anew",
    )
    idempotency_h: float = setting(
        "NEARBY_IDEMPOTENCY_H",
        number(0.01, 8_760),
        default="24",
        allowed="0.01 to 8760",
        meaning="hours for which a write sent again with its Idempotency-Key has its first answer",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class ApiSettings:
    """``python -m api``."""

    process: ProcessSettings = group(ProcessSettings)
    traces: TracesSettings = group(TracesSettings)
    cache: CacheSettings = group(CacheSettings)
    stream: StreamSettings = group(StreamSettings)
    history: HistorySettings = group(HistorySettings)
    api_id: str = setting(
        "NEARBY_API_ID",
        str,
        default="",
        allowed="any name unique among API processes, or empty",
        meaning="the name of this API process; empty: `api-` and its public port, which is unique on one machine",
    )
    database_url: Secret = _database_url()
    database_pool_size: int = setting(
        "NEARBY_DATABASE_POOL_SIZE",
        integer(1, 1_000),
        default="8",
        allowed="1 to 1000",
        meaning="connections to the user database that one API process opens at most",
    )
    database_timeout_s: float = setting(
        "NEARBY_DATABASE_TIMEOUT_S",
        number(0.1, 60),
        default="5",
        allowed="0.1 to 60",
        meaning="how long a statement, a lock or a free connection is waited for before the answer is 503, seconds",
    )
    host: str = _host()
    advertised_host: str = _advertised_host()
    port: int = setting(
        "NEARBY_PORT",
        integer(0, 65_535),
        default="8080",
        allowed="0 to 65535",
        meaning="the public port (a gateway's default is 8081); 0: any free one",
    )
    admin_port: int = _admin_port()
    internal_port: int = setting(
        "NEARBY_INTERNAL_PORT",
        integer(0, 65_535),
        default="0",
        allowed="0 to 65535",
        meaning="the port of the endpoints for gateways; 0: any free one",
    )
    probe_interval_s: float = _probe_interval_s()
    radius_m: float = _radius_m()
    max_speed_mps: float = _max_speed_mps()
    max_accuracy_m: float = _max_accuracy_m()
    access_token_lifetime_s: int = setting(
        "NEARBY_ACCESS_TOKEN_LIFETIME_S",
        integer(10, 86_400),
        default="3600",
        allowed="10 to 86400",
        meaning="how long an access token is good, seconds",
    )
    refresh_token_lifetime_s: int = setting(
        "NEARBY_REFRESH_TOKEN_LIFETIME_S",
        integer(60, 31_536_000),
        default="2592000",
        allowed="60 to 31536000",
        meaning="how long a refresh token is good, seconds (2592000: 30 days)",
    )
    rates: RateSettings = group(RateSettings)
    social: SocialSettings = group(SocialSettings)
    external_issuer: ExternalIssuerSettings = group(ExternalIssuerSettings)
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _trusted_proxies()
    token_keys: TokenKeys = _token_keys()
    service_token: Secret = _service_token()
    admin_token: Secret = _admin_token()


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryWriterSettings:
    """``python -m location_history``."""

    process: ProcessSettings = group(ProcessSettings)
    stream: StreamSettings = group(StreamSettings)
    history: HistorySettings = group(HistorySettings)
    writer_id: str = setting(
        "NEARBY_HISTORY_WRITER_ID",
        nonempty,
        default="writer-1",
        allowed="any name unique among history writers",
        meaning="the name of this history writer, its consumer name in the streams",
    )
    linger_s: float = setting(
        "NEARBY_HISTORY_LINGER_S",
        number(0, 3_600),
        default="0",
        allowed="0 to 3600",
        meaning="how long a point may wait in the stream for others of its user and day, to be stored with them in one "
        "statement, seconds; it is read that much later",
    )
    held_count: int = setting(
        "NEARBY_HISTORY_WRITER_POINTS",
        integer(1_000, 10_000_000),
        default="100000",
        allowed="1000 to 10000000",
        meaning="points that a history writer holds in memory, about 1 KB each; beyond that nothing lingers",
    )
    max_age_s: float = setting(
        "NEARBY_HISTORY_STREAM_MAX_AGE_S",
        number(60, 604_800),
        default="604800",
        allowed="60 to 604800",
        meaning="points that have waited in the stream for so many seconds are lost and counted (604800: a week)",
    )
    host: str = _host()
    advertised_host: str = _advertised_host()
    admin_port: int = _admin_port()
    admin_token: Secret = _admin_token()


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryMigrationSettings:
    """``python -m location_history migrate``."""

    history: HistorySettings = group(HistorySettings)
    replication: Mapping[str, int] = setting(
        "NEARBY_CASSANDRA_REPLICATION",
        replicas,
        default="datacenter1=3",
        allowed="DATACENTER=COUNT[,DATACENTER=COUNT…]",
        meaning="how many copies each datacenter keeps, when `nearby history migrate` makes the keyspace",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class RingKeeperSettings:
    """``python -m pubsub_router``."""

    process: ProcessSettings = group(ProcessSettings)
    keeper_id: str = setting(
        "NEARBY_RING_KEEPER_ID",
        nonempty,
        default="keeper-1",
        allowed="any name unique among ring keepers",
        meaning="the name of this ring keeper",
    )
    host: str = _host()
    advertised_host: str = _advertised_host()
    admin_port: int = _admin_port()
    probe_interval_s: float = _probe_interval_s()
    grace_s: float = setting(
        "NEARBY_RING_GRACE_S",
        number(0, 3_600),
        default="5",
        allowed="0 to 3600",
        meaning="how long the subscriptions at the shards of before stay once every member has switched, seconds",
    )
    pool: str = setting(
        "NEARBY_RING_POOL",
        numbered_address,
        default="",
        allowed="redis://… or unix:///… with {n} where the number stands, from 0 on; or empty",
        meaning="the servers that become spares by themselves as soon as they answer; empty: none",
    )
    admin_token: Secret = _admin_token()


@dataclasses.dataclass(frozen=True, slots=True)
class ProberSettings:
    """``python -m prober``."""

    api_url: str = setting(
        "NEARBY_API_URL", url("http", "https"), allowed="http://… or https://…", meaning="the public API"
    )
    gateways: tuple[str, ...] = setting(
        "NEARBY_PROBER_GATEWAYS",
        gateway_urls,
        allowed="ws://… or wss://… URLs separated by commas",
        meaning="the gateways to probe; each address behind the name in a ws:// URL is one",
    )
    max_gateways: int = setting(
        "NEARBY_PROBER_MAX_GATEWAYS",
        integer(1, 40),
        default="10",
        allowed="1 to 40",
        meaning="gateways probed at a time, chosen at random where there are more",
    )
    interval_s: float = setting(
        "NEARBY_PROBER_INTERVAL_S",
        number(0.5, 60),
        default="5",
        allowed="0.5 to 60",
        meaning="how often each synthetic friend reports, seconds",
    )
    handle_prefix: str = setting(
        "NEARBY_PROBER_HANDLE",
        handle_beginning,
        default="nearby_prober",
        allowed="3 to 24 of a-z, 0-9 and _",
        meaning="what the handles of the synthetic friends begin with; another for each prober",
    )
    password: Secret = setting(
        "NEARBY_PROBER_PASSWORD",
        parse_secret,
        allowed="16 characters or more",
        meaning="the password of the synthetic friends",
    )
    log: LogSettings = group(LogSettings)
    host: str = _host()
    admin_port: int = _admin_port()
