"""``python -m prober``: the prober."""

import os
import sys

from http_port.process import run
from prober.app import main

sys.exit(run(main, os.environ))
