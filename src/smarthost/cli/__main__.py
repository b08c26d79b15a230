"""`python -m smarthost.cli`: how the supervisor starts its children, whatever is in the path."""

import sys

from smarthost.cli import main

sys.exit(main())
