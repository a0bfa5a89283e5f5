"""What ``nearby up`` starts: each process with its command line and its settings. Nothing is opened here."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nearby.ports import RingState, Role
from nearby.redis_address import masked
from nearby.settings import (
    ApiSettings,
    GatewaySettings,
    HistoryWriterSettings,
    RingKeeperSettings,
    load,
    variables,
)

MAX_SOCKET_PATH_BYTES = 100
"""The longest path of a Unix socket that we use: Linux takes 107 bytes (``sun_path``), macOS 103."""

CACHE = "cache"
API = "api"
HISTORY_WRITER = "writer-1"
RING_KEEPER = "keeper-1"

RING_AUTH = "NEARBY_ZOOKEEPER_RING_AUTH"
RING_FILE = "NEARBY_RING_FILE"
DATABASE_URL = "NEARBY_DATABASE_URL"
SECRET_VARIABLES = frozenset({"NEARBY_TOKEN_KEYS", "NEARBY_SERVICE_TOKEN", "NEARBY_ADMIN_TOKEN", RING_AUTH})
MASK = "…"


class Kind(Enum):
    """What a process is. The values are what the terminal calls it."""

    SHARD = "pub/sub shard"
    SPARE = "spare pub/sub shard"
    CACHE = "cache and history stream"
    API = "API"
    HISTORY_WRITER = "history writer"
    GATEWAY = "gateway"
    RING_KEEPER = "ring keeper"


STOP_ORDER: Sequence[Sequence[Kind]] = (
    (Kind.RING_KEEPER,),
    (Kind.GATEWAY,),
    (Kind.API,),
    (Kind.HISTORY_WRITER,),
    (Kind.SHARD, Kind.SPARE, Kind.CACHE),
)
"""Whoever uses a process stops before it."""

ROLES: Mapping[Kind, Role] = {
    Kind.API: Role.API,
    Kind.HISTORY_WRITER: Role.HISTORY_WRITER,
    Kind.GATEWAY: Role.GATEWAY,
    Kind.RING_KEEPER: Role.RING_KEEPER,
}
"""As what our own processes announce themselves; the Valkey servers do not."""

_MODULES: Mapping[Kind, tuple[str, type[Any]]] = {
    Kind.API: ("api", ApiSettings),
    Kind.HISTORY_WRITER: ("location_history", HistoryWriterSettings),
    Kind.GATEWAY: ("ws_gateway", GatewaySettings),
    Kind.RING_KEEPER: ("pubsub_router", RingKeeperSettings),
}
_MAY_WRITE_THE_RING = frozenset({Kind.RING_KEEPER})


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of one stack are. Both directories are absolute; ``run_dir`` holds the sockets.

    ``zookeeper`` is ``HOST:PORT``, or several separated by commas, of the ZooKeeper to use; empty: the directory of
    files. ``cache`` is the address of a location cache that runs elsewhere; empty: the stack's own. ``database`` is
    the URL of the user database; empty: a file of :attr:`data_dir`.
    """

    data_dir: Path
    run_dir: Path
    zookeeper: str = ""
    cache: str = field(default="", repr=False)
    database: str = field(default="", repr=False)

    @property
    def discovery_dir(self) -> Path:
        """Where ring and members are announced."""
        return self.data_dir / "discovery"

    @property
    def discovery_url(self) -> str:
        """The address of :attr:`discovery_dir`, or of a node in ZooKeeper that is this data directory's own."""
        if self.zookeeper:
            own = hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:12]
            return f"zk://{self.zookeeper}/nearby-{own}"
        return f"file://{quote(str(self.discovery_dir))}"

    @property
    def cache_url(self) -> str:
        """Where the location cache is. The address of one elsewhere may hold a password."""
        return self.cache or self.valkey_url(CACHE)

    @property
    def database_url(self) -> str:
        """The address of the user database; it may hold a password."""
        return self.database or f"sqlite:///{self.data_dir / 'users.sqlite'}"

    @property
    def cache_dir(self) -> Path:
        """Where the cache server keeps its append-only file."""
        return self.data_dir / "cache"

    @property
    def stack_file(self) -> Path:
        """Where the addresses of a running stack are written."""
        return self.data_dir / "stack.json"

    @property
    def secrets_file(self) -> Path:
        """Where keys and tokens are kept."""
        return self.data_dir / "secrets.json"

    @property
    def logs_dir(self) -> Path:
        """The output of every process."""
        return self.data_dir / "logs"

    def log(self, name: str) -> Path:
        """The file that takes the output of process ``name``."""
        return self.logs_dir / f"{name}.log"

    def socket(self, name: str) -> Path:
        """The Unix socket of Valkey server ``name``."""
        return self.run_dir / f"{name}.sock"

    def valkey_url(self, name: str) -> str:
        """The address of Valkey server ``name``."""
        return f"unix://{self.socket(name)}"


