"""What `admit` decides, and the words in which it refuses."""

from typing import Any

import pytest
from msgspec.structs import replace

from smarthost.mail import Address, parse_address
from smarthost.routing import (
    Admitted,
    Directory,
    Edits,
    Encryption,
    Limits,
    Mode,
    Principal,
    Refusal,
    Submission,
    Upstream,
    UpstreamKind,
    admit,
    check_message,
    to_error,
)

MAIN = Upstream(id="u1", name="Main", host="smtp.example.org", from_address="no-reply@example.org")
OWN = Upstream(id="u2", name="Own", host="smtp.jo.test", kind=UpstreamKind.PERSONAL)
APP = Principal(id="app:1", name="Wiki", login="wiki")
USER = Principal(id="user:1", name="Jo", login="jo", personal_upstream="u2")
LIVE = Directory(
    version=1,
    mode=Mode.LIVE,
    hostname="mail.example.org",
    domain="example.org",
    upstreams={"u1": MAIN, "u2": OWN},
    default_upstream="u1",
    contact="ops@example.org",
)
TO = parse_address("jo@elsewhere.test")
WIDE = parse_address("zoë@elsewhere.test")


def submission(**changes: Any) -> Submission:
    basis: dict[str, Any] = {
        "principal": APP,
        "door": "smtp",
        "sender": parse_address("wiki@example.org"),
        "recipients": (TO,),
        "header_from": parse_address("wiki@example.org"),
        "size": 1000,
    }
    return Submission(**{**basis, **changes})


def one(directory: Directory, asked: Submission) -> Admitted | Refusal:
    (entry,) = admit(directory, {}, 0, asked).recipients
    return entry


def refusal(directory: Directory, asked: Submission) -> Refusal:
    entry = one(directory, asked)
    assert isinstance(entry, Refusal), entry
    return entry


def server(**changes: Any) -> Directory:
    return replace(LIVE, upstreams={"u1": replace(MAIN, **changes), "u2": OWN})


def test_mail_goes_through_the_default_server_and_says_why() -> None:
    entry = one(LIVE, submission())
    assert entry == Admitted(recipient=TO, upstream="u1", why="the default server Main")


def test_every_recipient_gets_its_entry_in_the_order_asked() -> None:
    recipients = (TO, WIDE, parse_address("b@elsewhere.test"))
    decision = admit(LIVE, {}, 0, submission(recipients=recipients, smtputf8=False))
    assert [entry.recipient for entry in decision.recipients] == list(recipients)
    assert [type(entry) for entry in decision.recipients] == [Admitted, Refusal, Admitted]
    assert len(decision.refusals) == 1


@pytest.mark.parametrize("mode", [Mode.CAPTURE, Mode.LOG])
@pytest.mark.parametrize("principal", [APP, USER])
def test_capture_takes_everything_valid_whatever_the_servers(mode: Mode, principal: Principal) -> None:
    for upstreams in ({}, LIVE.upstreams, {"u1": replace(MAIN, enabled=False), "u2": OWN}):
        directory = replace(LIVE, mode=mode, upstreams=upstreams, require_tls=True)
        entry = one(directory, submission(principal=principal, header_from=None, sender=None))
        assert isinstance(entry, Admitted)
        assert entry.captured
        assert entry.upstream == ""
        assert "not sent" in entry.why


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"size": 51 * 2**20}, "message-too-large"),
        ({"recipients": (TO,) * 1001}, "too-many-recipients"),
        ({"recipients": ()}, "no-recipients"),
        ({"principal": replace(APP, enabled=False)}, "principal-disabled"),
        ({"sender": WIDE, "smtputf8": False}, "smtputf8-needed"),
    ],
)
@pytest.mark.parametrize("mode", list(Mode))
def test_what_is_wrong_with_the_message_refuses_all_of_it_in_every_mode(
    mode: Mode, changes: dict[str, Any], slug: str
) -> None:
    asked = submission(**changes)
    decision = admit(replace(LIVE, mode=mode), {}, 0, asked)
    assert len(decision.recipients) == max(1, len(asked.recipients))
    assert {(entry.slug, entry.recipient) for entry in decision.refusals} == {(slug, None)}


