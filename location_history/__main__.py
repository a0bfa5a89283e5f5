"""``python -m location_history``: the history writer; ``python -m location_history migrate``: the store's schema."""

import os
import sys

from http_port.process import run
from location_history import app, migrate

USAGE = "usage: python -m location_history [migrate]\n"

match sys.argv[1:]:
    case []:
        sys.exit(run(app.main, os.environ))
    case ["migrate"]:
        sys.exit(run(migrate.main, os.environ))
    case _:
        sys.stderr.write(USAGE)
        sys.exit(2)
