"""What documentation points at is there: files, headings, commands with their options, variables, settings, modules."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from smarthost import errors
from smarthost.cli._main import parser
from smarthost.config import SETTINGS, UPSTREAM, known_variables

ROOT = Path(__file__).parents[2]
LEFT_OUT = {"node_modules", ".venv"}
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not LEFT_OUT & set(path.parts)
    and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
FOR_USERS = [page for page in PAGES if "decisions" not in page.parts and page.name != "architecture.md"]

FENCE = re.compile(r"^ *(```|~~~)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$")
CODE = re.compile(r"`([^`]+)`")
VARIABLE = re.compile(r"\bSMARTHOST_[A-Z0-9_]*[A-Z0-9](?![A-Z0-9_]|…)")
COMMAND = re.compile(
    r"(?:(?:^|[|;(]|&&|\$ )\s*(?:[A-Z_]+=\S*\s+)*(?:exec )?(?:\S*bin/)?|\s\S*bin/)smarthost"
    r"((?:\s+(?:--?)?[A-Za-z][\w=./:@<>,-]*)+)"
)
MODULE = re.compile(r"(?:[a-z_]+/)*_?[a-z0-9_]+\.(?:py|toml)|(?:[a-z_]+/)+")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(text: str) -> Iterator[str]:
    """Lines outside fenced and indented blocks."""
    fenced = False
    for line in text.splitlines():
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield line


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    text = LINK.sub(lambda link: link[0].partition("]")[0].lstrip("!["), heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    return frozenset(slug(found[1]) for line in prose(page.read_text()) if (found := HEADING.match(line)))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for line in prose(page.read_text()):
        for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve() if path else page
            if not found.exists() or (anchor and anchor not in anchors(found)):
                broken.append(target)
    assert not broken


@cache
def commands() -> dict[tuple[str, ...], argparse.ArgumentParser]:
    """Every command by its words, those with actions of their own included."""
    found: dict[tuple[str, ...], argparse.ArgumentParser] = {}

    def walk(one: argparse.ArgumentParser, words: tuple[str, ...]) -> None:
        found[words] = one
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, child in action.choices.items():
                    walk(child, (*words, name))

    walk(parser(), ())
    return found


def options(one: argparse.ArgumentParser) -> set[str]:
    return {text for action in one._actions for text in action.option_strings}


def wrong(words: list[str]) -> str | None:
    """What is wrong with a command line as documentation writes it, values and synopses included; or None."""
    known, path, at = commands(), (), 0
    while at < len(words) and words[at] in ("--data", "--json"):
        at += 2 if words[at] == "--data" else 1
    while at < len(words) and (*path, words[at]) in known:
        path, at = (*path, words[at]), at + 1
    if path == ("sendmail",):
        return None  # it reads its own options
    takes_actions = any(isinstance(one, argparse._SubParsersAction) for one in known[path]._actions)
    if takes_actions and at < len(words) and re.fullmatch("[a-z]+", words[at]):
        return f"no command {' '.join((*path, words[at]))}"
    missing = [
        word
        for word in words[at:]
        if word.startswith("--") and word.split("=")[0] not in options(known[path])
    ]
    return f"{' '.join(path)} has no {missing[0]}" if missing else None


def command_lines(text: str) -> Iterator[list[str]]:
    """Whatever follows the word smarthost where commands stand: in code, not in sentences."""
    fenced = False
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        if FENCE.match(line):
            fenced = not fenced
        code = [line] if fenced or line.startswith("    ") else CODE.findall(line)
        for piece in code:
            for found in COMMAND.finditer(re.sub(r"'[^']*'|\"[^\"]*\"", "X", piece)):
                yield found[1].split()


@pytest.mark.parametrize("page", FOR_USERS, ids=named)
def test_every_command_and_its_options_exist(page: Path) -> None:
    assert not {fault for words in command_lines(page.read_text()) if (fault := wrong(words))}


def test_the_check_of_commands_can_fail() -> None:
    good = "`.venv/bin/smarthost --data x upstream set --host h` and `smarthost queue list --json`"
    assert [wrong(words) for words in command_lines(good)] == [None, None]
    for bad in ("smarthost upstream put", "smarthost queue list --sate held", "smarthost retry"):
        assert [wrong(words) for words in command_lines(f"`{bad}`")] != [None], bad


@cache
def source() -> str:
    places = ("src", "clients", "campaign")
    return "\n".join(path.read_text() for place in places for path in sorted((ROOT / place).rglob("*.py")))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_variable_is_read_by_the_program(page: Path) -> None:
    settings = set(known_variables())
    found = set(VARIABLE.findall(page.read_text()))
    assert not {name for name in found if name not in settings and f'"{name}"' not in source()}


@pytest.mark.parametrize("page", FOR_USERS, ids=named)
def test_every_setting_exists(page: Path) -> None:
    known = {setting.name for setting in SETTINGS}
    fields = {field.key for field in UPSTREAM}
    sections = "|".join({setting.section for setting in SETTINGS})
    unknown = set()
    for code in CODE.findall(page.read_text()):
        if re.fullmatch(rf"(?:{sections})\.[a-z_]+", code) and code not in known:
            unknown.add(code)
        if (found := re.fullmatch(r"upstream\.\w+\.([a-z_]+)", code)) and found[1] not in fields:
            unknown.add(code)
    assert not unknown


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in FOR_USERS], ids=lambda page: page.name
)
def test_every_module_that_is_named_exists(page: Path) -> None:
    places = (ROOT, ROOT / "src/smarthost", ROOT / "docs")
    named_here = {code for code in CODE.findall(page.read_text()) if MODULE.fullmatch(code)}
    assert not {code for code in named_here if not any((place / code).exists() for place in places)}


NOT_OVER_HTTP = {
    "no-recipients",
    "smtputf8-needed",
}  # other doors', and names of whole branches
ROUTE = re.compile(r"@router\.(?:get|post|put|delete)\(\s*\"([^\"]+)\"")
HTTP = ROOT / "docs/reference/http.md"


def test_every_route_of_the_api_is_documented_and_no_other() -> None:
    text = HTTP.read_text()
    routes = {
        route
        for name in ("messages.py", "manage.py")
        for route in ROUTE.findall((ROOT / "src/smarthost/control/api" / name).read_text())
    }
    assert routes
    actions = {route.rpartition("/")[2] for route in routes if re.fullmatch(r"/messages/\{id\}/\w+", route)}
    assert not {
        route
        for route in routes
        if f"/api/v1{route}" not in text and f"`{route.rpartition('/')[2]}`" not in text
    }
    named_here = set(re.findall(r"/api/v1(/[a-z][a-z/{}.]*[a-z}])", text)) - {"/openapi.json"}
    assert {route.partition("/backup")[0] for route in named_here} <= routes | {
        f"/messages/{{id}}/{name}" for name in actions
    }


def test_the_page_of_errors_and_the_reference_have_the_same_slugs() -> None:
    """The `type` of a problem leads to its slug on the page."""
    from smarthost.control.api.docs import ERRORS

    rows = re.findall(r"^\| (\d{3}(?:, \d{3})?) \| (`[^|]+) \|", HTTP.read_text(), re.MULTILINE)
    assert [(status, re.findall(r"`([a-z-]+)`", slugs)) for status, slugs in rows] == [
        (status, slugs.split()) for status, slugs, _ in ERRORS
    ]


def test_every_slug_of_an_error_is_documented() -> None:
    """What programs compare must stand in the reference; conflicts, refusals and unexplained errors have their own."""
    text = HTTP.read_text()
    names = re.compile(r"slug(?:=| = )\"([a-z-]+)\"")
    places = [*(ROOT / "src/smarthost/control/api").glob("*.py"), ROOT / "src/smarthost/routing/_refusals.py"]
    slugs = {slug for place in places for slug in names.findall(place.read_text())}
    slugs |= {
        kind.slug
        for kind in vars(errors).values()
        if isinstance(kind, type) and kind.__module__ == errors.__name__
    }
    assert len(slugs) > 30
    assert not {slug for slug in slugs if f"`{slug}`" not in text} - NOT_OVER_HTTP
