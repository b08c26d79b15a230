"""Configuration files in the running service: taken over, followed, refused while broken, locked."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest


@pytest.fixture
def write(fresh: SimpleNamespace) -> Callable[[str], bool]:
    """Write the configuration file and let the follower look, as its thread does every second."""
    from smarthost.control.directory.files import Follower

    follower = Follower()
    path = fresh.data / "conf.d" / "10-mail.toml"
    follower.reload()

    def write(text: str) -> bool:
        path.write_text(text)
        return follower.reload()

    write.reload = follower.reload  # type: ignore[attr-defined]
    return write


def directory() -> object:
    from smarthost.control.directory.reading import current

    return current().directory


SERVER = """
[upstream]
name = "relay"
host = "relay.example.net"
username = "hub"
password = "first-secret"
"""


def test_a_changed_file_takes_effect(write: Callable[[str], bool]) -> None:
    assert write("[limits]\nmax_recipients = 7\n")
    assert directory().limits.max_recipients == 7  # type: ignore[attr-defined]
    assert write("[limits]\nmax_recipients = 8\n")
    assert directory().limits.max_recipients == 8  # type: ignore[attr-defined]
    assert not write.reload()  # type: ignore[attr-defined]


def test_a_broken_file_leaves_the_last_good_in_force(write: Callable[[str], bool]) -> None:
    from smarthost.control.applications import services
    from smarthost.control.spooling import spool

    write("[limits]\nmax_recipients = 7\n")
    assert not write("[limits]\nmax_recipient = 9\n")
    assert directory().limits.max_recipients == 7  # type: ignore[attr-defined]
    (event,) = spool().events(kind="config.broken")
    assert "10-mail.toml, line 2" in event.text and event.severity == "error"
    write.reload()  # type: ignore[attr-defined]
    services.add("Meanwhile", actor="test")
    write.reload()  # type: ignore[attr-defined]
    assert directory().limits.max_recipients == 7  # type: ignore[attr-defined]
    assert len(spool().events(kind="config.broken")) == 1


def test_a_server_of_a_file_is_sealed_and_follows_it(write: Callable[[str], bool]) -> None:
    from smarthost.control.upstreams.services import find, list_upstreams, open_secret

    write(SERVER)
    assert directory().mode.value == "live"  # type: ignore[attr-defined]
    row = find("relay")
    assert open_secret(row, "password") == "first-secret"
    assert "first-secret" not in row.password
    version = row.version
    write(SERVER + "\n# a comment\n")
    assert find("relay").version == version
    write(SERVER.replace("first", "second"))
    assert open_secret(find("relay"), "password") == "second-secret"
    assert find("relay").version == version + 1
    write("")
    assert list_upstreams() == []


def test_an_administrator_takes_a_server_over_and_gives_it_back(write: Callable[[str], bool]) -> None:
    from smarthost.control.upstreams import services

    write(SERVER)
    assert "10-mail.toml" in str(services.show(services.find("relay"))["origin"])
    services.set_upstream("relay", {"connections": 2}, actor="test")
    write(SERVER.replace("relay.example.net", "other.example.net"))
    assert (services.find("relay").host, services.find("relay").connections) == ("relay.example.net", 2)
    services.remove("relay", actor="test")
    write.reload()  # type: ignore[attr-defined]
    assert services.find("relay").host == "other.example.net"


def test_a_locked_server_is_refused_with_its_origin(write: Callable[[str], bool]) -> None:
    from smarthost.control.upstreams import services
    from smarthost.errors import ConfigError

    write(SERVER + "lock = true\n")
    for act in (
        lambda: services.set_upstream("relay", {"host": "evil.test"}, actor="test", password="x"),
        lambda: services.remove("relay", actor="test"),
    ):
        with pytest.raises(ConfigError, match=r"10-mail\.toml"):
            act()
    assert services.find("relay").host == "relay.example.net"


def test_what_was_set_here_stands_above_files_until_restored(write: Callable[[str], bool]) -> None:
    from smarthost.control.directory import policy
    from smarthost.control.directory.services import restore_setting, set_setting

    write("[limits]\nmax_recipients = 7\n")
    set_setting("limits.max_recipients", "20", actor="ada")
    assert directory().limits.max_recipients == 20  # type: ignore[attr-defined]
    assert policy.settings().values["limits.max_recipients"].origin.startswith("set by ada")
    restore_setting("limits.max_recipients", actor="ada")
    assert directory().limits.max_recipients == 7  # type: ignore[attr-defined]


def test_a_locked_setting_is_refused_with_its_origin(write: Callable[[str], bool]) -> None:
    from smarthost.control.directory.services import restore_setting, set_setting
    from smarthost.errors import ConfigError

    write("lock = ['limits.*']\n[limits]\nmax_recipients = 7\n")
    write("[limits]\nlock = true\nmax_recipients = 7\n")
    for act in (
        lambda: set_setting("limits.max_recipients", 20, actor="ada"),
        lambda: restore_setting("limits.max_recipients", actor="ada"),
    ):
        with pytest.raises(ConfigError, match="locked"):
            act()


def test_an_unknown_setting_names_the_nearest(fresh: SimpleNamespace) -> None:
    from smarthost.control.directory.services import set_setting
    from smarthost.errors import ConfigError

    with pytest.raises(ConfigError, match=r"limits\.max_size"):
        set_setting("limits.max_sise", 1, actor="ada")


def test_the_log_driver_forces_capture_over_every_server(write: Callable[[str], bool]) -> None:
    write(SERVER + '\n[delivery]\ndriver = "log"\n')
    assert directory().mode.value == "log"  # type: ignore[attr-defined]


def test_commands_compile_with_the_services_settings_and_not_their_own(
    write: Callable[[str], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    from smarthost.control.applications import services

    write("[limits]\nmax_recipients = 7\n")
    monkeypatch.setenv("SMARTHOST_LIMITS_MAX_RECIPIENTS", "99")
    services.add("From a shell", actor="test")
    assert directory().limits.max_recipients == 7  # type: ignore[attr-defined]
