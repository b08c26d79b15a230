"""The client's SASL mechanisms, and what is never shown of them."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from smarthost.smtp import (
    Client,
    ClientOptions,
    ClientState,
    LocalError,
    Login,
    Ready,
    Refused,
    RefusedReason,
    Security,
)

SECRET = "c4nary-p@ss 7f3e"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def at_auth(mechanism: str, offered: str, login: Login, security: Security = Security.TLS) -> Client:
    client = Client(ClientOptions("c.test", security, login, host="s.test", port=587))
    client.receive(b"220 s.test\r\n")
    client.data_to_send()
    client.receive(f"250-s.test\r\n250 AUTH {offered}\r\n".encode())
    return client


class ScramServer:
    """The server's side of SCRAM-SHA-256 (RFC 5802 3), as a test needs it."""

    def __init__(self, password: str) -> None:
        self.salt, self.iterations = b"0123456789abcdef", 4096
        self.salted = hashlib.pbkdf2_hmac("sha256", password.encode(), self.salt, self.iterations)

    def first(self, client_first: str) -> str:
        self.bare = client_first.removeprefix("n,,")
        self.nonce = self.bare.partition(",r=")[2] + "srv"
        salt = base64.b64encode(self.salt).decode()
        self.server_first = f"r={self.nonce},s={salt},i={self.iterations}"
        return self.server_first

    def final(self, client_final: str) -> str | None:
        without, _, proof = client_final.rpartition(",p=")
        assert without == f"c=biws,r={self.nonce}"
        message = f"{self.bare},{self.server_first},{without}".encode()
        key = hmac.digest(self.salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        if bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True)) != key:
            return None
        server_key = hmac.digest(self.salted, b"Server Key", "sha256")
        return f"v={base64.b64encode(hmac.digest(server_key, message, 'sha256')).decode()}"


def initial(client: Client) -> str:
    line = client.data_to_send().decode().rstrip()
    return base64.b64decode(line.split(" ")[2]).decode()


def answer(client: Client) -> str:
    return base64.b64decode(client.data_to_send()).decode()


def test_scram_with_a_server_that_knows_the_password() -> None:
    server = ScramServer("pencil")
    client = at_auth("auto", "PLAIN SCRAM-SHA-256", Login("us,er=", "pencil"))
    first = initial(client)
    assert first.startswith("n,,n=us=2Cer=3D,r=")
    client.receive(f"334 {b64(server.first(first))}\r\n".encode())
    final = server.final(answer(client))
    assert final is not None
    client.receive(f"334 {b64(final)}\r\n".encode())
    assert client.data_to_send() == b"\r\n"
    (ready,) = client.receive(b"235 2.7.0 Ok\r\n")
    assert isinstance(ready, Ready)


@pytest.mark.parametrize(
    "case", ["wrong proof", "no proof", "early yes", "other nonce", "no salt", "too dear", "garbage"]
)
def test_scram_with_a_server_that_does_not(case: str) -> None:
    server = ScramServer("pencil")
    client = at_auth("auto", "SCRAM-SHA-256", Login("user", "pencil"))
    first = server.first(initial(client))
    changed = {
        "early yes": None,
        "other nonce": "r=abc,s=MTIz,i=4096",
        "no salt": first.replace("s=MDEyMzQ1Njc4OWFiY2RlZg==", "s==="),
        "too dear": first.replace("i=4096", "i=999999999"),
        "garbage": "hello",
    }.get(case, first)
    events = client.receive(f"334 {b64(changed)}\r\n".encode() if changed else b"235 Ok\r\n")
    if not events:
        assert server.final(answer(client))
        wrong = f"334 {b64('v=' + b64('x' * 32))}\r\n"
        events = client.receive(wrong.encode() if case == "wrong proof" else b"235 Ok\r\n")
    (refused,) = events
    assert isinstance(refused, Refused)
    unverified = case in ("wrong proof", "no proof", "early yes")
    assert refused.reason is (RefusedReason.SERVER_UNVERIFIED if unverified else RefusedReason.AUTH_PROTOCOL)


def test_scram_tells_what_the_server_said_of_the_password() -> None:
    server = ScramServer("other")
    client = at_auth("auto", "SCRAM-SHA-256", Login("user", "pencil"))
    client.receive(f"334 {b64(server.first(initial(client)))}\r\n".encode())
    assert server.final(answer(client)) is None
    client.receive(f"334 {b64('e=invalid-proof')}\r\n".encode())
    client.data_to_send()
    (refused,) = client.receive(b"535 5.7.8 No\r\n")
    assert isinstance(refused, Refused)
    assert refused.reason is RefusedReason.CREDENTIALS
    assert "invalid-proof" in refused.text


@pytest.mark.parametrize(
    ("offered", "security", "chosen"),
    [
        ("LOGIN PLAIN CRAM-MD5 SCRAM-SHA-256", Security.TLS, b"AUTH SCRAM-SHA-256 "),
        ("LOGIN PLAIN CRAM-MD5", Security.TLS, b"AUTH PLAIN "),
        ("LOGIN CRAM-MD5", Security.TLS, b"AUTH LOGIN\r\n"),
        ("LOGIN PLAIN CRAM-MD5", Security.NONE, b"AUTH CRAM-MD5\r\n"),
        ("plain", Security.NONE, b"AUTH PLAIN "),
    ],
)
def test_auto_takes_the_best_that_is_offered(offered: str, security: Security, chosen: bytes) -> None:
    assert at_auth("auto", offered, Login("u", "p"), security).data_to_send().startswith(chosen)


