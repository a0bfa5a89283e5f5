"""``python -m social_graph``: upgrade the database named by ``NEARBY_DATABASE_URL`` to head."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from nearby.errors import SettingsError, StoreUnavailable
from nearby.settings import DatabaseSettings, load
from social_graph.upgrade import upgrade


def main(environ: Mapping[str, str]) -> int:
    """Upgrade and return the exit status: 2 for a wrong setting, 1 for a database that fails."""
    try:
        upgrade(load(DatabaseSettings, environ).url.value)
    except SettingsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except StoreUnavailable as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
