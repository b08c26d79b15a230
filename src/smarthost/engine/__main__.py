"""`python -m smarthost.engine`."""

import sys

from smarthost.engine.main import run

sys.exit(run())
