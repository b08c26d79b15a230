"""Where a command gets a password from: a prompt, standard input or a file; never from its command line."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path

from smarthost.errors import ConfigError


def add_password_options(parser: argparse.ArgumentParser) -> None:
    """Add --password-stdin and --password-file; one of them at most."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    source.add_argument("--password-file", metavar="F", type=Path, help="read the password from this file")


def read_password(args: argparse.Namespace, prompt: str, *, confirm: bool = False) -> str:
    """The password, without the line end that follows it.

    Raises ConfigError where none is given and there is nobody to ask.
    """
    if args.password_stdin:
        password = sys.stdin.readline()
    elif args.password_file:
        try:
            password = args.password_file.read_text().partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The password file cannot be read: {error}") from error
    elif sys.stdin.isatty():
        password = getpass.getpass(f"{prompt}: ")
        if confirm and getpass.getpass("Again: ") != password:
            raise ConfigError("The two passwords are not the same: nothing was changed")
    else:
        raise ConfigError(f"{prompt} is needed: give --password-stdin or --password-file")
    password = password.rstrip("\r\n")
    if not password:
        raise ConfigError("The password is empty: nothing was changed")
    return password
