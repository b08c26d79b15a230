"""The dialogue of the sendmail program with the engine, and what can end it. Imports next to nothing."""

from __future__ import annotations

import os
import socket

from smarthost.cli import _sysexits as ex

_CONNECT_TIMEOUT = 10.0
_ANSWER_TIMEOUT = 300.0  # RFC 5321 4.5.3.2.6: ten minutes after the final dot; ours answers in milliseconds
_AT_ONCE = 100  # RCPT commands in one write: replies to more could fill the socket while we still write


class SendmailError(Exception):
    """What ends the program: an exit code and one sentence for the caller."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class EngineDownError(Exception):
    """Nobody serves the socket, or the connection broke before an answer."""


class Session:
    """One SMTP dialogue with the engine over its Unix socket."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(_CONNECT_TIMEOUT)
        self._buffer = b""
        try:
            self.socket.connect(path)
        except PermissionError:
            self.socket.close()
            raise SendmailError(
                ex.NOPERM, f"this user may not open {path}: its folder must be searchable (mode 711)"
            ) from None
        except OSError as error:
            self.socket.close()
            raise EngineDownError(str(error)) from error
        self.socket.settimeout(_ANSWER_TIMEOUT)

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            # The engine may have said why before it closed.
            if not isinstance(error, BrokenPipeError | ConnectionResetError):
                raise EngineDownError(str(error)) from error

    def reply(self) -> tuple[int, str]:
        """One reply: code and text of all its lines. Raises EngineDownError where none comes."""
        lines: list[str] = []
        while len(lines) < 200:
            line = self._line()
            lines.append(line[4:])
            if line[3:4] != "-":
                return (int(line[:3]) if line[:3].isdigit() else 500), " ".join(lines)
        raise EngineDownError("endless reply")

    def _line(self) -> str:
        while b"\n" not in self._buffer:
            try:
                piece = self.socket.recv(65536)
            except OSError as error:
                raise EngineDownError(str(error)) from error
            if not piece or len(self._buffer) > 65536:
                raise EngineDownError("the engine closed the connection")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "replace")


def submit(session: Session, sender: str, recipients: list[str], content: bytes) -> str:
    """Hand over one mail, all recipients or none. Returns the engine's words.

    Raises SendmailError with every refused recipient named; EngineDownError where no answer came.
    """
    _expect(session.reply())
    session.send(b"EHLO localhost\r\n")
    extensions = _expect(session.reply())
    utf8 = not (sender + "".join(recipients)).isascii()
    mail = f"MAIL FROM:<{sender}> SIZE={len(content)} BODY=8BITMIME"
    mail += " SMTPUTF8" if utf8 and "SMTPUTF8" in extensions else ""
    session.send(f"{mail}\r\n".encode())
    _expect(session.reply())
    refused = []
    for begin in range(0, len(recipients), _AT_ONCE):
        some = recipients[begin : begin + _AT_ONCE]
        session.send("".join(f"RCPT TO:<{to}>\r\n" for to in some).encode())
        for to in some:
            code, text = session.reply()
            if code == 421:
                raise EngineDownError(text)
            if code >= 300:
                refused.append((to, code, text))
    if refused:
        session.send(b"QUIT\r\n")
        worst = max(refused, key=lambda entry: entry[1])
        raise SendmailError(_exit_for(*worst[1:]), "\n".join(f"{to}: {text}" for to, _, text in refused))
    session.send(f"BDAT {len(content)} LAST\r\n".encode() + content)
    answer = _expect(session.reply())
    session.send(b"QUIT\r\n")
    return answer


def _expect(reply: tuple[int, str]) -> str:
    code, text = reply
    if 200 <= code < 300:
        return text
    if code == 421:
        raise EngineDownError(text)
    exit_code = _exit_for(code, text)
    raise SendmailError(exit_code, f"{text} (you are uid {os.getuid()})" if exit_code == ex.NOPERM else text)


def _exit_for(code: int, text: str) -> int:
    """The exit code of a reply, by its enhanced status code (RFC 3463) where it has one."""
    if code < 500:
        return ex.TEMPFAIL
    for prefix, exit_code in (
        ("5.1.8", ex.CONFIG),
        ("5.1.7", ex.USAGE),
        ("5.1.", ex.NOUSER),
        ("5.3.4", ex.DATAERR),
        ("5.4.6", ex.DATAERR),
        ("5.6.", ex.DATAERR),
        ("5.7.", ex.NOPERM),
    ):
        if text.startswith(prefix):
            return exit_code
    return ex.UNAVAILABLE
