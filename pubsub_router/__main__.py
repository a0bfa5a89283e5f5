"""``python -m pubsub_router``: the ring keeper."""

import os
import sys

from http_port.process import run
from pubsub_router.keeper_app import main

sys.exit(run(main, os.environ))
