"""From an admitted submission to a message: the same at every door."""

import pytest

from smarthost.errors import HeaderError, SmarthostError, TooLarge
from smarthost.mail import parse_address
from smarthost.routing import Admitted, Decision, Edits, Limits, Principal, Refusal, Submission
from smarthost.spool import Door, Flag, Priority, State
from smarthost.spool.intake import LIFETIME_US, examine, fingerprint, prepare, refused

APP = Principal(id="app:1", name="Printer", login="printer")
A, B = parse_address("a@example.net"), parse_address("b@example.net")
CONTENT = b"From: w@example.test\r\nSubject: x\r\n\r\nbody\r\n"


def made(decision=None, raw=CONTENT, sender="w@example.test", **more):
    content, facts = examine(raw, Limits(), more.pop("complete", None))
    submission = Submission(
        principal=APP,
        door="http",
        sender=parse_address(sender) if sender else None,
        recipients=(A, B),
        header_from=facts.header_from,
    )
    decision = decision or Decision(
        recipients=(Admitted(recipient=A, upstream="up:1"), Admitted(recipient=B, upstream="up:2"))
    )
    return prepare(
        decision, submission, facts, id="I", now=1000, door=Door.HTTP, trace=b"T\r\n", content=content, **more
    )


def test_one_message_has_one_delivery_a_recipient_whatever_the_upstreams():
    message = made()
    assert [(one.recipient, one.upstream) for one in message.deliveries] == [
        ("a@example.net", "up:1"),
        ("b@example.net", "up:2"),
    ]
    assert message.expires_at == 1000 + LIFETIME_US
    assert message.content == CONTENT and message.size == len(CONTENT)


def test_a_later_sending_expires_later():
    assert made(send_at=5_000_000).expires_at == 5_000_000 + LIFETIME_US


def test_the_same_recipient_twice_is_one_delivery():
    twice = Decision(recipients=(Admitted(recipient=A, upstream="up:1"),) * 2)
    assert len(made(twice).deliveries) == 1


def test_captured_recipients_have_no_upstream():
    captured = Decision(recipients=(Admitted(recipient=A, upstream="up:1", captured=True),))
    assert [(one.upstream, one.state) for one in made(captured).deliveries] == [("", State.CAPTURED)]


def test_a_refusal_refuses_the_message_and_names_everybody_refused():
    def no(recipient, text):
        return Refusal(recipient=recipient, code=550, enhanced="5.7.1", slug="policy", text=text)

    decision = Decision(recipients=(no(A, "a@example.net is not allowed."), no(B, "Not allowed.")))
    with pytest.raises(SmarthostError) as caught:
        made(decision)
    assert (caught.value.code, caught.value.slug) == (550, "policy")
    assert caught.value.public == "a@example.net is not allowed.; b@example.net: Not allowed."


def test_a_refusal_of_the_whole_message_is_said_once():
    whole = Refusal(recipient=None, code=552, enhanced="5.3.4", slug="message-too-large", text="Too large.")
    assert refused([whole, whole]).public == "Too large."


@pytest.mark.parametrize(
    ("raw", "flag", "there"),
    [
        (CONTENT, Flag.ADD_DATE, True),
        (b"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n" + CONTENT, Flag.ADD_DATE, False),
        (CONTENT, Flag.ADD_MESSAGE_ID, True),
        (b"Message-ID: <a@b.example>\r\n" + CONTENT, Flag.ADD_MESSAGE_ID, False),
        (CONTENT, Flag.ADD_FROM, False),
        (b"Subject: x\r\n\r\n", Flag.ADD_FROM, True),
        (b"Bcc: secret@example.net\r\n" + CONTENT, Flag.STRIP_HIDDEN, True),
        (CONTENT, Flag.STRIP_HIDDEN, False),
        (CONTENT + "é\r\n".encode(), Flag.EIGHT_BIT, True),
        (CONTENT, Flag.EIGHT_BIT, False),
        ("Subject: é\r\n".encode() + CONTENT, Flag.SMTPUTF8, True),
        (CONTENT + "é\r\n".encode(), Flag.SMTPUTF8, False),
        (b"Precedence: bulk\r\n" + CONTENT, Flag.AUTOMATIC, True),
        (CONTENT, Flag.AUTOMATIC, False),
    ],
)
def test_what_the_content_is_stands_in_its_flags(raw, flag, there):
    assert (flag in made(raw=raw).flags) is there


