"""The arithmetic of full contexts, and what a running answer knows of itself."""

import time
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.engine.output import OutputText
from ollama_nb.engine.sequences import (
    Sequence,
    Slot,
    common_prefix,
    discard_count,
    kept_count,
    predict_limit,
    truncate_prompt,
)
from ollama_nb.runner.messages import Generate

TOKENS = st.lists(st.integers(0, 2), max_size=40)


@pytest.mark.parametrize(
    ("num_ctx", "keep", "used", "discard"),
    [
        (2048, 5, 2048, 1021),
        (2048, 2047, 2048, 1),
        (2048, 0, 2048, 1024),
        (2048, 5, 5000, 3973),
        (2048, 2047, 5000, 2953),
        (2048, 5, 512, 0),
    ],
)
def test_half_of_what_may_go_is_discarded(num_ctx, keep, used, discard):
    assert discard_count(num_ctx, keep, used) == discard


@given(st.integers(1, 5000), st.data())
def test_a_full_cache_has_room_for_a_token_after_the_discard_and_keeps_what_it_must(num_ctx, data):
    keep = data.draw(st.integers(0, num_ctx - 1))
    used = data.draw(st.integers(num_ctx, 3 * num_ctx))
    discard = discard_count(num_ctx, keep, used)
    assert used - discard < num_ctx
    assert keep + discard <= used


@pytest.mark.parametrize(
    ("num_keep", "prompt_length", "adds_bos", "kept"),
    [
        (4, 100, False, 4),
        (4, 100, True, 5),
        (0, 100, True, 1),
        (0, 100, False, 0),
        (-1, 20, False, 20),
        (-1, 20, True, 20),
        (-1, 100, False, 63),
        (500, 100, False, 63),
        (500, 10, True, 10),
    ],
)
def test_what_is_kept_is_num_keep_and_the_token_that_begins_a_text(num_keep, prompt_length, adds_bos, kept):
    assert kept_count(num_keep, prompt_length, 64, adds_bos=adds_bos) == kept


def test_a_prompt_that_fits_is_left_alone():
    assert truncate_prompt(list(range(10)), 4, 10) == list(range(10))


@given(st.integers(1, 50), st.integers(0, 200), st.integers(-1, 60), st.booleans())
def test_a_prompt_that_is_too_long_loses_its_middle(num_ctx, extra, num_keep, adds_bos):
    prompt = list(range(num_ctx + 1 + extra))
    keep = kept_count(num_keep, len(prompt), num_ctx, adds_bos=adds_bos)
    cut = truncate_prompt(prompt, keep, num_ctx)
    assert len(cut) == num_ctx
    assert cut[:keep] == prompt[:keep]
    assert cut[keep:] == prompt[keep - num_ctx :]


@pytest.mark.parametrize(
    ("num_predict", "limit"),
    [(1, 1), (128, 128), (640, 640), (641, 640), (10**12, 640), (0, 640), (-1, 640), (-2, 640)],
)
def test_an_answer_may_be_ten_contexts_long_unless_less_is_asked_for(num_predict, limit):
    assert predict_limit(num_predict, 64) == limit


@pytest.mark.parametrize(
    ("num_predict", "free", "limit"), [(-1, 10, 11), (0, 0, 1), (5, 10, 5), (11, 10, 11), (12, 10, 11)]
)
def test_an_answer_in_a_context_that_is_not_shifted_ends_where_it_is_full(num_predict, free, limit):
    assert predict_limit(num_predict, 64, free) == limit


@given(TOKENS, TOKENS, TOKENS)
def test_the_common_prefix_is_the_one_that_counting_finds(begin, left, right):
    one, other = begin + left, begin + right
    naive = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    assert common_prefix(one, other) == common_prefix(other, one) == naive


def answer(*, limit: int = 100, stop: tuple[str, ...] = ()) -> Sequence:
    return Sequence(
        request=Generate(id=7, prompt=""),
        prompt=[1, 2, 3],
        keep=0,
        limit=limit,
        sampler=cast("Any", None),
        received_at=time.monotonic_ns(),
        slot=Slot(0),
        pending=[1, 2, 3],
        cached_count=1,
        text=OutputText(stop),
    )


def say(sequence: Sequence, pieces: list[bytes]) -> tuple[str, str | None]:
    text, reason = "", None
    for piece in pieces:
        sequence.sampled()
        gained, reason = sequence.say(piece)
        text += gained
        if reason:
            break
    return text, reason


def test_an_answer_ends_with_its_last_permitted_token():
    sequence = answer(limit=3)
    assert say(sequence, [b"a", b"b", b"c", b"d"]) == ("abc", "length")
    assert sequence.eval_count == 3


def test_what_was_held_back_for_a_stop_string_is_said_when_the_limit_ends_the_answer():
    assert say(answer(limit=2, stop=("bcd",)), [b"a", b"bc"]) == ("abc", "length")


def test_a_stop_string_ends_the_answer_before_the_limit_does():
    assert say(answer(limit=2, stop=("b",)), [b"a", b"b"]) == ("a", "stop")


def test_an_empty_stop_string_ends_the_answer_at_its_first_token():
    sequence = answer(stop=("",))
    assert say(sequence, [b"a", b"b"]) == ("", "stop")
    assert sequence.eval_count == 1


def test_endless_repetition_ends_as_an_answer_that_became_too_long():
    sequence = answer(limit=1000)
    assert say(sequence, [b" no"] * 100) == (" no" * 32, "length")


def test_characters_of_several_tokens_are_repetition_too():
    sequence = answer(limit=1000)
    text, reason = say(sequence, [bytes([byte]) for byte in "😀".encode()] * 100)
    assert (text, reason) == ("😀" * 32, "length")


def test_the_tokens_of_a_long_stop_string_are_no_repetition():
    sequence = answer(limit=1000, stop=("-" * 60,))
    assert say(sequence, [b"-"] * 100) == ("", "stop")
    assert sequence.eval_count == 60


def test_a_sequence_reads_its_prompt_until_its_first_token_is_sampled():
    sequence = answer()
    assert sequence.prefilling
    sequence.pending = [9]
    sequence.sampled()
    assert not sequence.prefilling


def test_the_closing_counts_are_those_of_the_whole_prompt_and_of_every_sampled_token():
    sequence = answer()
    say(sequence, [b"a", b"b"])
    finish = sequence.finish("stop")
    assert (finish.id, finish.reason, finish.prompt_count, finish.cached_count) == (7, "stop", 3, 1)
    assert finish.eval_count == 2
    assert finish.prompt_duration == sequence.first_sample_at - sequence.received_at
    assert finish.eval_duration == sequence.last_sample_at - sequence.first_sample_at
