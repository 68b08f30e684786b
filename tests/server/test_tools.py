"""Tools in a chat with a real small model: it seldom calls by itself, so that calls are demanded of it."""

from __future__ import annotations

import pytest
from http_calls import MODEL, lines
from templates import THINKING, TOOLS

TOOLBOX = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather of a city.",
            "parameters": {
                "type": "object",
                "required": ["city", "unit"],
                "properties": {
                    "city": {"type": "string", "description": "The name of the city."},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                },
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "add_two_numbers",
            "description": "Add two whole numbers.",
            "parameters": {
                "type": "object",
                "required": ["a", "b"],
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            },
        },
    },
]
QUESTION = [{"role": "user", "content": "What is the weather in Paris, in celsius?"}]


@pytest.fixture(scope="module")
def called(bench, unloaded):
    """Asks the model with tools; its name is ``caller``."""
    for name, template in (("caller", TOOLS), ("thinker", THINKING)):
        made = bench.post("/api/create", json={"model": name, "from": MODEL, "template": template, "stream": False})
        assert made.json() == {"status": "success"}

    def ask(messages=QUESTION, **fields):
        options = {"num_predict": 160, "num_thread": 1, **fields.pop("options", {})}
        body = {"model": "caller", "messages": messages, "tools": TOOLBOX, "stream": False, "options": options}
        return bench.post("/api/chat", json={**body, **fields})

    yield ask
    unloaded("caller")


def assert_valid(call):
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    if name == "get_weather":
        assert set(arguments) == {"city", "unit"}
        assert isinstance(arguments["city"], str)
        assert arguments["unit"] in ("celsius", "fahrenheit")
    else:
        assert name == "add_two_numbers"
        assert set(arguments) == {"a", "b"}
        assert all(type(value) is int for value in arguments.values())


@pytest.mark.parametrize("seed", range(4))
def test_a_required_call_comes_whatever_the_seed(called, seed):
    answer = called(tool_choice="required", options={"seed": seed, "temperature": 0.8}).json()
    (call,) = answer["message"]["tool_calls"]
    assert_valid(call)
    assert answer["message"]["content"] == ""
    assert answer["done_reason"] == "stop"
    assert call["id"].startswith("call_")
    assert call["function"]["index"] == 0


def test_a_named_function_is_the_one_that_is_called(called):
    choice = {"type": "function", "function": {"name": "add_two_numbers"}}
    for seed in range(3):
        answer = called(tool_choice=choice, options={"seed": seed, "temperature": 1}).json()
        (call,) = answer["message"]["tool_calls"]
        assert call["function"]["name"] == "add_two_numbers"
        assert_valid(call)


def test_a_streamed_call_comes_whole_before_the_final_object(called):
    *pieces, last = lines(called(tool_choice="required", stream=True, options={"temperature": 0}))
    single = called(tool_choice="required", options={"temperature": 0}).json()
    (chunk,) = [piece for piece in pieces if piece["message"].get("tool_calls")]
    assert chunk["message"]["tool_calls"][0]["function"] == single["message"]["tool_calls"][0]["function"]
    assert (chunk["done"], last["done"], last["message"]["content"]) == (False, True, "")


def test_calls_and_results_in_the_history_reach_the_prompt(called):
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris", "unit": "celsius"}}}
    history = [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [call]}]
    with_result = [*history, {"role": "tool", "tool_name": "get_weather", "content": "22 degrees and sunny"}]
    without, with_ = (
        called(messages, tools=[], options={"num_predict": 1}).json()["prompt_eval_count"]
        for messages in (history, with_result)
    )
    assert with_ > without + 5
    assert called(with_result, options={"num_predict": 4}).json()["message"]["content"]


def test_tools_are_not_shown_to_the_model_when_none_is_wanted(called):
    none, bare = (
        called(options={"num_predict": 1}, **fields).json()["prompt_eval_count"]
        for fields in ({"tool_choice": "none"}, {"tools": []})
    )
    assert none == bare < called(options={"num_predict": 1}).json()["prompt_eval_count"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"tool_choice": "required", "tools": []}, "there are no tools"),
        ({"tool_choice": {"function": {"name": "sing"}}}, "not among the tools: sing"),
        ({"tool_choice": 7}, "invalid tool_choice"),
        ({"tools": [{"type": "function"}]}, "no function name"),
        ({"tools": "get_weather"}, "cannot unmarshal"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}]}, "cannot unmarshal"),
    ],
)
def test_what_is_no_tool_and_no_choice_is_refused(called, fields, text):
    response = called(**fields)
    assert response.status_code == 400
    assert text in response.json()["error"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "object", "properties": {"x": {"type": "sometimes"}}},
        {"type": "object", "properties": {"x": {"enum": []}}, "required": ["x"]},
        {"type": "object", "properties": {"x": {"type": "string", "pattern": "("}}, "required": ["x", "y"]},
        {"$ref": "#/$defs/missing"},
    ],
    ids=["unknown type", "nothing allowed", "broken pattern", "dangling reference"],
)
def test_a_schema_that_makes_no_sense_is_kept_to_as_far_as_it_goes(called, parameters):
    tool = {"type": "function", "function": {"name": "odd", "parameters": parameters}}
    response = called(tools=[tool], tool_choice="required", options={"temperature": 0})
    (call,) = response.json()["message"]["tool_calls"]
    assert call["function"]["name"] == "odd"


@pytest.mark.parametrize("parameters", ["none", {"type": "object", "properties": []}, {"required": "x"}])
def test_a_schema_of_the_wrong_types_is_refused(called, parameters):
    tool = {"type": "function", "function": {"name": "odd", "parameters": parameters}}
    response = called(tools=[tool], tool_choice="required")
    assert response.status_code == 400
    assert "parameters" in response.json()["error"]


def test_thinking_is_told_from_content(called):
    answer = called(QUESTION, model="thinker", tools=[], think=True, options={"num_predict": 6, "temperature": 0})
    message = answer.json()["message"]
    # The prompt has opened the tag, which this model never closes: all it writes is thinking.
    assert message["thinking"]
    assert message["content"] == ""
    plain = called(QUESTION, model="thinker", tools=[], options={"num_predict": 6, "temperature": 0}).json()
    assert plain["message"]["content"]
    assert "thinking" not in plain["message"]


def test_thinking_of_a_generate_has_a_field_of_its_own(called, bench):
    body = {"model": "thinker", "prompt": "Why?", "think": True, "options": {"num_predict": 6, "temperature": 0}}
    *pieces, last = lines(bench.post("/api/generate", json=body))
    assert "".join(piece.get("thinking", "") for piece in pieces)
    assert "".join(piece["response"] for piece in pieces) == ""
    assert last["done"]


@pytest.mark.parametrize("value", ["maximal", 3, []])
def test_what_is_no_way_of_thinking_is_refused(called, value):
    response = called(model="thinker", tools=[], think=value)
    assert response.status_code == 400
    assert response.json()["error"].startswith("invalid think value")
