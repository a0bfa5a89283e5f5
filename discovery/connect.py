"""Choose the coordination service by the scheme of its URL."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from discovery.files import FileDiscovery
from discovery.zookeeper_discovery import open_zookeeper
from nearby.errors import SettingsError
from nearby.ports import Discovery
from nearby.settings import DiscoverySettings, load

_ALLOWED = "file:///DIRECTORY or zk://HOST:PORT[,HOST:PORT…]/CHROOT"
_HOST = r"(?:[^\s,/\[\]:@]+|\[[0-9a-fA-F:.]+\]):\d{1,5}"
_ZOOKEEPER = re.compile(rf"zk://(?P<hosts>{_HOST}(?:,{_HOST})*)(?P<root>(?:/[A-Za-z0-9_-]+)+)/?")


def open_discovery(settings: DiscoverySettings | str) -> AbstractAsyncContextManager[Discovery]:
    """Return a context manager that yields the discovery of ``settings``; a URL stands for it with every default.

    Schemes: ``file:///DIRECTORY``, a directory shared by the processes of one machine (made if it is missing);
    ``zk://HOST:PORT[,HOST:PORT…]/CHROOT``, a node of ZooKeeper (made if it is missing), which may be away.

    Raises:
        SettingsError: the URL is of neither form.
    """
    if isinstance(settings, str):
        settings = load(DiscoverySettings, {"NEARBY_DISCOVERY": settings})
    if match := _ZOOKEEPER.fullmatch(settings.url):
        return open_zookeeper(
            match["hosts"], match["root"], settings.ring_file, settings.ring_auth, settings.session_timeout_s
        )
    parts = urlsplit(settings.url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return _open_files(Path(unquote(parts.path)), settings.ring_file)
    raise SettingsError("NEARBY_DISCOVERY", settings.url, _ALLOWED)


@asynccontextmanager
async def _open_files(directory: Path, ring_file: Path | None) -> AsyncIterator[Discovery]:
    async with aclosing(FileDiscovery(directory, ring_file)) as files:
        yield files
