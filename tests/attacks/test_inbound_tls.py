"""TLS at our doors: nothing said in clear survives, nothing weak is spoken, nobody who stalls holds others up."""

import shutil
import socket
import ssl
import threading

import pytest
import trustme
from smtp_door import Door, untrusting

from smarthost.engine.submission import Settings
from smarthost.routing import Principal, hash_secret


def test_tls_01_what_follows_starttls_in_clear_is_never_followed(tmp_path, certificate):
    with Door(tmp_path, tls=certificate) as door, door.client() as client:
        client.say("EHLO x")
        client.send(b"STARTTLS\r\nNOOP\r\nNOOP\r\n")
        assert client.reply().startswith("220")
        client.sock = untrusting().wrap_socket(client.sock)
        assert client.say("NOOP").startswith("250")
        client.send(b"QUIT\r\n")
        assert client.reply().startswith("221"), "one NOOP inside TLS, one answer"


def test_tls_04_starttls_forgets_the_transaction(tmp_path, certificate):
    with Door(tmp_path, tls=certificate) as door, door.client() as client:
        client.say("EHLO x")
        client.login()
        client.say("MAIL FROM:<a@example.test>")
        client.say("RCPT TO:<b@example.net>")
        if client.say("STARTTLS").startswith("220"):
            client.sock = untrusting().wrap_socket(client.sock)
        assert client.say("DATA").startswith("503")
        client.say("EHLO x")
        assert client.say("MAIL FROM:<a@example.test>")[:3] == "530", "the login in clear is forgotten too"


def test_mail_goes_through_starttls_and_implicit_tls(tmp_path, certificate):
    with Door(tmp_path, tls=certificate) as door:
        with door.client() as client:
            assert "STARTTLS" in client.say("EHLO x")
            assert client.starttls().startswith("220")
            assert "STARTTLS" not in client.say("EHLO x")
            assert client.login() == "235"
            assert client.mail().startswith("250")
        with door.ready(tls=True) as client:
            assert client.mail(
                content=b"From: a@example.test\r\n\r\n" + b"0123456789\r\n" * 60_000
            ).startswith("250")
        assert len(door.store.messages) == 2
        assert b"ESMTPSA" in door.store.messages[0].trace and b"TLSv1.3" in door.store.messages[1].trace


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_08_old_versions_are_refused(tmp_path, certificate, version):
    context = untrusting()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with Door(tmp_path, tls=certificate) as door:
        with (
            socket.create_connection(door.addresses["smtps"]) as sock,
            pytest.raises((ssl.SSLError, OSError)),
        ):
            context.wrap_socket(sock)
        assert "tls-failed" in door.line("tls-failed")


