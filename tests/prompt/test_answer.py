from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from templates import CHATML, THINKING, TOOLS

from ollama_nb.prompt.answer import answer_parser
from ollama_nb.prompt.driver import GoDriver
from ollama_nb.prompt.tools import Delta, ToolCall

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
BOTH = GoDriver(TOOLS + THINKING)
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def parsed(driver, text, prompt="", **wanted):
    parser = answer_parser(driver, prompt, **wanted)
    return parser.feed(text) + parser.close()


def test_without_a_wish_all_text_is_content():
    text = f"<think>a</think>b{CALL}"
    assert parsed(GoDriver(CHATML), text) == Delta(text)
    assert parsed(BOTH, text) == Delta(text)
    assert parsed(BOTH, text, think=False) == Delta(text)


def test_thinking_comes_apart_only_when_it_is_asked_for():
    assert parsed(BOTH, "<think>a</think>b", think=True) == Delta("b", "a")
    assert parsed(BOTH, "<think>a</think>b", think="low") == Delta("b", "a")


def test_a_prompt_that_has_opened_the_tag_begins_within_it():
    assert parsed(BOTH, "a\n</think>\n\nb", prompt="...<think>\n", think=True) == Delta("b", "a\n")


def test_calls_are_looked_for_behind_the_thinking():
    call = ToolCall("weather", {"city": "Paris"})
    assert parsed(BOTH, f"<think>a {CALL}</think>b{CALL}", tools=[WEATHER], think=True) == Delta(
        "b", f"a {CALL}", (call,)
    )


def test_calls_in_text_that_is_not_told_apart_are_calls():
    assert parsed(BOTH, f"x{CALL}", tools=[WEATHER]).calls == (ToolCall("weather", {"city": "Paris"}),)


@pytest.mark.parametrize("think", [None, True])
@given(data=st.data())
def test_any_split_gives_the_same(think, data):
    parts = st.sampled_from(["<think>", "</think>", CALL, "<tool", "text ", "\n", "<", '{"a": "}"}', "</tool_call>"])
    text = "".join(data.draw(st.lists(parts, max_size=8)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    parser = answer_parser(BOTH, "", tools=[WEATHER], think=think)
    got = Delta()
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        got += parser.feed(text[start:end])
    assert got + parser.close() == parsed(BOTH, text, tools=[WEATHER], think=think)
