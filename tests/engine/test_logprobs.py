"""How likely tokens were: a softmax of what the model said, told with the text that it belongs to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engine.bench import GREEDY, QUESTIONS, chat, margins
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ollama_nb.engine.batch import Batch
from ollama_nb.engine.logprobs import LEAST, Logprobs, token_logprob
from ollama_nb.engine.output import OutputText
from ollama_nb.runner.messages import MAX_TOP_LOGPROBS, Sampling

LOGITS = hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-50, 50, width=32))


def name(token: int) -> bytes:
    return str(token).encode()


@given(LOGITS, st.data())
def test_probabilities_are_those_of_a_softmax_the_likeliest_first(logits, data):
    token = data.draw(st.integers(0, len(logits) - 1))
    count = data.draw(st.integers(0, MAX_TOP_LOGPROBS))
    found = token_logprob(logits, token, count, name)
    wide = logits.astype(np.float64)
    expected = wide - wide.max() - math.log(np.exp(wide - wide.max()).sum())
    assert found.token.piece == name(token)
    assert found.token.logprob == pytest.approx(max(LEAST, expected[token]), abs=1e-3)
    ranked = sorted(range(len(logits)), key=lambda index: (-logits[index], index))[:count]
    assert [logits[int(top.piece)] for top in found.top] == [logits[index] for index in ranked]
    assert all(top.logprob == pytest.approx(expected[int(top.piece)], abs=1e-3) for top in found.top)


def test_what_cannot_be_has_the_least_logarithm():
    assert token_logprob(np.array([0, -np.inf], dtype=np.float32), 1, 0, name).token.logprob == LEAST


def test_equally_likely_tokens_stand_in_the_order_of_their_ids():
    found = token_logprob(np.zeros(5, dtype=np.float32), 0, 5, name)
    assert [top.piece for top in found.top] == [b"0", b"1", b"2", b"3", b"4"]


# -- what belongs to the text that is shown --------------------------------------------------------------------------


def told(pieces: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[list[bytes]], str]:
    """Which tokens are told at each step, and the text, of an answer with these tokens."""
    text = OutputText(stop)
    logprobs = Logprobs(0, text, lambda token: pieces[token])
    steps, shown = [], ""
    for token in range(len(pieces)):
        logprobs.add(np.zeros(len(pieces), dtype=np.float32), token)
        shown += text.push(pieces[token])
        steps.append([entry.token.piece for entry in logprobs.take(ended=text.stopped)])
        if text.stopped:
            return steps, shown
    shown += text.flush()
    steps.append([entry.token.piece for entry in logprobs.take(ended=True)])
    return steps, shown


@pytest.mark.parametrize(
    ("pieces", "stop", "steps", "text"),
    [
        ([b"a", b"b"], (), [[b"a"], [b"b"], []], "ab"),
        # Half a character is no text yet, but nothing can take its token back.
        ([b"\xc3", b"\xa9"], (), [[b"\xc3"], [b"\xa9"], []], "é"),
        ([b"\xc3", b"\xa9"], ("x",), [[], [b"\xc3", b"\xa9"], []], "é"),
        ([b"a", b"", b"b"], (), [[b"a"], [b""], [b"b"], []], "ab"),
        # What could become a stop string waits.
        ([b"a", b"E", b"x"], ("END",), [[b"a"], [], [b"E", b"x"], []], "aEx"),
        ([b"a", b"E", b"N"], ("END",), [[b"a"], [], [], [b"E", b"N"]], "aEN"),
        # What has become one is gone; a token with text before it stays.
        ([b"a", b"E", b"N", b"D"], ("END",), [[b"a"], [], [], []], "a"),
        ([b"aE", b"ND"], ("END",), [[b"aE"], []], "a"),
        ([b"aEN", b"Db"], ("END",), [[b"aEN"], []], "a"),
        ([b"END"], ("END",), [[]], ""),
        ([b"a"], ("",), [[]], ""),
    ],
)
def test_tokens_are_told_with_their_text(pieces, stop, steps, text):
    assert told(pieces, stop) == (steps, text)


@given(st.lists(st.text("abé", max_size=3), max_size=12), st.lists(st.text("abé", min_size=1, max_size=3), max_size=2))
def test_every_token_of_the_shown_text_is_told_once_and_no_other(words, stop):
    pieces = [word.encode() for word in words]
    steps, text = told(pieces, tuple(stop))
    tokens = [piece for step in steps for piece in step]
    assert tokens == pieces[: len(tokens)]
    said = b"".join(tokens)
    assert said.startswith(text.encode())
    if tokens and stop:
        assert len(said) - len(tokens[-1]) <= len(text.encode())


# -- with the model ----------------------------------------------------------------------------------------------------


def test_every_token_has_the_probability_that_the_model_gave_it(bench, load):
    told = bench()
    number = told.submit(chat(QUESTIONS[0]), logprobs=True, top_logprobs=3, num_predict=5)
    told.finish()
    found = told.logprobs[number]
    assert b"".join(entry.token.piece for entry in found).decode() == told.text[number]
    assert len(found) == told.finished[number].eval_count == 5
    model = load()
    tokens = model.tokenize(chat(QUESTIONS[0]), add_special=True)
    batch = Batch(model.num_batch)
    row = batch.add(tokens, 0, 0, logits=True)
    model.decode(batch)
    logits = model.logits(row).astype(np.float64)
    expected = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
    assert found[0].token.logprob == pytest.approx(expected.max(), abs=0.05)
    # The likeliest is what a greedy answer says.
    assert all(entry.top[0] == entry.token for entry in found)
    assert all(
        [top.logprob for top in entry.top] == sorted((top.logprob for top in entry.top), reverse=True)
        for entry in found
    )
    gaps = [entry.top[0].logprob - entry.top[1].logprob for entry in found]
    assert gaps[0] == pytest.approx(margins(model, tokens, [])[0], abs=0.05)


def test_no_option_touches_the_probabilities(bench):
    plain, changed = bench(), bench()
    options = {"logprobs": True, "top_logprobs": 2, "num_predict": 1}
    one = plain.submit(chat(QUESTIONS[0]), **options)
    plain.finish()
    (first,) = plain.logprobs[one]
    (token,) = changed.model.tokenize(first.token.piece.decode(), add_special=False)
    sampling = Sampling(temperature=0, repeat_penalty=2.0, presence_penalty=1.0, logit_bias={token: -100})
    two = changed.submit(chat(QUESTIONS[0]), sampling=sampling, **options)
    changed.finish()
    (second,) = changed.logprobs[two]
    assert second.token != first.token
    assert [top.piece for top in second.top] == [top.piece for top in first.top]
    assert [top.logprob for top in second.top] == pytest.approx([top.logprob for top in first.top], abs=1e-4)


def test_the_end_has_no_probability(bench):
    system = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    ending = bench()
    number = ending.submit(system + chat("Hi"), num_predict=100, logprobs=True)
    ending.finish()
    assert ending.finished[number].reason == "stop"
    assert len(ending.logprobs[number]) == ending.finished[number].eval_count - 1
    assert b"".join(entry.token.piece for entry in ending.logprobs[number]).decode() == ending.text[number]
    assert all(entry.top == [] for entry in ending.logprobs[number])


def test_no_more_than_twenty_are_told(bench):
    many = bench()
    number = many.submit("one", num_predict=1, logprobs=True, top_logprobs=1000)
    many.finish()
    assert len(many.logprobs[number][0].top) == MAX_TOP_LOGPROBS


def test_who_does_not_ask_is_told_nothing(bench):
    both = bench()
    asking = both.submit(chat(QUESTIONS[0]), logprobs=True, num_predict=3)
    other = both.submit(chat(QUESTIONS[1]), num_predict=3)
    both.finish()
    assert len(both.logprobs[asking]) == 3
    assert both.logprobs[other] == []


def test_a_grammar_bounds_the_answer_and_not_the_probabilities(bench):
    class Only:
        allowed = np.array([5], dtype=np.intp)
        is_complete = False

        def accept(self, token):
            self.is_complete = True

    bound = bench()
    number = bound.submit(chat(QUESTIONS[0]), constraint=Only(), logprobs=True, top_logprobs=1, sampling=GREEDY)
    bound.finish()
    (entry,) = bound.logprobs[number]
    assert entry.token.piece == bound.model.piece(5)
    assert entry.token.logprob < entry.top[0].logprob
