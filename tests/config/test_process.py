"""What the process reads from its environment before anything else."""

import re
from pathlib import Path

import pytest

from smarthost.config import PROCESS, Listen, known_variables, process_settings
from smarthost.errors import ConfigError


def test_an_empty_environment_is_enough() -> None:
    found = process_settings({})
    assert (found.http, found.smtp, found.smtps) == (
        Listen("127.0.0.1", 8025),
        Listen("127.0.0.1", 2525),
        None,
    )
    assert found.database_url == f"sqlite:///{Path('data').absolute() / 'smarthost.db'}"
    assert found.secret_key_file == Path("data").absolute() / "secret.key"
    assert (found.public_url, found.config, found.lock) == ("http://127.0.0.1:8025", None, ())


def test_every_variable_of_the_contract_is_read_and_documented(tmp_path: Path) -> None:
    found = process_settings(
        {
            "SMARTHOST_DATA": str(tmp_path),
            "SMARTHOST_DATABASE_URL": "postgresql://db/x",
            "SMARTHOST_HTTP": "[::1]:80",
            "SMARTHOST_SMTP": "off",
            "SMARTHOST_SMTPS": ":465",
            "SMARTHOST_TLS_CERT": "c.pem",
            "SMARTHOST_TLS_KEY": "k.pem",
            "SMARTHOST_PUBLIC_URL": "https://mail.example.org/",
            "SMARTHOST_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "SMARTHOST_SECRET_KEY_FILE": "/run/key",
            "SMARTHOST_CONFIG": "/etc/smarthost",
            "SMARTHOST_LOCK": "limits.* upstream.*",
            "SMARTHOST_METRICS_NETWORKS": "192.0.2.0/24, 2001:db8::/32",
            "SMARTHOST_OWNER": "boss@example.org",
        }
    )
    assert (found.http, found.smtp, found.smtps) == (Listen("::1", 80), None, Listen("0.0.0.0", 465))
    assert str(found.http) == "[::1]:80"
    assert found.public_url == "https://mail.example.org"
    assert found.trusted_proxies == ("10.0.0.0/8", "::1")
    assert (found.secret_key_file, found.config) == (Path("/run/key"), Path("/etc/smarthost"))
    assert found.lock == ("limits.*", "upstream.*")
    assert found.metrics_networks == ("192.0.2.0/24", "2001:db8::/32")
    assert found.owner == "boss@example.org"
    assert len(PROCESS) == 15


def test_every_variable_that_the_program_names_is_documented() -> None:
    sources = Path(__file__).parents[2] / "src" / "smarthost"
    named = {
        name
        for source in sources.rglob("*.py")
        for name in re.findall(r"\"(SMARTHOST_[A-Z_]*[A-Z])\"", source.read_text())
    }
    assert named <= set(known_variables())


@pytest.mark.parametrize(("text", "networks"), [("", ("127.0.0.0/8", "::1")), ("off", ())])
def test_metrics_are_for_this_machine_unless_said_otherwise(text: str, networks: tuple[str, ...]) -> None:
    assert process_settings({"SMARTHOST_METRICS_NETWORKS": text}).metrics_networks == networks


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"SMARTHOST_HTTP": "8025"}, "SMARTHOST_HTTP"),
        ({"SMARTHOST_SMTP": "h:99999"}, "SMARTHOST_SMTP"),
        ({"SMARTHOST_SMTP": "h:x"}, "SMARTHOST_SMTP"),
        ({"SMARTHOST_SMTPS": "h:465"}, "SMARTHOST_SMTPS"),
        ({"SMARTHOST_TLS_CERT": "c"}, "SMARTHOST_TLS_KEY"),
        ({"SMARTHOST_TLS_KEY": "k"}, "SMARTHOST_TLS_CERT"),
        ({"SMARTHOST_DATABASE_URL": "mysql://x"}, "SMARTHOST_DATABASE_URL"),
        ({"SMARTHOST_OWNER": "a@b@c"}, "SMARTHOST_OWNER"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(variables: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        process_settings(variables)
    assert caught.value.origin == named
    assert named in caught.value.public
