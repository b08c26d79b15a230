"""Every written dialogue, however it is cut into pieces."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smtp_dialogue import (
    Dialogue,
    dialogues,
    expected_of_server,
    play_client,
    play_server,
    single,
    whole,
)


def randomly(seed: int):
    choice = random.Random(seed)

    def cut(data: bytes) -> list[bytes]:
        places = sorted(choice.randrange(len(data) + 1) for _ in range(choice.randrange(8)))
        edges = [0, *places, len(data)]
        return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]

    return cut


@pytest.mark.parametrize("cut", [whole, single], ids=["whole", "bytes"])
@pytest.mark.parametrize("dialogue", dialogues("server"), ids=str)
def test_the_server_does_as_written(dialogue: Dialogue, cut) -> None:
    events, replies, _ = play_server(dialogue, cut)
    assert (events, replies) == expected_of_server(dialogue)


@pytest.mark.parametrize("dialogue", dialogues("server"), ids=str)
def test_the_server_waits_for_the_rest_of_a_line(dialogue: Dialogue) -> None:
    events, replies, _ = play_server(dialogue, whole, trailing=b"NO")
    assert (events, replies) == expected_of_server(dialogue)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), dialogue=st.sampled_from(dialogues("server")))
def test_the_server_does_the_same_in_any_pieces(dialogue: Dialogue, seed: int) -> None:
    events, replies, _ = play_server(dialogue, randomly(seed))
    assert (events, replies) == expected_of_server(dialogue)


def expected_of_client(dialogue: Dialogue) -> list[str]:
    return [text.decode("utf-8") for mark, text in dialogue.lines if mark == "*"]


@pytest.mark.parametrize("cut", [whole, single], ids=["whole", "bytes"])
@pytest.mark.parametrize("dialogue", dialogues("client"), ids=str)
def test_the_client_does_as_written(dialogue: Dialogue, cut) -> None:
    events, _ = play_client(dialogue, cut)
    assert events == expected_of_client(dialogue)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), dialogue=st.sampled_from(dialogues("client")))
def test_the_client_does_the_same_in_any_pieces(dialogue: Dialogue, seed: int) -> None:
    events, _ = play_client(dialogue, randomly(seed))
    assert events == expected_of_client(dialogue)


@pytest.mark.parametrize("dialogue", dialogues("client"), ids=str)
def test_the_client_ends_a_session_that_answers_what_nobody_asked(dialogue: Dialogue) -> None:
    _events, client = play_client(dialogue, whole)
    if client.stage != "idle":
        return
    assert client.receive(b"250 2.0.0 surplus\r\n250 2.0.0 surplus\r\n")
    assert client.state == "closed"
    assert client.receive(b"250 2.0.0 surplus\r\n") == []