@dataclass(frozen=True, slots=True)
class Ports:
    """The address to listen on and every TCP port of a stack; 0 stands for one not yet chosen."""

    host: str
    api: int = 0
    api_admin: int = 0
    api_internal: int = 0
    gateways: tuple[int, ...] = (0, 0)
    gateway_admins: tuple[int, ...] = (0, 0)
    history_writer_admin: int = 0
    ring_keeper_admin: int = 0

    def url(self, port: int, scheme: str = "http") -> str:
        """Return ``SCHEME://HOST:PORT`` as a client on this machine uses it, with a wildcard host made loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process. ``settings`` are the variables that ``nearby up`` sets for it, secrets among them.

    ``defaults`` are those that the caller's environment may set otherwise. ``admin_url`` is empty for a server that has
    no such port. ``on_parent_death`` is the signal that ends the process if ``nearby up`` is killed.
    """

    name: str
    kind: Kind
    argv: tuple[str, ...]
    address: str
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    admin_url: str = ""
    on_parent_death: signal.Signals = signal.SIGKILL
    defaults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Programs:
    """What is executed: a Python interpreter that has nearby installed, and a Valkey server."""

    python: str
    valkey_server: str

    def module(self, name: str, *arguments: str) -> tuple[str, ...]:
        """Return the command that runs Python module ``name``.

        ``-P`` keeps modules of the directory in which ``nearby`` was called out of our processes.
        """
        return (self.python, "-P", "-m", name, *arguments)


def socket_paths_fit(run_dir: Path) -> bool:
    """Whether sockets in ``run_dir`` have paths that the kernel takes and that stand in a URL unquoted."""
    longest = str(run_dir / "shard-1000.sock")
    return len(longest.encode()) <= MAX_SOCKET_PATH_BYTES and not any(
        character in "%?#" or character.isspace() for character in longest
    )


