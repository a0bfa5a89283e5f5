"""``python -m api``: run the API described by the environment."""

from __future__ import annotations

import os
import sys

from api.app import main
from http_port.process import run

if __name__ == "__main__":
    sys.exit(run(main, os.environ))