def test_a_message_may_be_checked_before_there_are_recipients() -> None:
    assert check_message(LIVE, submission(recipients=())) is None
    found = check_message(LIVE, submission(recipients=(), size=51 * 2**20))
    assert found is not None
    assert found.slug == "message-too-large"


@pytest.mark.parametrize(
    ("directory", "slug", "code", "enhanced"),
    [
        (replace(LIVE, default_upstream=""), "no-route", 550, "5.4.4"),
        (replace(LIVE, default_upstream="gone"), "no-route", 550, "5.4.4"),
        (replace(LIVE, default_upstream="u2"), "no-route", 550, "5.4.4"),
        (server(enabled=False), "sending-off", 550, "5.3.2"),
        (replace(server(encryption=Encryption.NONE), require_tls=True), "needs-tls", 550, "5.7.1"),
        (server(max_size=999), "message-too-large", 552, "5.3.4"),
    ],
)
def test_what_speaks_against_the_route_refuses_the_recipient(
    directory: Directory, slug: str, code: int, enhanced: str
) -> None:
    found = refusal(directory, submission())
    assert (found.slug, found.code, found.enhanced) == (slug, code, enhanced)
    assert found.recipient == TO


def test_refusals_name_the_administrator_where_one_is_known() -> None:
    for directory in (replace(LIVE, default_upstream=""), server(enabled=False)):
        assert "ops@example.org" in refusal(directory, submission()).text
        assert "the administrator" in refusal(replace(directory, contact=""), submission()).text


def test_switched_off_says_so_and_no_route_says_what_to_do() -> None:
    assert refusal(server(enabled=False), submission()).text.startswith("Sending is switched off")
    assert "smarthost upstream set" in refusal(replace(LIVE, default_upstream=""), submission()).text


def test_without_required_encryption_a_clear_server_carries() -> None:
    assert isinstance(one(server(encryption=Encryption.NONE), submission()), Admitted)


def test_a_size_that_is_not_known_yet_refuses_nothing() -> None:
    assert isinstance(one(server(max_size=1), submission(size=None)), Admitted)


def test_a_missing_from_becomes_the_servers() -> None:
    entry = one(LIVE, submission(header_from=None))
    assert isinstance(entry, Admitted)
    assert entry.edits == Edits(header_from_if_missing="no-reply@example.org")


def test_a_missing_from_carries_the_servers_name_in_quotes_where_needed() -> None:
    entry = one(server(from_name='Café "Ü", Ltd.'), submission(header_from=None))
    assert isinstance(entry, Admitted)
    assert entry.edits is not None
    assert entry.edits.header_from_if_missing == '"Café \\"Ü\\", Ltd." <no-reply@example.org>'


def test_without_any_from_address_the_refusal_says_so() -> None:
    found = refusal(server(from_address=""), submission(header_from=None))
    assert found.slug == "no-from"
    assert found.text.startswith("No From address configured")
    assert isinstance(one(server(from_address=""), submission()), Admitted)


def test_a_from_that_was_not_read_yet_is_not_missing() -> None:
    entry = one(server(from_address=""), submission(header_from=None, header_known=False))
    assert isinstance(entry, Admitted)
    assert entry.edits is None


@pytest.mark.parametrize(
    ("door", "header_from", "sender"),
    [
        ("http", None, "no-reply@example.org"),
        ("cli", None, "no-reply@example.org"),
        ("http", parse_address("wiki@example.org"), "wiki@example.org"),
        ("smtp", None, ""),
        ("sendmail", None, ""),
    ],
)
def test_the_null_sender_stays_null_and_a_missing_one_is_filled_in(
    door: str, header_from: Address | None, sender: str
) -> None:
    entry = one(LIVE, submission(door=door, sender=None, header_from=header_from))
    assert isinstance(entry, Admitted)
    assert entry.edits is None if not sender and header_from else True
    assert (entry.edits.sender if entry.edits else "") == sender


