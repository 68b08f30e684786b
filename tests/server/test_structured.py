"""Structured output over HTTP, by a real small model: what it says keeps to the format whatever it would rather say."""

from __future__ import annotations

import json
import re

import pytest
from http_calls import MODEL, lines
from jsonschema import Draft202012Validator
from structured_answers import ask_for_schemas
from templates import CHATML, THINKING, TOOLS

QUESTION = [{"role": "user", "content": "Tell me of a city. Answer in JSON."}]
CITY = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "City",
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "people": {"type": "integer", "minimum": 1000, "maximum": 99999},
        "kind": {"enum": ["old", "new"]},
        "river": {"anyOf": [{"$ref": "#/$defs/river"}, {"type": "null"}]},
    },
    "required": ["name", "people", "kind", "river"],
    "$defs": {"river": {"type": "string", "pattern": "^[A-Z][a-z]{2,6}$"}},
}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look a city up.",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string", "maxLength": 12}},
        },
    },
}
OPTIONS = {"temperature": 0, "num_predict": 120, "num_thread": 1}

LIST_OF_WORDS = 'root ::= word ("," word)*\nword ::= " "? [a-z]{2,5}'

FORMS = [
    pytest.param(CITY, lambda text: Draft202012Validator(CITY).is_valid(json.loads(text)), id="schema"),
    pytest.param({"regex": "[A-Z][a-z]{2,8}!"}, lambda text: re.fullmatch("[A-Z][a-z]{2,8}!", text), id="regex"),
    pytest.param({"choice": ["Paris", "Rome", "}"]}, lambda text: text in ("Paris", "Rome", "}"), id="choice"),
    pytest.param({"lark": 'start: A ("-" A){2}\nA: /[0-9]+/ & /.{1,3}/'}, lambda text: text.count("-") == 2, id="lark"),
    pytest.param({"gbnf": 'root ::= x{3}\nx ::= "a" | [b-d] "-"'}, lambda text: re.fullmatch("(a|[b-d]-){3}", text),
                 id="gbnf"),
]  # fmt: skip


@pytest.fixture(scope="module")
def made(bench, unloaded):
    """Models of one ability each, and of both: ``plain``, ``thinker``, ``caller`` and ``agent``."""
    for name, template in (("plain", CHATML), ("thinker", THINKING), ("caller", TOOLS), ("agent", TOOLS + THINKING)):
        body = {"model": name, "from": MODEL, "template": template, "stream": False}
        assert bench.post("/api/create", json=body).json() == {"status": "success"}

    def ask(model="plain", **fields):
        options = {**OPTIONS, **fields.pop("options", {})}
        body = {"model": model, "messages": QUESTION, "stream": False, "options": options, **fields}
        return bench.post("/api/chat", json=body)

    yield ask
    unloaded("plain")


def message(response):
    assert response.status_code == 200, response.text
    assert response.json()["done_reason"] == "stop"
    return response.json()["message"]


# -- chat and generate, streamed and not --------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "fits"), FORMS)
def test_a_chat_keeps_to_the_format(made, form, fits):
    assert fits(message(made(format=form))["content"])


@pytest.mark.parametrize(("form", "fits"), FORMS)
def test_a_stream_brings_the_same_in_pieces(made, form, fits):
    *parts, last = lines(made(format=form, stream=True))
    assert last["done_reason"] == "stop"
    text = "".join(part["message"]["content"] for part in [*parts, last])
    assert text == message(made(format=form))["content"]
    assert fits(text)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(("form", "fits"), FORMS)
def test_generate_keeps_to_the_format(made, bench, form, fits, raw):
    body = {"model": "plain", "prompt": "A city:", "raw": raw, "format": form, "stream": False, "options": OPTIONS}
    response = bench.post("/api/generate", json=body).json()
    assert response["done_reason"] == "stop"
    assert fits(response["response"])


def test_json_is_one_object(made):
    options = {"num_predict": 400, "temperature": 0.3, "seed": 1}
    assert isinstance(json.loads(message(made(format="json", options=options))["content"]), dict)


def test_an_answer_that_is_cut_short_says_so(made):
    response = made(format=CITY, options={"num_predict": 3}).json()
    assert response["done_reason"] == "length"
    assert response["message"]["content"].startswith("{")


