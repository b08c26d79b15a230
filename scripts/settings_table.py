"""Write docs/reference/settings.md from the settings table, or with --check fail when it is out of date."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from smarthost.config import PROCESS, SETTINGS, UPSTREAM

DOCS = Path(__file__).resolve().parent.parent / "docs" / "reference" / "settings.md"

HEAD = """\
# Settings

<!-- Written by scripts/settings_table.py from src/smarthost/config/_table.py: change that one. -->

A value comes from the highest of these places that gives one; `smarthost config show --origin` says which:

    built-in default  <  configuration files  <  environment  <  what an administrator set

`SMARTHOST_CONFIG` names a TOML file, or a folder whose `*.toml` are read in the order of their names: later
scalars win, servers are appended. A file with any mistake is not used at all, every mistake is told with its
line, and what was in force before stays so; `smarthost config check` tells without changing anything.

```toml
[server]
domain = "example.org"
contact = "postmaster@example.org"

[limits]
max_size = "25 MiB"
lock = true                       # pages, API and commands show these and refuse to change them

[aliases]
root = "ops@example.org"

[upstream]                        # one server; for several write [[upstream]], each with its name
host = "smtp.example.org"
username = "mailer@example.org"
password_file = "/run/secrets/smtp"
from = "no-reply@example.org"
lock = ["host", "port"]
```

**Locks.** `lock = true` in a section, or `lock = ["key", …]`, locks what the section says; at the head of a
file, `lock` is true or a list of sections. `SMARTHOST_LOCK` holds globs of names: `limits.*`, `aliases.root`,
`upstream.*`, `upstream.default.host`. A locked setting that nobody gave keeps its default.

**Sizes** are bytes, or text with a unit: `"25 MiB"`, `"200k"`.

**Variables** that are empty count as not set.
"""

PROCESS_HEAD = """
## The process

Read from the environment alone, before anything else.
"""

UPSTREAM_HEAD = """
## A server: `[upstream]`, `[[upstream]]`

The variables describe the one default server. Names of files are relative to the folder of the file that says
them, in variables to the working directory.
"""

ALIASES = """
## Local names: `[aliases]`

`name = "address"`, one a line; the variable is
`SMARTHOST_ALIASES="root=a@example.org www-data=b@example.org"`.
Addresses that local programs write without a domain or at `localhost` go where the alias says, else to
`server.domain`.
"""

SECTION_HELP = {
    "server": "## This service: `[server]`",
    "limits": "## What is accepted: `[limits]`",
    "delivery": "## Sending: `[delivery]`",
    "retention": "## What is kept: `[retention]`",
}


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n" + "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in lines
    )


def shown(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "" if value == "" else f"`{value}`"


def document() -> str:
    parts = [HEAD]
    for section, title in SECTION_HELP.items():
        rows = [
            (f"`{row.key}`", row.kind.words, shown(row.default), f"`{row.variable}`", row.help)
            for row in SETTINGS
            if row.section == section
        ]
        parts += [f"\n{title}\n", table(("key", "value", "default", "variable", "meaning"), rows)]
    parts.append(UPSTREAM_HEAD)
    servers = []
    for row in UPSTREAM:
        variable = f"`{row.variable}`" if row.key != "default" else ""
        key = f"`{row.key}`"
        if row.secret and not row.file:
            key, variable = f"`{row.key}`, `{row.key}_file`", f"`{row.variable}`, `{row.variable}_FILE`"
        servers.append((key, row.kind.words, shown(row.default), variable, row.help))
    parts.append(table(("key", "value", "default", "variable", "meaning"), servers))
    parts += [ALIASES, PROCESS_HEAD]
    parts.append(
        table(
            ("variable", "default", "meaning"),
            ((f"`{name}`", default, text) for name, default, text in PROCESS),
        )
    )
    return "".join(parts)


def main(words: list[str]) -> int:
    text = document()
    if words == ["--check"]:
        if DOCS.exists() and DOCS.read_text("utf-8") == text:
            return 0
        print(f"{DOCS} is out of date; run: python scripts/settings_table.py")
        return 1
    DOCS.parent.mkdir(parents=True, exist_ok=True)
    DOCS.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
