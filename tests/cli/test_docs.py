"""What the documentation says is so: options, log lines and metrics are those of the program."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from peers.service import Service
from smarthost.cli import _main
from smarthost.cli._exit import Exit
from smarthost.engine import main as engine
from smarthost.engine.log import Log

DOCS = Path(__file__).parents[2] / "docs"


def commands(parser: argparse.ArgumentParser, words: str = "") -> dict[str, argparse.ArgumentParser]:
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                found |= commands(child, f"{words} {name}".strip())
    return found or {words: parser}


def test_every_command_and_option_is_documented() -> None:
    text = (DOCS / "reference" / "commands.md").read_text()
    for words, parser in commands(_main.parser()).items():
        *_, last = words.split()
        assert last in text, words
        for action in parser._actions:
            for option in action.option_strings:
                shown = action.help != argparse.SUPPRESS and option.startswith("--")
                assert not shown or option in ("--help", "--json") or option in text, f"{words} {option}"


def test_every_exit_code_is_documented_and_the_unit_leaves_alone_what_cannot_start() -> None:
    text = (DOCS / "reference" / "commands.md").read_text()
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert told == {*map(int, Exit), engine.EXIT_FAILED, engine.EXIT_CONFIG}
    unit = re.search(r"RestartPreventExitStatus=(.*)", (DOCS / "how-to" / "systemd.md").read_text())
    assert unit and {int(code) for code in unit[1].split()} == {Exit.USAGE, Exit.CONFIG, engine.EXIT_CONFIG}


def test_the_fail2ban_filter_finds_exactly_the_refused_address() -> None:
    text = (DOCS / "how-to" / "fail2ban.md").read_text()
    pattern = re.search(r"failregex = (.*)", text)[1].replace("<HOST>", r"(?P<host>\S+)")  # type: ignore[index]
    reader, writer = os.pipe()
    log = Log(writer)
    login = "x\ntime=2026-01-01T00:00:00.000Z level=warning event=login-refused ip=198.51.100.1 door=smtp"
    log.warning("login-refused", ip="192.0.2.7", door="smtp", code=535, mechanism="PLAIN", login=login)
    log.info("ready", ip="203.0.113.9")
    os.close(writer)
    with os.fdopen(reader) as lines:
        hosts = [found["host"] for line in lines if (found := re.search(pattern, line))]
    assert hosts == ["192.0.2.7"]


def test_the_alert_rules_name_metrics_that_there_are(service: Service) -> None:
    import urllib.request

    token = service.json("token", "add", "owner", "--scope", "metrics:read")["token"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.http}/metrics", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request) as answer:
        exposed = set(re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.MULTILINE))
    text = (DOCS / "how-to" / "prometheus.md").read_text()
    named = set(re.findall(r"\b(smarthost_\w+)", text))
    assert named
    assert named <= exposed
