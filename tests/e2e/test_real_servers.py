"""Mail through real servers: Postfix in every mode of encryption and every mechanism it offers, and aiosmtpd."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from peers import postfix
from peers.ports import free_port
from peers.postfix import Postfix
from peers.service import Service
from tests.e2e.conftest import wait_for_state

pytestmark = pytest.mark.skipif(postfix.missing() is not None, reason=postfix.missing() or "")
PASSWORD = 'correct horse 1 "battery" ä\\'


@pytest.fixture(scope="module")
def peer(folder: Path, authority: trustme.CA) -> Iterator[Postfix]:
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    authority.cert_pem.write_to_path(folder / "ca.pem")
    with Postfix(
        folder / "postfix", tls=(cert, key), users={"ann": PASSWORD}, smtps_port=free_port()
    ) as running:
        yield running


def send(service: Service, recipient: str) -> None:
    with smtplib.SMTP("127.0.0.1", service.smtp) as client:
        client.sendmail(
            "ann@example.org", [recipient], "From: ann@example.org\r\nSubject: real\r\n\r\n.dots\r\n..\r\n"
        )


@pytest.mark.parametrize("mechanism", ["auto", "plain", "login", "cram-md5", "scram-sha-256"])
@pytest.mark.parametrize("encryption", ["none", "starttls", "tls"])
def test_it_delivers_through_postfix(
    service: Service, database: str, folder: Path, peer: Postfix, encryption: str, mechanism: str
) -> None:
    port = peer.smtps_port if encryption == "tls" else peer.port
    words = ["--host", "localhost", "--port", str(port), "--encryption", encryption, "--auth", mechanism]
    words += ["--username", "ann", "--password-stdin", "--from", "ann@example.org", "--no-check"]
    if encryption != "none":
        words += ["--ca-file", str(folder / "ca.pem")]
    service.command("upstream", "set", *words, stdin=PASSWORD + "\n")
    if not service.json("app", "list"):
        service.command("app", "add", "local", "--network", "127.0.0.1/32")
    recipient = f"{database}-{encryption}-{mechanism}@example.com"
    send(service, recipient)
    row = wait_for_state(service, recipient, "sent")
    delivered = [mail for mail in peer.delivered() if f"X-Original-To: {recipient}".encode() in mail]
    assert len(delivered) == 1
    assert b"\n\n.dots\n..\n" in delivered[0]
    shown = service.json("queue", "show", row["id"])
    assert "queued as" in str(shown)
    expected = "SCRAM-SHA-256" if mechanism == "auto" else mechanism.upper()
    assert f"sasl_method={expected}" in peer.log()


def test_it_waits_while_the_password_is_wrong_and_goes_on_when_it_is_right(
    service: Service, folder: Path, peer: Postfix
) -> None:
    words = ["--host", "localhost", "--port", str(peer.port), "--encryption", "starttls"]
    words += ["--ca-file", str(folder / "ca.pem"), "--auth", "auto", "--username", "ann", "--password-stdin"]
    words += ["--from", "ann@example.org", "--no-check"]
    service.command("upstream", "set", *words, stdin="wrong\n")
    send(service, "patience@example.com")
    row = wait_for_state(service, "patience@example.com", "queued")
    shown = service.json("queue", "show", row["id"])
    assert shown["recipients"][0]["attempts"] == 0  # a fault of the route costs the message nothing
    service.command("upstream", "set", *words, stdin=PASSWORD + "\n")
    wait_for_state(service, "patience@example.com", "sent")


class Memory:
    """An aiosmtpd handler that keeps what it was given."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        return "250 kept"


def test_it_delivers_through_aiosmtpd_with_login(service: Service) -> None:
    def authenticate(
        server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        return AuthResult(success=getattr(data, "password", b"") == b"secret")

    memory = Memory()
    controller = Controller(
        memory, hostname="127.0.0.1", port=free_port(), authenticator=authenticate, auth_require_tls=False
    )
    controller.start()
    try:
        words = ["--host", "127.0.0.1", "--port", str(controller.port), "--encryption", "none"]
        words += ["--auth", "auto", "--username", "ann", "--password-stdin"]
        words += ["--from", "ann@example.org", "--no-check"]
        service.command("upstream", "set", *words, stdin="secret\n")
        send(service, "aiosmtpd@example.com")
        wait_for_state(service, "aiosmtpd@example.com", "sent")
    finally:
        controller.stop()
    assert [envelope.rcpt_tos for envelope in memory.envelopes] == [["aiosmtpd@example.com"]]
    assert memory.envelopes[0].content is not None
    assert memory.envelopes[0].content.endswith(b"\r\n\r\n.dots\r\n..\r\n")
