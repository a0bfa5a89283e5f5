"""``python -m ws_gateway``: run one gateway, configured by the environment (``docs/configuration.md``)."""

import os
import sys

from http_port.process import run
from ws_gateway.app import main

if __name__ == "__main__":
    sys.exit(run(main, os.environ))
