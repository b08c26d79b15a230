"""SASL mechanisms, client side, and the decoding of PLAIN and LOGIN for the server.

A mechanism answers challenges until the server says 235; what it must have seen by then (SCRAM's proof that
the server knows the password, RFC 5802 3) is asked with `satisfied`. All of them are bounded: a server that
goes on asking is out of its protocol. Nothing here decides whether a mechanism may be used in clear; that is
`choose`.

Names and passwords are compared by servers as bytes, so ours are put into the form that most of them store:
normalised (NFKC, with other spaces made SPACE, the heart of SASLprep, RFC 4013) and without characters that
no prepared string can hold.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import unicodedata
from collections.abc import Sequence

from smarthost.smtp._types import Login, Security

# What "auto" tries, best first. Under TLS a password in PLAIN is safe from everybody but the server, and
# CRAM-MD5 makes that server store it in clear; without TLS the order is by what a listener learns.
_AUTO_TLS = ("SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5")
_AUTO_CLEAR = ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN")
_MAX_ITERATIONS = 1_000_000  # of PBKDF2; a server may not spend our seconds


class SaslError(Exception):
    """The server broke the mechanism. `unverified`: it failed to prove that it knows the password."""

    def __init__(self, text: str, *, unverified: bool = False) -> None:
        super().__init__(text)
        self.unverified = unverified


def choose(
    login: Login, offered: Sequence[str], security: Security, refused: Sequence[str] = ()
) -> list[str]:
    """Mechanisms to try, in order; more than one only where the server then says 504 or 534 to the first.

    A named mechanism is tried alone, and only where it is offered. Security is what was configured: NONE is a
    choice of the administrator, who was warned.
    """
    if login.mechanism != "auto":
        wanted: tuple[str, ...] = (login.mechanism.upper(),)
    else:
        wanted = _AUTO_CLEAR if security is Security.NONE else _AUTO_TLS
    return [name for name in wanted if name in offered and name in MECHANISMS and name not in refused]


def explain(login: Login, offered: Sequence[str], refused: Sequence[str] = ()) -> str:
    """Why `choose` has nothing (left): what is configured beside what is offered."""
    if refused:
        return f"The server refuses {_words(refused)}, and offers nothing else that the login can use"
    if login.mechanism != "auto":
        wanted = f"{login.mechanism.upper()} is configured"
    else:
        wanted = f"The login can use {_words(_AUTO_TLS, 'or')}"
    found = f"{_words(offered)} only" if offered else "no mechanism"
    return f"{wanted}, but the server offers {found}"


def _words(names: Sequence[str], last: str = "and") -> str:
    """As in "A, B and C"; a server can offer a great many."""
    shown = [*names[:8], *(["others"] if len(names) > 8 else [])]
    return f" {last} ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def prepare(text: str) -> str:
    """A name or password as servers compare it. ValueError: a control character or an unassigned one."""
    if text.isascii():
        prepared = text
    else:
        spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text)
        prepared = unicodedata.normalize("NFKC", spaced)
    for character in prepared:
        if character in "\0\r\n" or unicodedata.category(character) in ("Cc", "Cs"):
            raise ValueError("a control character in a user name or password")
    return prepared


class Mechanism:
    """One dialogue. `initial` is what goes with the AUTH command (None: wait for the first challenge)."""

    initial: bytes | None = None
    most_steps = 1
    proves_server = False

    def __init__(self, login: Login, host: str, port: int) -> None:
        self.username = prepare(login.username)
        self.secret = prepare(login.secret)
        self.satisfied = True
        self.error = ""  # what the server said inside the mechanism, for people
        self._repeated = False

    def respond(self, challenge: bytes) -> bytes:
        """Answer a challenge. Raises SaslError."""
        if not challenge and self.initial is not None and not self._repeated:
            self._repeated = True  # a server that did not look at the initial response (RFC 4954 4)
            return self.initial
        return self._answer(challenge)

    def _answer(self, challenge: bytes) -> bytes:
        raise SaslError("a challenge where none belongs")


class Plain(Mechanism):
    """RFC 4616."""

    def __init__(self, login: Login, host: str, port: int) -> None:
        super().__init__(login, host, port)
        self.initial = f"\0{self.username}\0{self.secret}".encode()


class PlainLogin(Mechanism):
    """LOGIN (draft-murchison-sasl-login): what is asked is of no meaning, name and password come in turn."""

    most_steps = 2

    def __init__(self, login: Login, host: str, port: int) -> None:
        super().__init__(login, host, port)
        self._answers = [self.secret.encode(), self.username.encode()]
        self.satisfied = False

    def _answer(self, challenge: bytes) -> bytes:
        if not self._answers:
            return super()._answer(challenge)
        answer = self._answers.pop()
        self.satisfied = not self._answers
        return answer


class CramMd5(Mechanism):
    """RFC 2195."""

    def __init__(self, login: Login, host: str, port: int) -> None:
        super().__init__(login, host, port)
        self.satisfied = False

    def _answer(self, challenge: bytes) -> bytes:
        self.satisfied = True
        digest = hmac.new(self.secret.encode(), challenge, hashlib.md5).hexdigest()
        return f"{self.username} {digest}".encode()


class ScramSha256(Mechanism):
    """RFC 5802 and 7677, without channel binding; the server's proof is required."""

    most_steps = 2
    proves_server = True
    _FIRST = re.compile(r"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,9})(?:,.*)?")

    def __init__(self, login: Login, host: str, port: int) -> None:
        super().__init__(login, host, port)
        self.nonce = secrets.token_urlsafe(24)
        name = self.username.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={name},r={self.nonce}"
        self.initial = f"n,,{self._bare}".encode()
        self._proof: bytes | None = None
        self.satisfied = False

    def _answer(self, challenge: bytes) -> bytes:
        return self._final(challenge) if self._proof is None else self._verify(challenge)

    def _final(self, challenge: bytes) -> bytes:
        first = challenge.decode("utf-8", "replace")
        match = self._FIRST.fullmatch(first)
        if match is None or not match[1].startswith(self.nonce) or match[1] == self.nonce:
            raise SaslError("the server's first SCRAM message is malformed")
        salt, iterations = from_base64(match[2].encode()), int(match[3])
        if not salt or iterations > _MAX_ITERATIONS:
            raise SaslError("the server's first SCRAM message asks for too much")
        salted = hashlib.pbkdf2_hmac("sha256", self.secret.encode(), salt, iterations)
        client_key = _hmac(salted, b"Client Key")
        without_proof = f"c=biws,r={match[1]}"
        message = f"{self._bare},{first},{without_proof}".encode()
        signature = _hmac(hashlib.sha256(client_key).digest(), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._proof = _hmac(_hmac(salted, b"Server Key"), message)
        return f"{without_proof},p={base64.b64encode(proof).decode('ascii')}".encode()

    def _verify(self, challenge: bytes) -> bytes:
        fields = challenge.decode("utf-8", "replace").split(",")
        if fields[0].startswith("e="):
            self.error = fields[0][2:80]
            return b""
        given = from_base64(fields[0][2:].encode()) if fields[0].startswith("v=") else None
        if given is None or self._proof is None or not hmac.compare_digest(given, self._proof):
            raise SaslError("the server could not prove that it knows the password", unverified=True)
        self.satisfied = True
        return b""


class XOAuth2(Mechanism):
    """Google's and Microsoft's bearer mechanism: a challenge is an error text that wants an empty answer."""

    def __init__(self, login: Login, host: str, port: int) -> None:
        super().__init__(login, host, port)
        self.initial = f"user={self.username}\1auth=Bearer {self.secret}\1\1".encode()

    def _answer(self, challenge: bytes) -> bytes:
        self.error = challenge.decode("utf-8", "replace")[:500]
        self.satisfied = False
        return b""


class OAuthBearer(Mechanism):
    """RFC 7628. A challenge is an error that wants a lone \\x01."""

    def __init__(self, login: Login, host: str, port: int) -> None:
        super().__init__(login, host, port)
        name = self.username.replace("=", "=3D").replace(",", "=2C")
        place = (f"\1host={host}" if host else "") + (f"\1port={port}" if port else "")
        self.initial = f"n,a={name},{place}\1auth=Bearer {self.secret}\1\1".encode()

    def _answer(self, challenge: bytes) -> bytes:
        self.error = challenge.decode("utf-8", "replace")[:500]
        self.satisfied = False
        return b"\1"


MECHANISMS: dict[str, type[Mechanism]] = {
    "PLAIN": Plain,
    "LOGIN": PlainLogin,
    "CRAM-MD5": CramMd5,
    "SCRAM-SHA-256": ScramSha256,
    "XOAUTH2": XOAuth2,
    "OAUTHBEARER": OAuthBearer,
}


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def from_base64(data: bytes) -> bytes | None:
    """Strict base64 (RFC 4648 4), or None."""
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        return None


def read_plain(data: bytes) -> tuple[str, str, str] | None:
    """(authzid, name, password) of PLAIN's message (RFC 4616 2), or None."""
    parts = data.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        return None
    texts = [read_text(part) for part in parts]
    if None in texts:
        return None
    return texts[0] or "", texts[1] or "", texts[2] or ""


def read_text(data: bytes) -> str | None:
    """A name or password a client gave: UTF-8 without control characters, prepared; or None."""
    try:
        return prepare(data.decode("utf-8"))
    except ValueError:
        return None
