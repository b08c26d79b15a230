"""Reads the command line, runs one command, and turns what goes wrong into a sentence and an exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import NoReturn

from smarthost import __version__
from smarthost.cli._exit import Exit, exit_code
from smarthost.cli._output import Output, safe
from smarthost.errors import ConfigError, SmarthostError, StoreUnavailable


class Parser(argparse.ArgumentParser):
    """argparse that never guesses an abbreviated option: a script must not break when one is added."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **{**options, "allow_abbrev": False})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(Exit.USAGE)


def parser() -> argparse.ArgumentParser:
    """The whole command line. Only the command's own modules are imported, and only when it runs."""
    from smarthost.cli import accounts, apps, config, doctor, mode, queue, run, send, upstreams

    top = Parser(prog="smarthost", description="One service through which an organisation sends email.")
    top.add_argument("--version", action="version", version=f"smarthost {__version__}")
    top.add_argument("--data", metavar="DIR", help="the data folder (default: SMARTHOST_DATA, or ./data)")
    top.add_argument("--json", action="store_true", help="print the result as JSON")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for module in (run, send, upstreams, queue, accounts, apps, mode, config, doctor):
        module.register(commands)
    # Answered in smarthost.cli.main before anything else is imported; here for the list of commands.
    commands.add_parser("sendmail", help="take a mail from standard input, as the classic program does")
    _give_json(top)
    return top


def _give_json(parser: argparse.ArgumentParser) -> None:
    """Let every command take --json after its name too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in {id(child): child for child in action.choices.values()}.values():
                child.add_argument(
                    "--json", action="store_true", default=argparse.SUPPRESS, help="print the result as JSON"
                )
                _give_json(child)


def run(words: list[str]) -> int:
    """Run one command; its exit code."""
    os.umask(0o077)
    try:
        args = parser().parse_args(words)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    if args.data:
        os.environ["SMARTHOST_DATA"] = args.data
    out = Output(args.json)
    try:
        code = int(args.call(args, out))
        sys.stdout.flush()
        return code
    except SmarthostError as error:
        return _failed(error, out)
    except KeyboardInterrupt:
        print("smarthost: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has left; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.OK
    except Exception as error:
        expected = _expected(error)
        if expected is None:
            raise
        return _failed(expected, out)


def _expected(error: Exception) -> SmarthostError | None:
    """Errors of the machine that have a plain cause; None for bugs, which want their traceback."""
    if isinstance(error, PermissionError):
        return ConfigError(
            f"{error.filename or 'A file'} may not be used by this user: run it as the service's user"
        )
    names = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    if names & {
        "django.db.utils.OperationalError",
        "pysqlite3.dbapi2.OperationalError",
        "psycopg.OperationalError",
        "pysqlite3.OperationalError",
        "sqlite3.OperationalError",
    }:
        text = str(error).strip().partition("\n")[0]
        return StoreUnavailable(
            f"The database cannot be used ({text}): see SMARTHOST_DATABASE_URL, and: smarthost doctor"
        )
    return None


def _failed(error: SmarthostError, out: Output) -> int:
    if out.as_json:
        entry: dict[str, object] = {"slug": error.slug, "text": error.public}
        if error.field:
            entry["field"] = error.field
        print(json.dumps({"error": entry}, indent=2, ensure_ascii=False))
    origin = getattr(error, "origin", None)
    where = f" ({origin})" if origin and origin not in error.public else ""
    print(f"smarthost: {safe(error.public)}{where}", file=sys.stderr)
    return exit_code(error)