def test_stop_strings_do_not_end_what_a_format_goes_on_with(made):
    assert json.loads(message(made(format=CITY, options={"stop": [",", '"']}))["content"])


def test_the_same_seed_gives_the_same_answer(made):
    options = {"temperature": 1.5, "seed": 7}
    first, again = (message(made(format=CITY, options=options)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("value", [None, ""])
def test_no_format_binds_nothing(made, value):
    said = [made(format=value, options={"num_predict": 5}), made(options={"num_predict": 5})]
    assert said[0].json()["message"] == said[1].json()["message"]


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("form", "error"),
    [
        ("xml", r'^invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object$'),
        (7, '^invalid format: "7"; expected'),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "^invalid JSON schema in format: #/properties/a/not: "),
        ({"type": "string", "pattern": "a{"}, "invalid grammar: .*JSON schema: regex parse error: unclosed counted"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "invalid grammar: .*JSON schema: Unsatisfiable schema"),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "#: no value with an end could fit"),
        ({"regex": "a{"}, 'invalid grammar: .*invalid regex "a{".*: unclosed counted repetition'),
        ({"regex": "(?=a)"}, "^invalid format: regex: "),
        ({"choice": []}, "^invalid format: choice: "),
        ({"lark": 'start: "a" foo'}, 'invalid grammar: .*unknown name: "foo"'),
        ({"gbnf": "root ::= foo"}, '^invalid format: gbnf: line 1: there is no rule "foo"'),
    ],
)
def test_a_wrong_format_is_the_fault_of_the_request(made, form, error, stream):
    response = made(format=form, stream=stream)
    assert response.status_code == 400, response.text
    assert re.search(error, response.json()["error"])


# -- with thinking, and with tools --------------------------------------------------------------------------------


QUIZ = [
    {"role": "user", "content": "Is snow white?"},
    {"role": "assistant", "thinking": "It is easy.", "content": "yes"},
    {"role": "user", "content": "Is coal white?"},
    {"role": "assistant", "thinking": "It is easy.", "content": "no"},
    {"role": "user", "content": "Is milk white?"},
]
"""A conversation in which thinking is short, which a small model goes on with."""


def test_a_model_that_thinks_is_bound_when_it_has_thought(made):
    answer = message(made("thinker", messages=QUIZ, format={"choice": ["maybe", "perhaps"]}, think=True))
    assert "easy" in answer["thinking"]
    assert answer["content"] in ("maybe", "perhaps")


def test_a_model_that_is_not_to_think_is_bound_at_once(made):
    answer = message(made("thinker", messages=QUIZ, format={"choice": ["maybe", "perhaps"]}, think=False))
    assert not answer.get("thinking")
    assert answer["content"] in ("maybe", "perhaps")


def test_a_template_that_always_thinks_ends_in_the_format_all_the_same(made, bench):
    template = THINKING.replace("{{ if $.Think }}<think>\n{{ end }}", "<think>\n")
    body = {"model": "always", "from": MODEL, "template": template, "stream": False}
    assert bench.post("/api/create", json=body).json() == {"status": "success"}
    answer = message(made("always", messages=QUIZ, format={"choice": ["maybe", "perhaps"]}))
    assert answer["content"] in ("maybe", "perhaps")


def test_a_call_or_content(made):
    for seed in range(3):
        options = {"temperature": 1.0, "seed": seed}
        answer = message(made("caller", format=CITY, tools=[TOOL], options=options))
        if calls := answer.get("tool_calls"):
            assert calls[0]["function"]["name"] == "look_up"
            assert set(calls[0]["function"]["arguments"]) == {"city"}
        else:
            Draft202012Validator(CITY).validate(json.loads(answer["content"]))


def test_a_model_that_can_do_all_of_it(made):
    answer = made("agent", format=CITY, tools=[TOOL], think=False).json()["message"]
    assert answer.get("tool_calls") or Draft202012Validator(CITY).is_valid(json.loads(answer["content"]))


# -- any schema ---------------------------------------------------------------------------------------------------


def test_answers_to_random_schemas_fit_them(bench, made, unloaded):
    """The benchmark of structured output asks for more of the same."""
    results = ask_for_schemas(bench, MODEL, range(25))
    assert [result for result in results if result.problem] == []
    unloaded(MODEL)
