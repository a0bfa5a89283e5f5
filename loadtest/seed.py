"""Make many people at once, in the database of a running ``nearby up``: ``python -m loadtest.seed --count 10000 FILE``.

Each gets ``--friends`` friends (even), their neighbours in the file, so that a process that takes a slice of the file
has nearly all friends of its people. The tokens are good for an hour.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from nearby.model import UserId
from tests.support.seeding import seed


def main() -> None:
    """Seed people and write their file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(".nearby"), help="that of the stack")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--friends", type=int, default=40)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    write_people(options.file, seed(options.data_dir, options.count, options.friends))


def write_people(file: Path, tokens: Mapping[UserId, str]) -> None:
    """Write one line of JSON for each person, which nobody else on this machine may read."""
    file.touch(mode=0o600)
    file.write_text("".join(json.dumps({"user_id": user, "token": token}) + "\n" for user, token in tokens.items()))


if __name__ == "__main__":
    main()