def test_tls_08_weak_ciphers_are_refused(tmp_path, certificate):
    context = untrusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:eNULL:@SECLEVEL=0")
    with (
        Door(tmp_path, tls=certificate) as door,
        socket.create_connection(door.addresses["smtps"]) as sock,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        context.wrap_socket(sock)


def test_tls_09_auth_in_clear_is_neither_offered_nor_taken(tmp_path, certificate):
    """From elsewhere than loopback: the peer's address is made to look so."""
    with Door(tmp_path, tls=certificate) as door:
        elsewhere(door, "192.0.2.7")
        with door.client() as client:
            assert "AUTH" not in client.say("EHLO x")
            assert client.say("AUTH PLAIN AGEAYg==").startswith("538 5.7.11")
            assert client.say("MAIL FROM:<a@example.test>").startswith("530")
        assert "AGEAYg" not in door.logs


def test_tls_09_an_old_printer_may_where_its_application_says_so(tmp_path):
    printer = Principal(
        id="app:2", name="Old", login="old", secrets=(hash_secret("s" * 40),), clear_networks=("10.1.0.0/16",)
    )
    other = Principal(id="app:3", name="New", login="new", secrets=(hash_secret("t" * 40),))
    import msgspec
    from smtp_door import LIVE

    directory = msgspec.structs.replace(LIVE, clear_networks=("10.1.0.0/16",))
    with Door(tmp_path, directory=directory, principals=(printer, other)) as door:
        elsewhere(door, "10.1.2.3")
        with door.client() as client:
            assert "AUTH PLAIN" in client.say("EHLO x")
            assert client.login("new", "t" * 40) == "538", "its own application was not allowed it"
            assert client.login("old", "s" * 40) == "235"


def elsewhere(door, ip):
    """Let connections look as if they came from `ip`."""
    from dataclasses import replace

    taken = door.submission._taken
    door.submission._listeners["smtp"]._taken = lambda sock, peer: taken(
        sock, replace(peer, ip=ip, loopback=False)
    )


HTTP = b"POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.net>\r\nDATA\r\nx\r\n.\r\n"


@pytest.mark.parametrize("spoken", [HTTP, b"GET / HTTP/1.1\r\n\r\n", b"CONNECT x:25 HTTP/1.1\r\n\r\n"])
def test_tls_10_http_on_the_mail_port_is_cut_off(tmp_path, spoken):
    from smtp_door import CAPTURE

    with Door(tmp_path, directory=CAPTURE) as door, door.client() as client:
        client.send(spoken)
        assert client.reply()[:3] in ("421", "554")
        assert client.closed() and door.store.messages == []


def test_tls_10_a_handshake_on_the_clear_port_is_cut_off(tmp_path):
    with Door(tmp_path) as door, socket.create_connection(door.addresses["smtp"]) as sock:
        sock.settimeout(10)
        with pytest.raises((ssl.SSLError, OSError)):
            untrusting().wrap_socket(sock)


@pytest.mark.parametrize("spoken", [b"EHLO x\r\n", HTTP])
def test_tls_10_clear_text_on_the_tls_port_is_cut_off(tmp_path, certificate, spoken):
    with Door(tmp_path, tls=certificate) as door, socket.create_connection(door.addresses["smtps"]) as sock:
        sock.settimeout(10)
        sock.sendall(spoken)
        try:
            answer = sock.recv(100)
        except ConnectionResetError:
            answer = b""
        assert not answer.startswith(b"2") and door.store.messages == []


@pytest.mark.parametrize("where", ["smtps", "starttls"])
def test_tls_11_handshakes_that_never_end_are_bounded_and_hold_nobody_up(tmp_path, certificate, where):
    with Door(tmp_path, tls=certificate, settings=Settings(handshake=0.5)) as door:
        stalled = []
        for _ in range(100):
            client = door.client(tls=False) if where == "starttls" else None
            if client is not None:
                client.say("EHLO x")
                assert client.say("STARTTLS").startswith("220")
                stalled.append(client.sock)
            else:
                stalled.append(socket.create_connection(door.addresses["smtps"]))
        with door.ready() as client:
            assert client.mail().startswith("250")
        for sock in stalled:
            sock.settimeout(10)
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
            sock.close()
        for _ in range(500):
            if door.submission.connections == 0:
                break
            threading.Event().wait(0.01)
        assert door.submission.connections == 0


def test_a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_is_not(tmp_path, certificate):
    mine = tmp_path / "server.pem"
    shutil.copy(certificate[0], mine)
    with Door(tmp_path, tls=(mine, mine), settings=Settings(sweep=0.02)) as door:
        before = shown(door)
        running = door.ready(tls=True)
        mine.write_text("no certificate")
        assert door.line("certificate-unusable")
        assert shown(door) == before
        issued = trustme.CA().issue_cert("renewed.example.test", "127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(str(mine))
        assert door.line("certificate-reloaded")
        assert shown(door) != before
        with running:
            assert running.mail().startswith("250")


def shown(door):
    with door.client(tls=True) as client:
        return client.sock.getpeercert(binary_form=True)
