"""Answers that keep to a grammar, on the real model, alone and beside others that are free."""

import json

import numpy as np
import pytest
from engine.bench import GREEDY, QUESTIONS, assert_same_or_a_close_call, chat

from ollama_nb.engine.grammar import Grammars
from ollama_nb.engine.sampling import ConstraintError
from ollama_nb.runner.messages import Sampling

COMPACT = {"whitespace_flexible": False}
"""A model of this size fills answers with line breaks where it may."""


def call(name: str, required: list[str], **properties: object) -> dict[str, object]:
    arguments = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {
        "x-guidance": COMPACT,
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


WEATHER = call(
    "weather",
    ["city"],
    city={"type": "string", "maxLength": 8},
    unit={"enum": ["C", "F"]},
    days={"type": "integer", "minimum": 1, "maximum": 14},
)
ADD = call(
    "add",
    ["a", "b"],
    a={"type": "integer", "minimum": -99, "maximum": 99},
    b={"type": "integer", "minimum": -99, "maximum": 99},
)
CALLS = f"start: weather | add\nweather: %json {json.dumps(WEATHER)}\nadd: %json {json.dumps(ADD)}\n"


def assert_one_call(text: str) -> str:
    """The text is JSON of one of the two calls; its name."""
    found = json.loads(text)
    assert list(found) == ["name", "arguments"]
    arguments = found["arguments"]
    if found["name"] == "weather":
        assert "city" in arguments
        assert set(arguments) <= {"city", "unit", "days"}
        assert len(arguments["city"]) <= 8
        assert arguments.get("unit", "C") in ("C", "F")
        assert 1 <= arguments.get("days", 1) <= 14
    else:
        assert found["name"] == "add"
        assert set(arguments) == {"a", "b"}
        assert all(-99 <= value <= 99 for value in arguments.values())
    return found["name"]


@pytest.fixture(scope="module")
def grammars(_loaded):
    return Grammars(_loaded(256, 4, 64))


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_an_answer_is_one_of_the_calls_however_hot_it_is(bench, grammars, temperature):
    crowd = bench()
    numbers = [
        crowd.submit(
            chat(question),
            num_predict=80,
            sampling=Sampling(seed=seed, temperature=temperature, top_k=0, top_p=1.0),
            constraint=grammars.compile(CALLS),
        )
        for seed, question in enumerate([*QUESTIONS[:4], "What is the weather in Paris?", "Add 3 and 5."])
    ]
    crowd.finish()
    assert [crowd.finished[number].reason for number in numbers] == ["stop"] * 6
    for number in numbers:
        assert_one_call(crowd.text[number])


def test_the_penalties_do_not_break_the_grammar(bench, grammars):
    sampling = Sampling(seed=1, repeat_penalty=5.0, presence_penalty=100.0, repeat_last_n=-1)
    text, finish = bench().answer(chat("Hi"), num_predict=80, sampling=sampling, constraint=grammars.compile(CALLS))
    assert_one_call(text)
    assert finish.reason == "stop"


def test_what_is_complete_ends_without_another_decode(bench, grammars):
    exact = bench()
    text, finish = exact.answer(chat("Hi"), constraint=grammars.compile('start: "Hello there"'))
    assert (text, finish.reason) == ("Hello there", "stop")
    count = len(exact.model.tokenize("Hello there", add_special=False))
    assert finish.eval_count == count
    # The prompt, and each token but the last.
    assert len(exact.model.sizes) == 1 + count - 1


def test_what_is_complete_at_its_last_token_has_not_been_cut(bench, grammars):
    count = len(bench().model.tokenize("Hello there", add_special=False))
    options = {"constraint": grammars.compile('start: "Hello there"'), "num_predict": count}
    assert bench().answer(chat("Hi"), **options)[1].reason == "stop"


def test_a_grammar_does_not_lift_the_limit(bench, grammars):
    text, finish = bench().answer(chat("Hi"), num_predict=3, constraint=grammars.compile("start: /(ab)+c{90}/"))
    assert finish.reason == "length"
    assert finish.eval_count == 3
    assert text.startswith("ab")


def test_an_answer_may_end_where_the_grammar_may(bench, grammars):
    options = {"num_predict": 60, "sampling": Sampling(seed=2, temperature=1.5)}
    text, finish = bench().answer(chat("Hi"), constraint=grammars.compile("start: /[a-z ]{1,40}/"), **options)
    assert finish.reason == "stop"
    assert text.replace(" ", "a").isalpha()


def test_a_grammar_of_nothing_ends_at_once(bench, grammars):
    number = (nothing := bench()).submit(chat("Hi"), constraint=grammars.compile('start: ""'))
    nothing.finish()
    assert nothing.finished[number].reason == "stop"
    assert nothing.text == {}


def test_a_stop_string_ends_a_constrained_answer_too(bench, grammars):
    text, finish = bench().answer(chat("Hi"), stop=("there",), constraint=grammars.compile('start: "Hello there, you"'))
    assert (text, finish.reason) == ("Hello ", "stop")


def test_text_held_back_for_a_stop_string_is_said_at_the_end_of_the_grammar(bench, grammars):
    text, _ = bench().answer(chat("Hi"), stop=("there you are",), constraint=grammars.compile('start: "Hello there"'))
    assert text == "Hello there"


def test_special_tokens_are_part_of_an_answers_text(bench, grammars):
    text, finish = bench().answer(chat("Hi"), constraint=grammars.compile('start: "<file_sep>Hello"'))
    assert text == "<file_sep>Hello"
    assert finish.eval_count == 2


def test_a_free_answer_beside_a_constrained_one_is_the_free_answer_alone(bench, grammars, load):
    shared = bench()
    free = shared.submit(chat(QUESTIONS[0]), num_predict=24)
    bound = shared.submit(chat(QUESTIONS[1]), num_predict=80, constraint=grammars.compile(CALLS), sampling=GREEDY)
    shared.finish()
    assert_one_call(shared.text[bound])
    alone, _ = bench().answer(chat(QUESTIONS[0]), num_predict=24)
    assert_same_or_a_close_call(load(), chat(QUESTIONS[0]), alone, shared.text[free])


class Breaks:
    """A constraint that cannot be followed past its second token."""

    is_complete = False

    def __init__(self, model) -> None:
        self.allowed = np.array(model.tokenize("word", add_special=False), dtype=np.intp)
        self._left = 2

    def accept(self, token: int) -> None:
        self._left -= 1
        if not self._left:
            raise ConstraintError("too complex")


def test_an_answer_that_cannot_follow_its_grammar_fails_alone(bench):
    shared = bench()
    broken = shared.submit(chat("Hi"), num_predict=8, constraint=Breaks(shared.model))
    other = shared.submit(chat(QUESTIONS[0]), num_predict=8)
    shared.finish()
    assert shared.failed == {broken: "the answer cannot follow its grammar: too complex"}
    assert shared.status == {broken: 500}
    assert shared.finished[other].eval_count == 8
    text, _ = shared.answer(chat("Hi"), num_predict=2)
    assert text
