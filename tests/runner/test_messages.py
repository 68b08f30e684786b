"""Frames arrive whole, however the pipe cuts them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.runner.messages import (
    Cancel,
    Embed,
    Embedded,
    Finish,
    FrameReader,
    Generate,
    Load,
    Logprob,
    Piece,
    Sampling,
    Step,
    TopToken,
    decode_child,
    decode_server,
    encode,
)

FINISH = Finish(id=2, reason="stop", prompt_count=3, cached_count=1, prompt_duration=4, eval_count=5, eval_duration=6)
STEPS = st.builds(
    Step,
    st.lists(st.builds(Piece, st.integers(0, 1 << 40), st.text(st.characters(exclude_categories=["Cs"])))),
    st.just([FINISH]),
)


@given(st.lists(STEPS, max_size=5), st.lists(st.integers(0, 400)))
def test_any_cut_of_the_stream_gives_the_same_frames(steps, cuts):
    stream = b"".join(encode(step) for step in steps)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader()
    bodies = [body for start, end in itertools.pairwise(edges) for body in reader.feed(stream[start:end])]
    assert [decode_child(body) for body in bodies] == steps


@pytest.mark.parametrize(
    "message",
    [
        Load(model="/m", num_ctx=8),
        Generate(id=1, prompt="x", stop=("a",)),
        Generate(id=2, prompt="x", truncate=False, grammar='start: "é"'),
        Generate(
            id=3, prompt="x", shift=False, logprobs=True, top_logprobs=20, sampling=Sampling(logit_bias={5: -1.5})
        ),
        Embed(id=4, text="x", overflow="refuse"),
        Cancel(7),
    ],
)
def test_what_the_server_says_comes_back(message):
    (body,) = FrameReader().feed(encode(message))
    assert decode_server(body) == message


@pytest.mark.parametrize(
    "message",
    [
        Step([Piece(1, ""), Piece(2, "é", [Logprob(TopToken(b"\xc3", -0.5), [TopToken(b"a", -1.5)])])], [FINISH]),
        Embedded(id=3, vector=b"\x00\x00\x80\x3f", prompt_count=7),
    ],
)
def test_what_a_child_says_comes_back(message):
    (body,) = FrameReader().feed(encode(message))
    assert decode_child(body) == message


def test_a_request_is_free_and_may_be_cut_and_shifted_unless_it_says_otherwise():
    request = Generate(id=1, prompt="x")
    assert request.truncate
    assert request.shift
    assert not request.logprobs
    assert request.grammar == ""
    assert FINISH.dropped_count == 0


def test_a_length_that_no_frame_has_is_a_broken_stream():
    with pytest.raises(ValueError, match="the stream is broken"):
        list(FrameReader().feed(b"\xff\xff\xff\xff"))
