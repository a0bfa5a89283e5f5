"""The command line that all reference servers share."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial

from benchmarks.targets import FRIENDS, channel, watched


@dataclass(frozen=True, slots=True)
class Options:
    """Where to listen on 127.0.0.1, the Redis or Valkey server, and who watches how many of how many users."""

    port: int
    redis_host: str
    redis_port: int
    users: int
    friends: int
    per_socket: bool

    def all_channels(self) -> list[str]:
        """Return every user's channel."""
        return [channel(user) for user in range(self.users)]

    def channels_of(self, user: int) -> list[str]:
        """Return the channels that a client of ``user`` watches."""
        return [channel(friend) for friend in watched(user, self.users, self.friends)]


def parse(description: str, *, per_socket: str = "") -> Options:
    """Read the command line; ``per_socket`` is the help of that flag, of servers that have it."""
    parser = argparse.ArgumentParser(description=description)
    required = partial(parser.add_argument, required=True)
    required("--port", type=int)
    required("--redis", metavar="HOST:PORT")
    required("--users", type=int)
    parser.add_argument("--friends", type=int, default=FRIENDS)
    if per_socket:
        parser.add_argument("--per-socket", action="store_true", help=per_socket)
    given = parser.parse_args()
    host, _, port = given.redis.rpartition(":")
    return Options(given.port, host, int(port), given.users, given.friends, bool(per_socket) and given.per_socket)
