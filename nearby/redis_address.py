"""Addresses of Redis and Valkey servers, as settings give them. Pure.

::

    redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]                       one server
    unix://[USER:PASSWORD@]/SOCKET                                       one server on this machine
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/SERVICE[/DATABASE]    the primary that these Sentinels name
    redis+cluster://[USER:PASSWORD@]HOST[:PORT],…                        a Cluster, known by some of its nodes

``rediss`` in place of ``redis`` means TLS. Options follow ``?`` as ``NAME=VALUE``, joined by ``&``: ``db``;
``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile`` (paths); ``sentinel_username`` and ``sentinel_password`` for the
Sentinels' own credentials. What is reserved in a URL is percent-encoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import parse_qsl, unquote, urlsplit

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379

_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})


class Topology(Enum):
    """How the servers of an address stand to each other."""

    SERVER = ""
    SENTINEL = "+sentinel"
    CLUSTER = "+cluster"


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to log in; ``None`` in place of a user or password is the default user, or no password."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where servers are and how to speak to them.

    ``nodes`` are the server, the Sentinels or some nodes of the Cluster; empty for a Unix socket at ``path``.
    ``tls`` is ``None`` for none, or the files that its options name, by option.
    """

    topology: Topology
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    database: int = 0
    credentials: Credentials = Credentials()
    sentinel_credentials: Credentials = Credentials()
    tls: dict[str, str] | None = None


def parse(text: str) -> RedisAddress:
    """Return what ``text`` means.

    Raises:
        ValueError: it is no such address; the message does not quote it, since it may hold a password.
    """
    try:
        parts = urlsplit(text)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError("not a URL") from None  # the original may quote it
    credentials, hosts = _split_credentials(parts.netloc)
    if parts.scheme == "unix":
        return _socket(unquote(parts.path), hosts, options, credentials)
    secure, topology = _scheme(parts.scheme)
    allowed = {"db"} if topology is not Topology.CLUSTER else set()
    allowed |= _TLS_OPTIONS if secure else set()
    allowed |= _SENTINEL_OPTIONS if topology is Topology.SENTINEL else set()
    if parts.fragment or not options.keys() <= allowed:
        raise ValueError("unknown option")
    nodes = _nodes(hosts, DEFAULT_SENTINEL_PORT if topology is Topology.SENTINEL else DEFAULT_PORT)
    if topology is Topology.SERVER and len(nodes) > 1:
        raise ValueError("several servers need +sentinel or +cluster")
    service, database = _path(topology, unquote(parts.path), options)
    return RedisAddress(
        topology,
        nodes,
        service=service,
        database=database,
        credentials=credentials,
        sentinel_credentials=Credentials(options.get("sentinel_username"), options.get("sentinel_password")),
        tls={name: options[name] for name in sorted(_TLS_OPTIONS & options.keys())} if secure else None,
    )


def masked(text: str) -> str:
    """Return the address ``text``, whether good or not, without what may be a password."""
    return re.sub(r"(password=)[^&]*", r"\1…", re.sub(r"(?s)//.*@", "//…@", text))


def _scheme(scheme: str) -> tuple[bool, Topology]:
    base, plus, kind = scheme.partition("+")
    if base not in ("redis", "rediss"):
        raise ValueError("unknown scheme")
    return base == "rediss", Topology(plus + kind)


def _split_credentials(netloc: str) -> tuple[Credentials, str]:
    user, at, hosts = netloc.rpartition("@")
    if not at:
        return Credentials(), hosts
    name, colon, password = user.partition(":")
    return Credentials(unquote(name) or None, unquote(password) if colon else None), hosts


def _socket(path: str, hosts: str, options: dict[str, str], credentials: Credentials) -> RedisAddress:
    if hosts or not path or not options.keys() <= {"db"}:
        raise ValueError("not unix:///SOCKET")
    return RedisAddress(Topology.SERVER, path=path, database=_database(options), credentials=credentials)


def _nodes(hosts: str, default_port: int) -> tuple[tuple[str, int], ...]:
    nodes = []
    for word in hosts.split(","):
        match = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::(\d+))?|([^\s:/\[\]]+)(?::(\d+))?", word)
        if match is None:
            raise ValueError("not HOST:PORT")
        port = int(match[2] or match[4] or default_port)
        if not 0 < port < 65_536:
            raise ValueError("no such port")
        nodes.append((match[1] or match[3], port))
    return tuple(nodes)


def _path(topology: Topology, path: str, options: dict[str, str]) -> tuple[str, int]:
    """Return the service of the Sentinels and the database."""
    words = [word for word in path.split("/") if word]
    service = ""
    if topology is Topology.SENTINEL:
        if not words:
            raise ValueError("no service")
        service = words.pop(0)
    if words and topology is not Topology.CLUSTER and "db" not in options:
        options = {"db": words.pop(0)}
    if words:
        raise ValueError("path too long")
    return service, _database(options)


def _database(options: dict[str, str]) -> int:
    text = options.get("db", "0")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("no such database")
    return int(text)
