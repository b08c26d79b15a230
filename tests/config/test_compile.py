"""The directory that settings and rows make."""

import pytest

from smarthost.config import Layer, Value, compile_directory, resolve
from smarthost.errors import ConfigError
from smarthost.routing import (
    Limits,
    Mode,
    Retention,
    Upstream,
    UpstreamKind,
    check_directory,
    decode_directory,
    encode_directory,
)

SHARED = Upstream(id="s1", name="Shared", host="h")
SECOND = Upstream(id="s2", name="Second", host="h")
OFF = Upstream(id="s3", name="Off", host="h", enabled=False)
MANAGED = Upstream(id="m1", name="Managed", host="h", kind=UpstreamKind.MANAGED)
OWN = Upstream(id="p1", name="Own", host="h", kind=UpstreamKind.PERSONAL)


def settings(**values: object):
    return resolve([Layer(values={name.replace("__", "."): Value(value) for name, value in values.items()})])


def test_every_setting_that_decides_reaches_the_directory() -> None:
    made = settings(
        server__hostname="mail.example.org",
        server__domain="example.org",
        server__contact="ops@example.org",
        limits__max_size=1,
        limits__max_recipients=2,
        limits__max_header=3,
        limits__max_hops=4,
        delivery__require_tls=True,
        delivery__unknown_retry_after=5,
        retention__content_days=6,
        retention__rows_days=7,
        aliases__root="root@example.org",
    )
    found = compile_directory(
        made,
        version=9,
        mode=Mode.LIVE,
        machine="box",
        upstreams=[SHARED, OWN],
        default_upstream="s1",
        networks=[("10.0.0.0/8", "app:1")],
        uids={33: "app:1"},
    )
    assert (found.version, found.mode, found.hostname, found.domain) == (
        9,
        Mode.LIVE,
        "mail.example.org",
        "example.org",
    )
    assert found.limits == Limits(max_size=1, max_recipients=2, max_header=3, max_hops=4)
    assert found.retention == Retention(content_days=6, rows_days=7)
    assert (found.contact, found.require_tls, found.unknown_retry_after) == ("ops@example.org", True, 5)
    assert (found.aliases, found.uids) == ({"root": "root@example.org"}, {33: "app:1"})
    assert (set(found.upstreams), found.default_upstream) == ({"s1", "p1"}, "s1")
    assert decode_directory(encode_directory(found)) == found
    assert check_directory(found) == ()


@pytest.mark.parametrize(
    ("driver", "stored", "mode"),
    [
        ("smtp", Mode.CAPTURE, Mode.CAPTURE),
        ("smtp", Mode.LIVE, Mode.LIVE),
        ("log", Mode.CAPTURE, Mode.LOG),
        ("log", Mode.LIVE, Mode.LOG),
    ],
)
def test_the_log_driver_overrides_the_stored_mode(driver: str, stored: Mode, mode: Mode) -> None:
    assert (
        compile_directory(settings(delivery__driver=driver), version=1, mode=stored, machine="m").mode is mode
    )


def test_names_fall_back_to_the_machines() -> None:
    found = compile_directory(settings(), version=1, mode=Mode.CAPTURE, machine="box.lan")
    assert (found.hostname, found.domain) == ("box.lan", "box.lan")


@pytest.mark.parametrize(
    ("upstreams", "chosen", "default"),
    [
        ([], "", ""),
        ([SHARED], "", "s1"),
        ([SHARED, SECOND], "", ""),
        ([SHARED, SECOND], "s2", "s2"),
        ([MANAGED], "", "m1"),
        ([MANAGED, SHARED], "", "s1"),
        ([MANAGED, OFF], "", "s3"),
        ([OWN], "", ""),
    ],
)
def test_a_managed_server_serves_only_while_no_shared_one_is_configured(
    upstreams: list[Upstream], chosen: str, default: str
) -> None:
    found = compile_directory(
        settings(), version=1, mode=Mode.LIVE, machine="m", upstreams=upstreams, default_upstream=chosen
    )
    assert found.default_upstream == default


def test_an_impossible_directory_is_refused_with_every_reason() -> None:
    with pytest.raises(ConfigError) as caught:
        compile_directory(
            settings(),
            version=1,
            mode=Mode.LIVE,
            machine="m",
            upstreams=[OWN],
            default_upstream="p1",
            networks=[("10.0.0.0/8", "app:1"), ("10.0.0.0/8", "app:2")],
        )
    assert "app:2" in caught.value.public
    assert "personal" in caught.value.public
