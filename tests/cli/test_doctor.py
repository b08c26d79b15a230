"""`smarthost doctor` finds what is wrong, says what to do, and never falls over."""

from __future__ import annotations

import datetime as dt
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from peers.service import Service
from smarthost.cli import _findings
from smarthost.config import Listen, ProcessSettings, process_settings
from smarthost.spool import Finding, Route, drop, now_us, open_spool
from smarthost.vault import load_or_create_key


@pytest.fixture
def settings(tmp_path: Path) -> ProcessSettings:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o711)
    load_or_create_key(data / "secret.key")
    return process_settings({"SMARTHOST_DATA": str(data), "SMARTHOST_SMTP": "off", "SMARTHOST_HTTP": "off"})


def found(settings: ProcessSettings, name: str) -> Finding:
    matching = [finding for finding in _findings.examine(settings) if finding.name == name]
    assert matching, name
    return max(matching, key=lambda finding: ("ok", "warning", "error").index(finding.severity))


def test_a_folder_that_others_may_write_is_an_error(settings: ProcessSettings) -> None:
    assert found(settings, "data-folder").severity == "ok"
    settings.data.chmod(0o700)
    assert "sendmail.sock" in found(settings, "data-folder").text
    settings.data.chmod(0o755)
    assert found(settings, "data-folder").severity == "warning"
    settings.data.chmod(0o777)
    bad = found(settings, "data-folder")
    assert (bad.severity, f"chmod 711 {settings.data}" in bad.text) == ("error", True)


def test_a_key_file_that_others_may_read_or_that_is_gone_is_an_error(settings: ProcessSettings) -> None:
    settings.secret_key_file.chmod(0o640)
    assert "chmod 600" in found(settings, "key-file").text
    settings.secret_key_file.unlink()
    bad = found(settings, "key-file")
    assert (bad.severity, "restore" in bad.text) == ("error", True)


def test_a_database_that_others_may_read_is_an_error(settings: ProcessSettings) -> None:
    (settings.data / "smarthost.db").touch()
    (settings.data / "smarthost.db").chmod(0o644)
    assert found(settings, "database-mode").severity == "error"


def test_no_tables_yet_is_said_with_what_to_do(settings: ProcessSettings) -> None:
    assert "smarthost run" in found(settings, "database").text


def certificate(
    settings: ProcessSettings, days: float, folder: Path, *, other_key: bool = False
) -> ProcessSettings:
    authority = trustme.CA()
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    issued = authority.issue_cert("mail.example.org", not_after=until.replace(tzinfo=None))
    key = authority.issue_cert("other.example.org") if other_key else issued
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key_path.write_bytes(key.private_key_pem.bytes())
    key_path.chmod(0o600)
    return replace(settings, tls_cert=cert_path, tls_key=key_path)


@pytest.mark.parametrize(
    ("days", "severity", "words"),
    [(90, "ok", "good for"), (5, "warning", "expires in"), (-2, "error", "expired on")],
)
def test_a_certificates_end_is_seen_coming(
    settings: ProcessSettings, tmp_path: Path, days: int, severity: str, words: str
) -> None:
    finding = found(certificate(settings, days, tmp_path), "certificate")
    assert (finding.severity, words in finding.text) == (severity, True)


def test_a_certificate_with_another_key_or_none_at_all_is_an_error(
    settings: ProcessSettings, tmp_path: Path
) -> None:
    assert (
        "is not the key of" in found(certificate(settings, 90, tmp_path, other_key=True), "certificate").text
    )
    (tmp_path / "key.pem").write_text("nonsense")
    both = replace(settings, tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem")
    assert found(both, "certificate").severity == "error"
    (tmp_path / "key.pem").unlink()
    assert "key.pem" in found(both, "certificate").text


def test_listening_for_everybody_without_tls_is_warned_of(settings: ProcessSettings) -> None:
    open_to_all = replace(
        settings, smtp=Listen("0.0.0.0", 0), http=Listen("0.0.0.0", 0), public_url="http://x"
    )
    assert found(open_to_all, "certificate").severity == "warning"
    assert found(open_to_all, "public-url").severity == "warning"


def test_a_port_of_somebody_else_is_an_error_that_names_the_variable(settings: ProcessSettings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = replace(settings, smtp=Listen("127.0.0.1", other.getsockname()[1]))
        bad = found(taken, "port")
    assert (bad.severity, "SMARTHOST_SMTP" in bad.text) == ("error", True)


def test_a_stopped_engine_a_stale_drop_and_a_refused_one_are_told(folder: Path) -> None:
    place = folder / "doctor"
    with Service(place) as service:
        pass
    drop.make(place)
    drop.leave(place, sender="", recipients=["a@example.com"], content=b"hi")
    (place / "drop-refused").mkdir()
    (place / "drop-refused" / "x.mail").touch()
    answer = service.json("doctor")
    told = {finding["name"]: finding for finding in answer["findings"]}
    assert told["engine"]["severity"] == "warning"
    assert "1 mails wait" in told["drop-folder"]["text"]
    assert told["drop-refused"]["severity"] == "warning"
    assert answer["ok"] is True
    (place / "secret.key").chmod(0o644)
    done = service.command("doctor", "--quiet", check=False)
    assert done.returncode == 1
    assert "key-file" in done.stdout
    assert "synchronous" not in done.stdout


def test_each_finding_is_said_once_and_what_is_well_needs_nothing(folder: Path) -> None:
    place = Service(folder / "well")
    place.folder.mkdir()
    place.json("upstream", "list")
    findings = place.json("doctor")["findings"]
    names = [finding["name"] for finding in findings if finding["name"] != "port"]
    assert len(names) == len(set(names)) and "file-system" in names
    (journal,) = (finding for finding in findings if finding["name"] == "journal-mode")
    assert (journal["severity"], journal["text"]) == ("ok", "journal_mode is wal")


def test_servers_without_verification_or_with_a_login_in_clear_are_warned_of(folder: Path) -> None:
    place = Service(folder / "servers")
    place.folder.mkdir()
    set_ = ("upstream", "set", "--host", "mx.example.com")
    place.json(*set_, "--name", "good", "--encryption", "starttls")
    place.json(*set_, "--name", "open", "--encryption", "tls", "--no-verify")
    clear = ("--encryption", "none", "--username", "u", "--password-stdin")
    made = place.json(*set_, "--name", "clear", *clear, stdin="secret")
    with open_spool(f"sqlite:///{place.folder}/smarthost.db", place.folder, name="test") as store:
        store.set_route(Route(made["id"], now_us() + 10**9, "credentials", "535 no", since=1))
    findings = place.json("doctor")["findings"]
    told = [(found["severity"], found["text"]) for found in findings if found["name"] == "server"]
    assert [severity for severity, _ in told] == ["warning", "ok", "warning"]
    assert "user name, password and mail go in clear" in told[0][1] and "--name clear" in told[0][1]
    assert "anyone on the way" in told[2][1] and "--verify" in told[2][1]
    assert [found["text"] for found in findings if found["name"] == "route"] == [
        "the server clear is paused: 535 no"
    ]
