"""``python -m location_history``: the history writer."""

import os
import sys

from http_port.process import run
from location_history.app import main

sys.exit(run(main, os.environ))