def test_auto_takes_no_oauth() -> None:
    client = at_auth("auto", "XOAUTH2 OAUTHBEARER", Login("u", "p"))
    assert client.state is ClientState.CLOSED
    assert b"AUTH" not in client.data_to_send()


def test_oauthbearer_names_the_server() -> None:
    client = at_auth("oauthbearer", "OAUTHBEARER", Login("u@x", "tok", "oauthbearer"))
    assert initial(client) == "n,a=u@x,\1host=s.test\1port=587\1auth=Bearer tok\1\1"


def test_a_token_too_long_for_the_command_waits_for_the_challenge() -> None:
    token = "t" * 20_000
    client = at_auth("xoauth2", "XOAUTH2", Login("u@x", token, "xoauth2"))
    assert client.data_to_send() == b"AUTH XOAUTH2\r\n"
    client.receive(b"334 \r\n")
    assert token in answer(client)


@pytest.mark.parametrize("bad", ["a\0b", "a\rb", "a\nb", "a\x1bb"])
def test_names_and_passwords_with_control_characters_are_refused(bad: str) -> None:
    for login in (Login(bad, "p"), Login("u", bad)):
        with pytest.raises(LocalError) as error:
            Client(ClientOptions("c.test", Security.TLS, login))
        assert bad not in str(error.value)


def test_an_unknown_mechanism_is_refused() -> None:
    with pytest.raises(LocalError):
        Client(ClientOptions("c.test", Security.TLS, Login("u", "p", "ntlm")))


def test_passwords_are_normalised_as_servers_do() -> None:
    composed, decomposed = Login("u", "p\u00e4ss\u00a0wort"), Login("u", "pa\u0308ss wort")
    assert initial(at_auth("plain", "PLAIN", composed)) == initial(at_auth("plain", "PLAIN", decomposed))


@pytest.mark.parametrize(
    "mechanism", ["plain", "login", "cram-md5", "scram-sha-256", "xoauth2", "oauthbearer"]
)
def test_cred_06_no_secret_is_shown_anywhere(mechanism: str) -> None:
    login = Login("user", SECRET, mechanism)
    client = at_auth(mechanism, mechanism.upper(), login)
    said = client.data_to_send()
    for _ in range({"plain": 0, "login": 2, "scram-sha-256": 0}.get(mechanism, 1)):
        client.receive(f"334 {b64('a challenge')}\r\n".encode())
        said += client.data_to_send()
    assert client.state is ClientState.AUTH
    plain = b64(f"\0user\0{SECRET}")
    events = client.receive(f"535 5.7.8 {SECRET} is wrong, {b64(SECRET)} too, {plain}\r\n".encode())
    shown = "\n".join([*client.transcript, repr(events), repr(client.options), repr(login)])
    for shape in (SECRET, b64(SECRET), plain):
        assert shape not in shown
    for line in said.decode().split("\r\n"):
        payload = line.split(" ")[-1]
        if len(payload) > 12 and payload not in ("SCRAM-SHA-256", "OAUTHBEARER"):
            assert payload not in shown
    assert any("[redacted]" in line for line in client.transcript)


def test_the_transcript_shows_the_dialogue_and_is_bounded() -> None:
    client = at_auth("plain", "PLAIN", Login("u", SECRET))
    client.data_to_send()
    client.receive(b"235 2.7.0 Ok\r\n")
    assert client.transcript == (
        "< 220 s.test",
        "> EHLO c.test",
        "< 250-s.test",
        "< 250 AUTH PLAIN",
        "> AUTH PLAIN [redacted]",
        "< 235 2.7.0 Ok",
    )


@pytest.mark.parametrize(
    ("mechanism", "offered", "text"),
    [
        (
            "scram-sha-256",
            "LOGIN PLAIN",
            "SCRAM-SHA-256 is configured, but the server offers LOGIN and PLAIN only",
        ),
        ("plain", "GSSAPI", "PLAIN is configured, but the server offers GSSAPI only"),
        (
            "auto",
            "NTLM GSSAPI XOAUTH2",
            "The login can use SCRAM-SHA-256, PLAIN, LOGIN or CRAM-MD5, but the server offers NTLM, GSSAPI and"
            " XOAUTH2 only",
        ),
        ("plain", "", "PLAIN is configured, but the server offers no mechanism"),
        (
            "plain",
            " ".join(f"X-{n}" for n in range(100)),
            "PLAIN is configured, but the server offers X-0, X-1, X-2, X-3, X-4, X-5, X-6, X-7 and others only",
        ),
    ],
)
def test_it_says_what_is_configured_and_what_is_offered(mechanism: str, offered: str, text: str) -> None:
    client = Client(
        ClientOptions("c.test", Security.TLS, Login("u", SECRET, mechanism), host="s.test", port=465)
    )
    client.receive(b"220 s.test\r\n")
    client.data_to_send()
    (refused,) = client.receive(f"250-s.test\r\n250 AUTH {offered}\r\n".encode())
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.text) == (RefusedReason.NO_MECHANISM, text)


def test_it_says_which_mechanisms_were_refused() -> None:
    client = at_auth("auto", "PLAIN LOGIN XOAUTH2", Login("u", SECRET))
    client.data_to_send()
    assert client.receive(b"504 5.5.4 Not that one\r\n") == []
    client.data_to_send()
    (refused,) = client.receive(b"504 5.5.4 Nor that one\r\n")
    assert isinstance(refused, Refused)
    assert refused.reason is RefusedReason.NO_MECHANISM
    assert (
        refused.text == "The server refuses PLAIN and LOGIN, and offers nothing else that the login can use"
    )
    assert refused.reply is not None and refused.reply.code == 504
