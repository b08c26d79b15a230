"""What `smarthost run` prints can be pasted."""

from __future__ import annotations

from pathlib import Path

import pytest

from smarthost.cli._welcome import welcome
from smarthost.config import process_settings


@pytest.mark.parametrize(
    ("on_path", "expected"), [(True, "  smarthost queue list"), (False, "  .venv/bin/smarthost queue list")]
)
def test_it_names_the_command_as_it_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, on_path: bool, expected: str
) -> None:
    """After `make run` the program stands in .venv/bin, which no shell searches."""
    program = tmp_path / ".venv" / "bin" / "smarthost"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(program), "run"])
    monkeypatch.setenv("PATH", str(program.parent) if on_path else "/nonexistent")
    _, text = welcome(process_settings({"SMARTHOST_DATA": str(tmp_path)}), {"mode": "capture", "link": ""})
    assert text.splitlines()[-1] == expected
