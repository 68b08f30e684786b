# ruff: noqa: RUF001 - DeepSeek's markers have full-width bars

from __future__ import annotations

import itertools
import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.prompt.tools.call import Delta, ToolCall
from ollama_nb.prompt.tools.command_r import CommandRFormat
from ollama_nb.prompt.tools.deepseek import DeepSeekFormat
from ollama_nb.prompt.tools.functionary import FunctionaryFormat
from ollama_nb.prompt.tools.generic import GenericFormat
from ollama_nb.prompt.tools.granite import GraniteFormat
from ollama_nb.prompt.tools.harmony import HarmonyFormat
from ollama_nb.prompt.tools.hermes import HermesFormat
from ollama_nb.prompt.tools.llama3 import Llama3Format
from ollama_nb.prompt.tools.mistral import MistralFormat
from ollama_nb.prompt.tools.qwen3_coder import Qwen3CoderFormat

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "required": ["a"]}}}
    for name in ("f", "f_g", "to=", "all", "<")
]

FORMATS = [
    (Llama3Format(), ["<|python_tag|>", ";"]),
    (HermesFormat(), ["<tool_call>", "</tool_call>"]),
    (MistralFormat(), ["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[TOOL_CALLS]f_g[ARGS]"]),
    (GraniteFormat(), ["<|tool_call|>", "<tool_call>", "</tool_call>", "<|/tool_call|>"]),
    (
        DeepSeekFormat(),
        [
            *("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
            *("<｜tool▁sep｜>", "```", "json", "function", "<｜tool▁call▁begin｜>f<｜tool▁sep｜>"),
        ],
    ),
    (
        HarmonyFormat(),
        [
            *("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|constrain|>"),
            *(
                "assistant",
                "analysis",
                "final",
                "commentary",
                " to=functions.",
                "json",
                "<|channel|>commentary to=functions.f_g<|message|>",
            ),
        ],
    ),
    (
        CommandRFormat(),
        [
            *("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
            *("<|START_ACTION|>", "<|END_ACTION|>", "Action:", "```", "json", "Action: ```json\n["),
        ],
    ),
    (FunctionaryFormat(), [">>>", ">>>f\n", "all", "<function=", ">", "</function>"]),
    (FunctionaryFormat(speaks_in_channels=True, is_begun=True), [">>>", "all\n"]),
    (
        Qwen3CoderFormat(),
        [
            "<tool_call>",
            "<function=",
            "<function=f>\n<parameter=a>1</parameter>",
            "<parameter=",
            ">",
            "</parameter>",
            "</function>",
            "</tool_call>",
        ],
    ),
]

PIECES = [
    *("f", "f_g", "g", " ", "\n", ",", "{", "}", "[", "]", "<", "|", '"', "\\", "é", "a b", "{}", '{"a": 1}'),
    *('{"name": "f", "arguments": {"a": 1}}', '{"name": "f_g", "parameters": {"a": "}"}}', '{"name": "x"}'),
    *('{"tool_name": "f", "parameters": {"a": "\\""}}', '{"name": "f", "arguments": "{\\"a\\": 2}"}'),
]

CUT_MARKERS = {
    "command-r": re.compile(r"<\|(?:START_THINKING|END_THINKING|START_RESPONSE|END_RESPONSE|END_ACTION)\|>"),
}
"""Markers that are taken away although nothing was called."""


@st.composite
def texts(draw):
    """A format and a text in which its markers, whole and cut, stand at random."""
    fmt, markers = draw(st.sampled_from(FORMATS))
    marker = st.sampled_from(markers)
    cut = st.builds(lambda text, length: text[:length], marker, st.integers(1, 8))
    pieces = draw(st.lists(st.one_of(marker, marker, cut, st.sampled_from(PIECES)), max_size=14))
    return fmt, "".join(pieces)


def parse(fmt, pieces):
    parser = fmt.parser(TOOLS)
    return sum((parser.feed(piece) for piece in pieces), Delta()) + parser.close()


@given(texts(), st.lists(st.integers(0, 200)))
def test_any_splitting_of_a_text_gives_the_same(formatted, cuts):
    fmt, text = formatted
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    whole = parse(fmt, [text])
    assert parse(fmt, [text[start:end] for start, end in itertools.pairwise(edges)]) == whole
    assert parse(fmt, text) == whole


@given(texts())
def test_only_tools_that_were_offered_are_called_with_objects(formatted):
    fmt, text = formatted
    for call in parse(fmt, [text]).calls:
        assert call.name in {tool["function"]["name"] for tool in TOOLS}
        assert isinstance(call.arguments, dict)
        json.dumps(call.arguments).encode()


@given(texts())
def test_where_nothing_is_called_the_whole_text_comes_out(formatted):
    fmt, text = formatted
    found = parse(fmt, [text])
    if found.calls or isinstance(fmt, HarmonyFormat) or getattr(fmt, "is_begun", False):
        return
    markers = CUT_MARKERS.get(fmt.name)
    if fmt.name == "functionary":
        # ">>>all" stands for content; how marks in a row are told apart is of no importance.
        assert ">>>>" in text or found == Delta(text.replace(">>>all\n", ""))
    elif markers is None:
        assert found == Delta(text)
    else:
        assert sorted(found.content + found.thinking) == sorted(markers.sub("", text))


HEADERS = {
    "<|channel|>final<|message|>": False,
    "<|channel|>commentary<|message|>": False,
    "<|channel|>analysis<|message|>": True,
    "<|channel|>analysis <|constrain|>text<|message|>": True,
}
WORDS = st.text("ab <|{}>\n", max_size=8)


@given(st.lists(st.tuples(st.sampled_from(list(HEADERS)), WORDS, st.sampled_from(["<|end|>", ""])), max_size=5))
def test_every_body_of_harmony_comes_out_on_its_channel(messages):
    text = "<|start|>assistant".join(header + body + end for header, body, end in messages)
    thinking = "".join(body for header, body, _ in messages if HEADERS[header])
    content = "".join(body for header, body, _ in messages if not HEADERS[header])
    assert parse(HarmonyFormat(), [text]) == Delta(content, thinking)


# Larger whole numbers are read as floats, as Go reads them.
WHOLE_NUMBERS = st.integers(-(2**63), 2**63 - 1)
ARGUMENTS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | WHOLE_NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
CALLS = st.lists(st.builds(ToolCall, st.sampled_from(["f", "f_g"]), ARGUMENTS), min_size=1, max_size=3)


def as_object(call, name="name", arguments="arguments"):
    return json.dumps({name: call.name, arguments: call.arguments}, ensure_ascii=False)


def as_deepseek(calls):
    written = (
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{call.name}\n```json\n{json.dumps(call.arguments)}\n```<｜tool▁call▁end｜>"
        for call in calls
    )
    return f"<｜tool▁calls▁begin｜>{chr(10).join(written)}<｜tool▁calls▁end｜>"


WRITTEN = {
    "llama3": (Llama3Format(), "{", lambda calls: "; ".join(as_object(call, arguments="parameters") for call in calls)),
    "llama3 with its tag": (
        Llama3Format(),
        "<|python_tag|>",
        lambda calls: "<|python_tag|>" + "; ".join(as_object(call, arguments="parameters") for call in calls),
    ),
    "hermes": (
        HermesFormat(),
        "<tool_call>",
        lambda calls: "\n".join(f"<tool_call>\n{as_object(call)}\n</tool_call>" for call in calls),
    ),
    "mistral": (
        MistralFormat(),
        "[TOOL_CALLS]",
        lambda calls: f"[TOOL_CALLS] [{', '.join(map(as_object, calls))}]",
    ),
    "mistral with names": (
        MistralFormat(),
        "[TOOL_CALLS]",
        lambda calls: "".join(f"[TOOL_CALLS]{call.name}[ARGS]{json.dumps(call.arguments)}" for call in calls),
    ),
    "granite": (
        GraniteFormat(),
        "<|tool_call|>",
        lambda calls: f"<|tool_call|>[{', '.join(map(as_object, calls))}]",
    ),
    "deepseek": (DeepSeekFormat(), "<｜tool▁calls▁begin｜>", as_deepseek),
}


@pytest.mark.parametrize(("fmt", "tag", "write"), WRITTEN.values(), ids=WRITTEN)
@given(calls=CALLS)
def test_what_is_well_written_is_read_as_the_generic_parser_reads_it(fmt, tag, write, calls):
    text = write(calls)
    assert parse(fmt, [text]) == Delta(calls=tuple(calls))
    assert parse(fmt, text) == Delta(calls=tuple(calls))
    assert parse(GenericFormat(tag), [text]) == Delta(calls=tuple(calls))


MUCH = 100_000
LONG = {
    "an argument": (HermesFormat(), '<tool_call>{"name": "f", "arguments": {"a": "', "ab{", '"}}</tool_call>'),
    "escapes": (HermesFormat(), '<tool_call>{"name": "f", "arguments": {"a": "', "\\\\\\n", '"}}</tool_call>'),
    "an object that does not end": (Llama3Format(), "", "{", ""),
    "a value in a tag": (Qwen3CoderFormat(), "<function=f><parameter=a>", "a</p", "</parameter></function>"),
    "beginnings of tags": (DeepSeekFormat(), "", "<｜tool▁call", ""),
    "calls": (HermesFormat(), "", '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>', ""),
    "a header that does not end": (HarmonyFormat(), "<|channel|>", "a<", ""),
    "a name that does not end": (MistralFormat(), "[TOOL_CALLS]", "ab", ""),
}


@pytest.mark.parametrize(("fmt", "before", "body", "behind"), LONG.values(), ids=LONG)
@pytest.mark.parametrize("size", [3, MUCH], ids=["in pieces", "at once"])
def test_twice_the_text_takes_about_twice_as_long(fmt, before, body, behind, size):
    def measure(length):
        text = before + body * (length // len(body)) + behind
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        started = time.process_time()
        parse_without_sum(fmt, pieces)
        return time.process_time() - started

    # Eight times the text would take 64 times as long if every piece were read again with the next.
    assert min(measure(MUCH) for _ in range(2)) < 24 * max(min(measure(MUCH // 8) for _ in range(3)), 1e-4)


def parse_without_sum(fmt, pieces):
    parser = fmt.parser(TOOLS)
    for piece in pieces:
        parser.feed(piece)
    parser.close()