def plan(
    layout: Layout,
    ports: Ports,
    shard_count: int,
    secrets: Mapping[str, str],
    programs: Programs,
    *,
    persistent: bool,
    spare_count: int = 1,
) -> list[ProcessSpec]:
    """Return every process of a stack in the order in which they start.

    ``secrets`` holds the values of :data:`SECRET_VARIABLES`. With ``persistent`` the cache and the history stream
    outlive a restart; without it no Valkey server writes to disk.
    """
    cache_options = _append_only(layout.cache_dir) if persistent else _IN_MEMORY
    # An append-only file may lag behind the answers by up to two seconds: it deserves an orderly end.
    cache_end = signal.SIGTERM if persistent else signal.SIGKILL
    shared = _shared_settings(layout, ports, secrets)
    return [
        *(_valkey(layout, f"shard-{number}", Kind.SHARD, programs) for number in range(1, shard_count + 1)),
        *(_valkey(layout, f"spare-{number}", Kind.SPARE, programs) for number in range(1, spare_count + 1)),
        _valkey(layout, CACHE, Kind.CACHE, programs, cache_options, cache_end),
        _service(
            Kind.API,
            API,
            ports.url(ports.api),
            ports.url(ports.api_admin),
            programs,
            shared,
            {
                "NEARBY_PORT": str(ports.api),
                "NEARBY_ADMIN_PORT": str(ports.api_admin),
                "NEARBY_INTERNAL_PORT": str(ports.api_internal),
            },
        ),
        _service(
            Kind.HISTORY_WRITER,
            HISTORY_WRITER,
            ports.url(ports.history_writer_admin),
            ports.url(ports.history_writer_admin),
            programs,
            shared,
            {"NEARBY_HISTORY_WRITER_ID": HISTORY_WRITER, "NEARBY_ADMIN_PORT": str(ports.history_writer_admin)},
        ),
        *(
            _service(
                Kind.GATEWAY,
                f"gw-{number}",
                ports.url(port, "ws"),
                ports.url(admin_port),
                programs,
                shared,
                {"NEARBY_GATEWAY_ID": f"gw-{number}", "NEARBY_PORT": str(port), "NEARBY_ADMIN_PORT": str(admin_port)},
            )
            for number, (port, admin_port) in enumerate(zip(ports.gateways, ports.gateway_admins, strict=True), start=1)
        ),
        _service(
            Kind.RING_KEEPER,
            RING_KEEPER,
            ports.url(ports.ring_keeper_admin),
            ports.url(ports.ring_keeper_admin),
            programs,
            shared,
            {"NEARBY_RING_KEEPER_ID": RING_KEEPER, "NEARBY_ADMIN_PORT": str(ports.ring_keeper_admin)},
        ),
    ]


