"""Answers bound to a format: what may come before the content, and in its place, in the ways of several templates."""

from __future__ import annotations

import pytest
from byte_grammars import may_begin_with, takes
from templates import CHATML, THINKING, TOOLS

from ollama_nb.prompt.answer import answer_parser
from ollama_nb.prompt.bound import answer_grammar
from ollama_nb.prompt.driver import GoDriver
from ollama_nb.prompt.formats import parse_format
from ollama_nb.prompt.tools import Delta, ToolCall

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
FORM = parse_format({"properties": {"a": {"type": "integer"}}, "required": ["a"]})
JSON = '{"a": 1}'
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}'
CALLED = ToolCall("weather", {"city": "Paris"})

BOTH = GoDriver(TOOLS + THINKING)
HARMONY = GoDriver(
    "{{ range .Messages }}<|start|>{{ .Role }}<|channel|>final<|message|>{{ .Content }}<|end|>"
    "{{ end }}<|start|>assistant"
)
COMMAND = GoDriver("{{ range .Messages }}<|START_ACTION|>{{ .Content }}{{ end }}<|CHATBOT_TOKEN|>")
FUNCTIONARY = GoDriver("{{ range .Messages }}{{ if .ToolCalls }}>>>all{{ end }}{{ .Content }}{{ end }}>>>")

FINAL = f"<|channel|>final<|message|>{JSON}"
ANALYSIS = "<|channel|>analysis<|message|>Hm < |<|end|><|start|>assistant"
HARMONY_CALL = '<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "Paris"}'
RESPONSE = f"<|START_RESPONSE|>{JSON}<|END_RESPONSE|>"


@pytest.mark.parametrize("driver", [GoDriver(CHATML), BOTH])
def test_without_thinking_and_tools_the_grammar_is_that_of_the_format(driver):
    assert answer_grammar(FORM, driver, "prompt") == FORM.grammar
    assert answer_grammar(FORM, driver, "prompt", think=False) == FORM.grammar


@pytest.mark.parametrize(
    ("driver", "prompt", "wanted", "fits", "fits_not"),
    [
        (BOTH, "", {"think": True}, [JSON, f"<think>x</th</think>\n\n{JSON}"], [f"x</think>{JSON}", "<think>x"]),
        (BOTH, "<think>\n", {"think": True}, [f"x</think>{JSON}", f"<think></think>{JSON}"], [JSON, "x</think>x"]),
        (BOTH, "<think>\n", {"think": False}, [f"x\n</think>\n{JSON}"], [JSON]),
        (BOTH, "<think>\n", {}, [f"x</think>{JSON}"], [JSON, f"x</think></think>{JSON}"]),
        (BOTH, "", {"tools": [WEATHER]}, [JSON, CALL], [f"<think></think>{JSON}", CALL + JSON, CALL[:-3]]),
        (BOTH, "", {"tools": [WEATHER], "think": "low"}, [JSON, CALL, f"<think>x</think>{CALL}"], [f"x{CALL}"]),
        (BOTH, "<think>", {"tools": [WEATHER]}, [f"x</think>{JSON}", f"x</think>\n{CALL}"], [JSON, CALL]),
        (HARMONY, "", {}, [FINAL, ANALYSIS + FINAL], [JSON, ANALYSIS, ANALYSIS + JSON, ANALYSIS * 2 + FINAL]),
        (HARMONY, "", {"tools": [WEATHER]}, [FINAL, ANALYSIS + HARMONY_CALL, ANALYSIS + FINAL], [ANALYSIS + JSON]),
        (COMMAND, "", {}, [RESPONSE, f"<|START_THINKING|>x<|END_THINKING|>{RESPONSE}"], [JSON]),
        (COMMAND, "<|START_THINKING|>", {}, [f"x<|END_THINKING|>{RESPONSE}"], [RESPONSE]),
        (COMMAND, "<|START_RESPONSE|>", {}, [f"{JSON}<|END_RESPONSE|>"], [RESPONSE]),
        (FUNCTIONARY, ">>>", {"tools": [WEATHER]}, [f"all\n{JSON}", 'weather\n{"city": "P"}'], [JSON]),
    ],
)  # fmt: skip
def test_what_may_be_written(driver, prompt, wanted, fits, fits_not):
    grammar = answer_grammar(FORM, driver, prompt, **wanted)
    assert [text for text in fits if not takes(grammar, text)] == []
    assert [text for text in fits_not if takes(grammar, text)] == []


@pytest.mark.parametrize(
    "form",
    [
        {"gbnf": 'root ::= "}" | "{" root "}"'},
        {"lark": "start: /[}{]/ // } a comment"},
        {"regex": "[{}]"},
        {"choice": ["}", '"{']},
        {"enum": ["}"]},
    ],
)
def test_any_language_stands_within(form):
    text = '"}"' if "enum" in form else "}"
    grammar = answer_grammar(parse_format(form), BOTH, "<think>", tools=[WEATHER])
    assert takes(grammar, f"x</think>{text}")
    assert takes(grammar, f"x</think>{CALL}")
    assert not may_begin_with(grammar, "x</think>x")


@pytest.mark.parametrize("think", [None, False, True])
def test_thinking_that_the_prompt_has_opened_is_no_content(think):
    parser = answer_parser(BOTH, "<think>\n", think=think, is_bound=True)
    assert parser.feed(f"Hm.\n</think>\n{JSON}") + parser.close() == Delta(JSON, "Hm.\n")


@pytest.mark.parametrize(
    ("driver", "prompt", "text", "found"),
    [
        (BOTH, "", JSON, Delta(JSON)),
        (BOTH, "", CALL, Delta(calls=(CALLED,))),
        (BOTH, "<think>", f"x</think>{CALL}", Delta("", "x", (CALLED,))),
        (HARMONY, "", ANALYSIS + FINAL, Delta(JSON, "Hm < |")),
        (HARMONY, "", HARMONY_CALL, Delta(calls=(CALLED,))),
        (COMMAND, "", f"<|START_THINKING|>x<|END_THINKING|>{RESPONSE}", Delta(JSON, "x")),
        (FUNCTIONARY, ">>>", f"all\n{JSON}", Delta(JSON)),
    ],
)
def test_what_is_written_is_read_as_it_is_meant(driver, prompt, text, found):
    assert takes(answer_grammar(FORM, driver, prompt, tools=[WEATHER]), text)
    parser = answer_parser(driver, prompt, tools=[WEATHER], is_bound=True)
    assert parser.feed(text) + parser.close() == found
