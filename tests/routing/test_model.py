"""`admit` against a slow and obvious model of what the design says."""

from hypothesis import given, settings
from hypothesis import strategies as st

from smarthost.mail import Address, parse_address
from smarthost.routing import (
    Admitted,
    Directory,
    Encryption,
    Limits,
    Mode,
    Principal,
    Refusal,
    Submission,
    Upstream,
    UpstreamKind,
    admit,
)

ADDRESSES = tuple(parse_address(text) for text in ("a@x.test", "b@y.test", "zoë@z.test"))

upstreams = st.builds(
    Upstream,
    id=st.just(""),
    name=st.just("s"),
    host=st.just("h"),
    kind=st.sampled_from(UpstreamKind),
    encryption=st.sampled_from(Encryption),
    enabled=st.booleans(),
    max_size=st.sampled_from([0, 10, 100]),
    from_address=st.sampled_from(["", "from@x.test"]),
)


@st.composite
def directories(draw: st.DrawFn) -> Directory:
    made = draw(st.lists(upstreams, max_size=3))
    rows = {
        f"u{n}": Upstream(**{f: getattr(row, f) for f in row.__struct_fields__} | {"id": f"u{n}"})
        for n, row in enumerate(made)
    }
    return Directory(
        version=1,
        mode=draw(st.sampled_from(Mode)),
        hostname="h",
        domain="x.test",
        upstreams=rows,
        default_upstream=draw(st.sampled_from(["", "u0", "u1", "u2"])),
        limits=Limits(max_size=draw(st.sampled_from([10, 50])), max_recipients=draw(st.integers(1, 3))),
        require_tls=draw(st.booleans()),
    )


submissions = st.builds(
    Submission,
    principal=st.builds(
        Principal,
        id=st.sampled_from(["user:1", "app:1", "system"]),
        name=st.just("n"),
        login=st.just("l"),
        enabled=st.booleans(),
        personal_upstream=st.sampled_from(["", "u0", "u1", "u2"]),
    ),
    door=st.sampled_from(["smtp", "http", "sendmail", "cli"]),
    sender=st.sampled_from([None, *ADDRESSES]),
    recipients=st.lists(st.sampled_from(ADDRESSES), max_size=4).map(tuple),
    header_from=st.sampled_from([None, ADDRESSES[0]]),
    header_known=st.booleans(),
    size=st.sampled_from([None, 10, 11, 50, 51, 101]),
    smtputf8=st.booleans(),
)


def expected_message(d: Directory, s: Submission) -> str | None:
    if not s.recipients:
        return "no-recipients"
    if not s.principal.enabled:
        return "principal-disabled"
    if len(s.recipients) > d.limits.max_recipients:
        return "too-many-recipients"
    if s.size is not None and s.size > d.limits.max_size:
        return "message-too-large"
    if s.sender is not None and s.sender.smtputf8 and not s.smtputf8:
        return "smtputf8-needed"
    return None


def expected(d: Directory, s: Submission, recipient: Address) -> tuple[str, str]:
    """("captured", "") or ("sent", upstream) or ("refused", slug)."""
    utf8 = recipient.smtputf8 and not s.smtputf8
    if d.mode in (Mode.CAPTURE, Mode.LOG):
        return ("refused", "smtputf8-needed") if utf8 else ("captured", "")
    if s.principal.id.startswith("user:") and s.principal.personal_upstream:
        id, kinds = s.principal.personal_upstream, {UpstreamKind.PERSONAL}
    else:
        id, kinds = d.default_upstream, {UpstreamKind.SHARED, UpstreamKind.MANAGED}
    if id not in d.upstreams or d.upstreams[id].kind not in kinds:
        return "refused", "no-route"
    server = d.upstreams[id]
    if not server.enabled:
        return "refused", "sending-off"
    if d.require_tls and server.encryption == Encryption.NONE:
        return "refused", "needs-tls"
    if utf8:
        return "refused", "smtputf8-needed"
    if server.max_size > 0 and s.size is not None and s.size > server.max_size:
        return "refused", "message-too-large"
    if s.header_known and s.header_from is None and server.from_address == "":
        return "refused", "no-from"
    return "sent", id


@settings(max_examples=1500, deadline=None)
@given(directories(), submissions)
def test_it_agrees_with_the_model(directory: Directory, submission: Submission) -> None:
    entries = admit(directory, {}, 0, submission).recipients
    slug = expected_message(directory, submission)
    if slug is not None:
        assert {(entry.recipient, entry.slug) for entry in entries if isinstance(entry, Refusal)} == {
            (None, slug)
        }
        assert len(entries) == max(1, len(submission.recipients))
        return
    for entry, recipient in zip(entries, submission.recipients, strict=True):
        assert entry.recipient == recipient
        if isinstance(entry, Refusal):
            found = ("refused", entry.slug)
        else:
            found = ("captured", "") if entry.captured else ("sent", entry.upstream)
        assert found == expected(directory, submission, recipient)


@settings(max_examples=300, deadline=None)
@given(directories(), submissions)
def test_it_decides_each_recipient_alone_and_always_alike(
    directory: Directory, submission: Submission
) -> None:
    decision = admit(directory, {}, 0, submission)
    assert decision == admit(directory, {}, 10**15, submission)
    if expected_message(directory, submission) is None:
        fields = {name: getattr(submission, name) for name in submission.__struct_fields__}
        for entry, recipient in zip(decision.recipients, submission.recipients, strict=True):
            alone = Submission(**{**fields, "recipients": (recipient,)})
            assert admit(directory, {}, 0, alone).recipients == (entry,)


@settings(max_examples=300, deadline=None)
@given(directories(), submissions)
def test_what_is_sent_always_has_a_from_and_every_answer_has_words(
    directory: Directory, submission: Submission
) -> None:
    for entry in admit(directory, {}, 0, submission).recipients:
        if isinstance(entry, Admitted):
            assert entry.why
            edits = entry.edits
            assert entry.captured or submission.header_from or not submission.header_known or edits
        else:
            assert entry.text.endswith((".", "?"))
            assert entry.text.isprintable()
            assert str(entry.code)[0] == entry.enhanced[0]