def environment(spec: ProcessSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a process: the caller's, then what ``nearby up`` sets.

    A Valkey server gets none of our variables; the credentials of the ring reach only who may write it, and those of
    the user database the API alone.
    """
    if spec.kind not in _MODULES:
        return {name: value for name, value in environ.items() if not name.startswith("NEARBY_")}
    caller = {name: value for name, value in environ.items() if name not in _withheld(spec.kind)}
    return {**spec.defaults, **caller, **spec.settings}


def _withheld(kind: Kind) -> set[str]:
    ring = set() if kind in _MAY_WRITE_THE_RING else {RING_AUTH}
    return ring if kind is Kind.API else ring | {DATABASE_URL}


def check_settings(specs: Iterable[ProcessSpec], environ: Mapping[str, str]) -> None:
    """Read the settings of each process as the process itself will.

    Raises:
        SettingsError: a variable of the caller's environment is wrong.
    """
    for spec in specs:
        if spec.kind in _MODULES:
            load(_MODULES[spec.kind][1], environment(spec, environ))


def shown_settings(spec: ProcessSpec) -> list[str]:
    """Return ``NAME=value`` of each variable that ``nearby up`` sets for a process, secrets masked."""
    settings = {**spec.defaults, **spec.settings}
    return [f"{name}={_shown(name, value)}" for name, value in sorted(settings.items())]


def _shown(name: str, value: str) -> str:
    if name in SECRET_VARIABLES:
        return MASK
    if name == DATABASE_URL:
        return _PASSWORD_OPTION.sub(rf"\1{MASK}", _PASSWORD_OF_USER.sub(rf"\1{MASK}@", value))
    return masked(value)


# Whoever writes a password without quoting its slashes, colons or @ is to see it masked all the same.
_PASSWORD_OF_USER = re.compile(r"(?s)(?<=://)([^/@:]*:).*@")
_PASSWORD_OPTION = re.compile(r"(password=)[^&]*")


def next_ring(stored: RingState | None, nodes: Mapping[str, str], spares: Sequence[str] = ()) -> RingState | None:
    """Return the ring to write so that ``nodes`` and ``spares`` are in force, ``None`` if they are already."""
    wanted = RingState(1 if stored is None else stored.epoch, dict(nodes), spares=tuple(spares))
    if stored is None:
        return wanted
    if stored == wanted:
        return None
    if dataclasses.replace(stored, spares=wanted.spares) == wanted:
        return wanted
    return dataclasses.replace(wanted, epoch=stored.epoch + 1)


def with_spare(present: RingState | None, address: str) -> RingState | None:
    """Return ``present`` with ``address`` as one more spare; ``None`` if it is in use, or there is no ring."""
    if present is None:
        return None
    rings = (present.nodes, present.pending or {}, present.previous or {})
    if address in present.spares or any(address in nodes.values() for nodes in rings):
        return None
    return dataclasses.replace(present, spares=(*present.spares, address))


_DEFAULTS = {
    # Ctrl-C ends a stack within seconds, and nothing but the API, which looks every 0.2 s, chooses among its gateways.
    "NEARBY_DRAIN_DEADLINE_S": "2",
    "NEARBY_DRAIN_NOTICE_S": "0.5",
    # Everybody comes from the one address of this machine.
    "NEARBY_ANONYMOUS_PER_MINUTE": "0",
    "NEARBY_LOG_INS_PER_MINUTE": "0",
    "NEARBY_SIGN_UPS_PER_HOUR": "0",
}
"""What fits a stack on one machine; the caller's environment may set it otherwise."""

_REPLACEABLE = frozenset({"NEARBY_HISTORY_URL"})
"""What stands beside the stack where the caller's environment names another: Cassandra, for instance."""

_IN_MEMORY = ("--save", "", "--appendonly", "no")


def _append_only(directory: Path) -> tuple[str, ...]:
    return ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--dir", str(directory))


def _valkey(
    layout: Layout,
    name: str,
    kind: Kind,
    programs: Programs,
    options: tuple[str, ...] = _IN_MEMORY,
    on_parent_death: signal.Signals = signal.SIGKILL,
) -> ProcessSpec:
    argv = (programs.valkey_server, "--port", "0", "--unixsocket", str(layout.socket(name)), "--unixsocketperm", "700")
    return ProcessSpec(name, kind, argv + options, layout.valkey_url(name), on_parent_death=on_parent_death)


def _shared_settings(layout: Layout, ports: Ports, secrets: Mapping[str, str]) -> dict[str, str]:
    return {
        **secrets,
        # A directory of files outlives its processes anyway; ZooKeeper may be away when one of them restarts.
        **({RING_FILE: str(layout.run_dir / "ring-{name}.json")} if layout.zookeeper else {}),
        "NEARBY_API_INTERNAL_URL": ports.url(ports.api_internal),
        "NEARBY_CACHE_URL": layout.cache_url,
        DATABASE_URL: layout.database_url,
        "NEARBY_DISCOVERY": layout.discovery_url,
        "NEARBY_HISTORY_STREAM_URL": layout.valkey_url(CACHE),
        "NEARBY_HISTORY_URL": f"sqlite:///{layout.data_dir / 'history.sqlite'}",
        "NEARBY_HOST": ports.host,
        "NEARBY_RATE_LIMIT_URL": layout.valkey_url(CACHE),
    }


def _service(
    kind: Kind,
    name: str,
    address: str,
    admin_url: str,
    programs: Programs,
    shared: Mapping[str, str],
    own: Mapping[str, str],
) -> ProcessSpec:
    module, settings_kind = _MODULES[kind]
    read = {variable.name for variable in variables(settings_kind)}
    settings = {name: value for name, value in shared.items() if name in read - _withheld(kind)} | dict(own)
    if RING_FILE in settings:
        settings[RING_FILE] = settings[RING_FILE].format(name=name)
    defaults = {name: value for name, value in _DEFAULTS.items() if name in read}
    defaults |= {name: settings.pop(name) for name in _REPLACEABLE & settings.keys()}
    return ProcessSpec(name, kind, programs.module(module), address, settings, admin_url, defaults=defaults)