def test_a_personal_server_comes_first() -> None:
    entry = one(LIVE, submission(principal=USER))
    assert isinstance(entry, Admitted)
    assert (entry.upstream, entry.why) == ("u2", "your own server Own")


@pytest.mark.parametrize(
    "directory",
    [
        replace(LIVE, upstreams={"u1": MAIN}),
        replace(LIVE, upstreams={"u1": MAIN, "u2": replace(OWN, kind=UpstreamKind.SHARED)}),
        replace(LIVE, upstreams={"u1": MAIN, "u2": replace(OWN, enabled=False)}),
        replace(
            LIVE, upstreams={"u1": MAIN, "u2": replace(OWN, encryption=Encryption.NONE)}, require_tls=True
        ),
        replace(LIVE, upstreams={"u1": MAIN, "u2": replace(OWN, max_size=10)}),
    ],
)
def test_a_personal_server_never_falls_back(directory: Directory) -> None:
    """POL-13: however it fails, the shared server carries nothing of that user."""
    assert refusal(directory, submission(principal=USER)).slug in {
        "no-route",
        "sending-off",
        "needs-tls",
        "message-too-large",
    }


def test_limits_of_shared_servers_do_not_touch_a_personal_one() -> None:
    directory = server(enabled=False, max_size=1)
    assert isinstance(one(directory, submission(principal=USER)), Admitted)


def test_an_application_and_the_system_use_no_personal_server() -> None:
    for id in ("app:2", "system"):
        entry = one(LIVE, submission(principal=replace(USER, id=id)))
        assert isinstance(entry, Admitted)
        assert entry.upstream == "u1"


def test_an_internationalised_address_needs_a_door_that_takes_it() -> None:
    assert isinstance(one(LIVE, submission(recipients=(WIDE,))), Admitted)
    found = refusal(LIVE, submission(recipients=(WIDE,), smtputf8=False))
    assert (found.code, found.enhanced, found.slug) == (553, "5.6.7", "smtputf8-needed")


def test_limits_are_inclusive() -> None:
    directory = replace(LIVE, limits=Limits(max_size=1000, max_recipients=2))
    asked = submission(recipients=(TO, TO))
    assert not admit(directory, {}, 0, asked).refusals
    assert admit(directory, {}, 0, replace(asked, size=1001)).refusals
    assert admit(directory, {}, 0, replace(asked, recipients=(TO,) * 3)).refusals


def test_a_servers_own_size_limit_is_inclusive_too() -> None:
    assert isinstance(one(server(max_size=1000), submission(size=1000)), Admitted)
    assert isinstance(one(server(max_size=1000), submission(size=1001)), Refusal)


def test_too_many_recipients_is_temporary_so_that_the_rest_is_sent_apart() -> None:
    found = check_message(LIVE, submission(recipients=(TO,) * 1001))
    assert found is not None
    assert (found.code, found.enhanced) == (452, "4.5.3")


@pytest.mark.parametrize(
    ("directory", "changes", "http"),
    [
        (LIVE, {"size": 51 * 2**20}, 413),
        (LIVE, {"principal": replace(APP, enabled=False)}, 403),
        (replace(LIVE, default_upstream=""), {}, 422),
    ],
)
def test_a_refusal_becomes_an_error_with_the_same_words(
    directory: Directory, changes: dict[str, Any], http: int
) -> None:
    found = refusal(directory, submission(**changes))
    error = to_error(found)
    assert (error.public, error.code, error.enhanced, error.slug) == (
        found.text,
        found.code,
        found.enhanced,
        found.slug,
    )
    assert error.http == http