def test_flags_of_the_caller_are_added():
    flags = made(flags=Flag.ONE_TIME_LINK).flags
    assert Flag.ONE_TIME_LINK in flags and Flag.ADD_DATE in flags


def test_the_null_sender_is_automatic():
    message = made(sender="")
    assert message.sender == "" and Flag.AUTOMATIC in message.flags


def test_a_from_that_a_local_program_wrote_is_completed_in_the_edits():
    edits = Edits(reply_to="r@example.test")
    decision = Decision(recipients=(Admitted(recipient=A, upstream="up:1", edits=edits),))
    message = made(
        decision, raw=b"From: cron\r\n\r\n", complete=lambda text: parse_address(f"{text}@example.test")
    )
    assert message.header_from == "cron@example.test"
    assert '"header_from":"cron@example.test"' in message.deliveries[0].edits
    assert '"reply_to":"r@example.test"' in message.deliveries[0].edits


def test_a_from_of_the_policy_stands_over_a_completed_one():
    edits = Edits(header_from="forced@example.test")
    decision = Decision(recipients=(Admitted(recipient=A, upstream="up:1", edits=edits),))
    message = made(
        decision, raw=b"From: cron\r\n\r\n", complete=lambda text: parse_address(f"{text}@example.test")
    )
    assert "cron" not in message.deliveries[0].edits


def test_content_over_the_limit_is_refused():
    with pytest.raises(TooLarge):
        examine(CONTENT, Limits(max_size=10))


def test_a_fingerprint_is_of_sender_recipients_and_content():
    import hashlib

    base = fingerprint("a", ["b", "c"], b"x")
    assert (
        base
        == fingerprint("a", ["c", "b"], b"x")
        == fingerprint("a", ["b", "c"], digest=hashlib.sha256(b"x").digest())
    )
    others = [
        fingerprint("z", ["b", "c"], b"x"),
        fingerprint("a", ["b"], b"x"),
        fingerprint("a", ["b", "c"], b"y"),
    ]
    assert base not in others and len(set(others)) == 3


def wished(*fields, **more):
    return made(raw=b"".join(fields) + CONTENT, **more)


def test_the_message_says_its_priority_and_its_time_where_the_door_does_not():
    message = wished(b"X-Smarthost-Priority: bulk\r\n", b"X-Smarthost-Send-At: 60\r\n")
    assert (message.priority, message.send_at) == (Priority.BULK, 60_000_000)
    assert message.expires_at == 60_000_000 + LIFETIME_US
    assert Flag.STRIP_HIDDEN in message.flags
    asked = wished(
        b"X-Smarthost-Priority: bulk\r\n",
        b"X-Smarthost-Send-At: 60\r\n",
        priority=Priority.URGENT,
        send_at=5_000_000,
    )
    assert (asked.priority, asked.send_at) == (Priority.URGENT, 5_000_000)
    assert made().priority is Priority.NORMAL


def test_a_time_that_has_come_is_now_and_one_beyond_any_plan_is_refused():
    assert wished(b"X-Smarthost-Send-At: 0\r\n").send_at is None
    assert wished(b"X-Smarthost-Send-At: 60\r\n", send_at=1).send_at is None
    with pytest.raises(HeaderError, match="more than a year ahead") as caught:
        wished(b"X-Smarthost-Send-At: 40000000000\r\n")
    assert caught.value.field == "X-Smarthost-Send-At"
