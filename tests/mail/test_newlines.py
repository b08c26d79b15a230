"""Line ends: whatever comes in, CRLF alone goes on, and how it is cut changes nothing."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarthost.mail import NewlineNormaliser, normalise_newlines

PIECES = st.lists(st.sampled_from([b"\r", b"\n", b"\0", b".", b"a", b"\r\n"]), max_size=20).map(b"".join)
BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")

# Every way to write an end of data that some server believes; after normalising none may stand alone on a line
# in a form that dot-stuffing does not see.
FALSE_ENDS = [
    a + b"." + b
    for a in (b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\r\n\0", b"\n\0")
    for b in (b"\n", b"\r", b"\r\n", b"\r\r\n", b"\r\0\n")
]


def stuffed(content):
    return re.sub(rb"(?m)^\.", b"..", content)


@pytest.mark.parametrize("end", FALSE_ENDS, ids=[repr(end) for end in FALSE_ENDS])
def test_smug_out_01_a_lenient_server_sees_one_message(end):
    sent = stuffed(normalise_newlines(b"A" + end + b"MAIL FROM:<x@evil.test>\r\nB"))
    assert not BARE.search(sent)
    assert b"\0" not in sent
    assert not re.search(rb"(?:^|\n)\.\r\n", sent)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b""),
        (b"x", b"x\r\n"),
        (b"x\r", b"x\r\n"),
        (b"x\n.", b"x\r\n.\r\n"),
        (b"x\r\n.", b"x\r\n.\r\n"),
        (b".", b".\r\n"),
        (b"\r", b"\r\n"),
        (b"\n\n", b"\r\n\r\n"),
        (b"a\r\r\nb", b"a\r\n\r\nb\r\n"),
    ],
)
def test_smug_out_02_content_ends_with_one_line_end(content, expected):
    assert normalise_newlines(content) == expected


def test_clean_content_is_not_copied():
    content = b"a\r\n\r\nb\r\n"
    assert normalise_newlines(content) is content


@settings(max_examples=1000, deadline=None)
@given(PIECES)
def test_it_leaves_no_bare_line_end(content):
    clean = normalise_newlines(content)
    assert not BARE.search(clean)
    assert normalise_newlines(clean) == clean
    assert clean.endswith(b"\r\n") or not clean
    visible = content.replace(b"\0", b"")
    assert (
        re.split(rb"\r\n|\r|\n", visible)
        == re.split(rb"\r\n", clean)[: len(re.split(rb"\r\n|\r|\n", visible))]
    )


@settings(max_examples=1000, deadline=None)
@given(st.lists(PIECES, max_size=8))
def test_how_it_is_cut_changes_nothing(pieces):
    stream = NewlineNormaliser()
    for _ in range(2):  # a normaliser serves one message after the other
        got = b"".join(stream.feed(piece) for piece in pieces) + stream.finish()
        assert got == normalise_newlines(b"".join(pieces))
