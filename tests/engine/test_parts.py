"""Long texts in parts: nothing is lost, no special token is cut, and the tokens are those of the whole."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.engine import model as engine
from ollama_nb.engine import parts
from ollama_nb.engine.model import Model
from ollama_nb.engine.parts import Seams
from ollama_nb.runner.messages import Load

MARKS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="module")
def model(sample_gguf):
    return Model(Load(model=str(sample_gguf), num_ctx=64, num_thread=1), lambda _: None)


@pytest.fixture
def short_parts(monkeypatch):
    """Parts of a few characters."""
    monkeypatch.setattr(parts, "LONG_TEXT", 8)
    monkeypatch.setattr(engine, "LONG_TEXT", 8)


def test_a_part_begins_with_a_mark(short_parts):
    text = "<s>Hello</s><s>there, how are you?</s>"
    assert list(Seams(MARKS, MARKS).parts(text)) == ["<s>Hello", "</s><s>there, how are you?", "</s>"]


def test_a_text_without_marks_is_one_part(short_parts):
    assert list(Seams(MARKS, MARKS).parts("Hello there, how are you?")) == ["Hello there, how are you?"]
    assert list(Seams(MARKS, MARKS).parts("")) == [""]


@pytest.mark.parametrize(
    "special",
    [["</s>", "<<s>"], ["</s>", "<s>>"], ["</s>", "a</s"], ["</s>", ">>"]],
    ids=["begins inside of another", "ends inside of another", "overlaps at its beginning", "is overlapped"],
)
def test_a_mark_that_another_special_token_may_reach_into_is_no_seam(short_parts, special):
    text = "Hello there</s>how are you"
    assert list(Seams(["</s>"], special).parts(text)) == [text]


@given(pieces=st.lists(st.sampled_from([*MARKS, "Hello", " ", "\n", "<", ">", "|im_end|>", "é", "<|im_", "x" * 9])))
def test_the_tokens_of_parts_are_those_of_the_whole(model, pieces):
    text = "".join(pieces)
    whole = model._tokenize(text, add_special=True, parse_special=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "LONG_TEXT", 8)
        patch.setattr(engine, "LONG_TEXT", 8)
        assert model.tokenize(text, add_special=True) == whole


def test_a_conversation_twice_as_long_takes_about_twice_as_long(model):
    turn = "<|im_start|>user\nHello there, how are you?<|im_end|>\n"

    def seconds(turns):
        started = time.process_time()
        model.tokenize(turn * turns, add_special=False)
        return time.process_time() - started

    seconds(10)
    assert seconds(8000) < 12 * seconds(1000)
