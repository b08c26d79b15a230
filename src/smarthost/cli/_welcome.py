"""What `smarthost run` says once it is ready: where to look, and one line to try each door."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from smarthost.config import ProcessSettings


def welcome(settings: ProcessSettings, found: dict[str, str]) -> tuple[dict[str, Any], str]:
    """The same as data and as text. found: the mode, and a sign-in link or ""."""
    link = found["link"]
    smtp = str(settings.smtp) if settings.smtp else ""
    data = {
        "ready": True,
        "url": settings.public_url if settings.http else None,
        "smtp": smtp or None,
        "smtps": str(settings.smtps) if settings.smtps else None,
        "data": str(settings.data),
        "sign_in": link or None,
        "mode": found["mode"],
    }
    lines = ["", "Smarthost is ready."]
    if settings.http:
        lines.append(
            f"  Pages and API  {settings.public_url}    (API reference: {settings.public_url}/api/docs)"
        )
    if smtp:
        lines.append(f"  SMTP           {smtp}")
    if settings.smtps:
        lines.append(f"  SMTP with TLS  {settings.smtps}")
    lines.append(f"  Data           {settings.data}")
    if link:
        lines.append(f"  Sign in once   {link}")
    lines += ["", *_mode_lines(found["mode"]), "", *_try_lines(settings)]
    return data, "\n".join(lines)


def _command() -> str:
    """What to type for this program: its name where the shell finds it, else its path from here."""
    if shutil.which("smarthost"):
        return "smarthost"
    path = os.path.relpath(sys.argv[0])
    return path if not path.startswith("..") else os.path.realpath(sys.argv[0])


def _mode_lines(mode: str) -> list[str]:
    if mode == "live":
        return [f"Mail is sent. The servers: {_command()} upstream list"]
    return [
        "Capture mode: mail is kept and shown, nothing leaves this machine until a server is set.",
        f"  To send for real:  {_command()} upstream set --host smtp.example.com --encryption starttls \\",
        "                       --username me@example.com --from me@example.com",
    ]


def _try_lines(settings: ProcessSettings) -> list[str]:
    lines = ["Try it:"]
    if settings.smtp:
        host, port = settings.smtp.host, settings.smtp.port
        lines += [
            f"  curl smtp://{settings.smtp} --mail-from me@example.com --mail-rcpt you@example.org \\",
            "    -F '=Hello;type=text/plain' -H 'Subject: First mail' -H 'From: me@example.com'",
            f"  swaks --server {host} --port {port} --from me@example.com --to you@example.org",
        ]
    lines.append(f"  {_command()} queue list")
    return lines
