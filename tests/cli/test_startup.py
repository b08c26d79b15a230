"""What a command loads: cron jobs and programs start one a mail."""

from __future__ import annotations

import subprocess
import sys

from peers.service import Service

COMMANDS = """
import sys
from smarthost.cli import main
assert main(["queue", "list"]) == 0
assert main(["user", "list"]) == 0
assert main(["send", "--as", "loads", "--to", "b@example.com", "--text", "x", "--from", "a@example.com"]) == 0
print("psycopg" in sys.modules)
"""


def test_on_sqlite_no_command_waits_for_the_driver_of_postgresql(service: Service) -> None:
    service.command("app", "add", "loads")
    words = [sys.executable, "-c", COMMANDS]
    done = subprocess.run(words, env=service.environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
