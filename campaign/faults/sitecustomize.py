"""Python imports this at its start where the campaign has put this folder on the path."""

import smarthost_faults  # noqa: F401
