# ruff: noqa: RUF001 - DeepSeek's markers have full-width bars

from __future__ import annotations

import json

import pytest

from ollama_nb.prompt.tools.call import Delta, ToolCall
from ollama_nb.prompt.tools.command_r import CommandRFormat
from ollama_nb.prompt.tools.deepseek import DeepSeekFormat
from ollama_nb.prompt.tools.functionary import FunctionaryFormat
from ollama_nb.prompt.tools.granite import GraniteFormat
from ollama_nb.prompt.tools.harmony import HarmonyFormat
from ollama_nb.prompt.tools.hermes import HermesFormat
from ollama_nb.prompt.tools.llama3 import Llama3Format
from ollama_nb.prompt.tools.mistral import MistralFormat
from ollama_nb.prompt.tools.qwen3_coder import Qwen3CoderFormat


def tool(name, required=(), **properties):
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}


TOOLS = [
    tool("get", key={"type": "string"}),
    tool("get_weather", ["city"], city={"type": "string"}, days={"type": "integer"}),
    tool(
        "add",
        ["a"],
        a={"type": "number"},
        b={"anyOf": [{"type": "number"}, {"type": "null"}]},
        exact={"type": "boolean"},
        notes={"type": "array", "items": {"type": "string"}},
        how={"type": ["string", "integer"]},
        unit={"enum": ["m", "km"]},
        where={"$ref": "#/$defs/Place"},
    ),
]

PARIS = ToolCall("get_weather", {"city": "Paris"})
OSLO = ToolCall("get_weather", {"city": "Oslo", "days": 2})
GET = ToolCall("get", {"key": "{]}\" '"})
PARIS_JSON = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
OSLO_JSON = '{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}'
GET_JSON = json.dumps({"name": "get", "arguments": {"key": "{]}\" '"}})
NOPE_JSON = '{"name": "nope", "arguments": {"city": "Paris"}}'


def parse(fmt, text, tools=TOOLS, size=None):
    parser = fmt.parser(tools)
    found = Delta()
    for start in range(0, len(text), size or max(len(text), 1)):
        found += parser.feed(text[start : start + (size or len(text))])
    return found + parser.close()


def calls(*made, content="", thinking=""):
    return Delta(content, thinking, made)


def content(text, thinking=""):
    return Delta(text, thinking)


def fenced(*pairs):
    """Calls as DeepSeek V3 and R1 write them."""
    body = "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"
        for name, arguments in pairs
    )
    return f"<｜tool▁calls▁begin｜>{body}<｜tool▁calls▁end｜>"


def plain(*pairs):
    """Calls as DeepSeek V3.1 writes them."""
    body = "".join(f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{args}<｜tool▁call▁end｜>" for name, args in pairs)
    return f"<｜tool▁calls▁begin｜>{body}<｜tool▁calls▁end｜>"


def coder(name, **values):
    parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>"


LLAMA = [
    ("one object", '{"name": "get_weather", "parameters": {"city": "Paris"}}', calls(PARIS)),
    ("arguments for parameters", PARIS_JSON, calls(PARIS)),
    ("a type in front", '{"type": "function", ' + PARIS_JSON[1:], calls(PARIS)),
    ("white space around", f"\n\n{PARIS_JSON}\n", calls(PARIS, content="\n\n")),
    ("several with a semicolon", f"{PARIS_JSON}; {OSLO_JSON};{GET_JSON}", calls(PARIS, OSLO, GET)),
    ("several with a line break", f"{PARIS_JSON}\n{OSLO_JSON}", calls(PARIS, OSLO)),
    ("the tag", f"<|python_tag|>{PARIS_JSON}", calls(PARIS)),
    ("the tag behind content", f"Let me see.<|python_tag|>{PARIS_JSON}", calls(PARIS, content="Let me see.")),
    (
        "parameters as text",
        json.dumps({"name": "get", "parameters": json.dumps({"key": "k"})}),
        calls(ToolCall("get", {"key": "k"})),
    ),
    ("content behind", f"{PARIS_JSON} That was it.", calls(PARIS, content="That was it.")),
    ("code behind the tag", "<|python_tag|>print({1: 2})", content("<|python_tag|>print({1: 2})")),
    ("an object behind other text", f"So: {PARIS_JSON}", content(f"So: {PARIS_JSON}")),
    ("JSON as an answer", '{"answer": {"a": [1, 2]}} ok', content('{"answer": {"a": [1, 2]}} ok')),
    ("an unknown name", NOPE_JSON, content(NOPE_JSON)),
    (
        "a name that goes on",
        PARIS_JSON.replace("weather", "weather_x"),
        content(PARIS_JSON.replace("weather", "weather_x")),
    ),
    ("no arguments where none are needed", '{"type": "function", "name": "get"}', calls(ToolCall("get", {}))),
    ("no arguments where some are needed", '{"name": "get_weather"}', content('{"name": "get_weather"}')),
    ("a name among other things", '{"name": "get", "age": 5}', content('{"name": "get", "age": 5}')),
    (
        "a name under another key",
        '{"function": "get", "parameters": {"key": "k"}}',
        calls(ToolCall("get", {"key": "k"})),
    ),
    (
        "arguments that are no object",
        '{"name": "get", "parameters": [1]}',
        content('{"name": "get", "parameters": [1]}'),
    ),
    ("an object that is not closed", PARIS_JSON[:-1], content(PARIS_JSON[:-1])),
    ("no JSON", "{name: get, parameters: {}}", content("{name: get, parameters: {}}")),
    (
        "no number",
        '{"name": "get", "parameters": {"key": NaN}}',
        content('{"name": "get", "parameters": {"key": NaN}}'),
    ),
    (
        "half a surrogate pair",
        '{"name": "get", "parameters": {"key": "\\ud83d!"}}',
        calls(ToolCall("get", {"key": "\ufffd!"})),
    ),
    (
        "a surrogate pair",
        '{"name": "get", "parameters": {"key": "\\ud83d\\ude00"}}',
        calls(ToolCall("get", {"key": "😀"})),
    ),
    (
        "a line break in a text",
        '{"name": "get", "parameters": {"key": "a\nb"}}',
        calls(ToolCall("get", {"key": "a\nb"})),
    ),
    ("brackets too deep", '{"a":' * 9000 + "1" + "}" * 9000, content('{"a":' * 9000 + "1" + "}" * 9000)),
]

HERMES = [
    ("one block", f"<tool_call>\n{PARIS_JSON}\n</tool_call>", calls(PARIS)),
    (
        "content before",
        f"I will look.\n<tool_call>\n{PARIS_JSON}\n</tool_call>",
        calls(PARIS, content="I will look.\n"),
    ),
    (
        "two blocks",
        f"<tool_call>\n{PARIS_JSON}\n</tool_call>\n<tool_call>\n{OSLO_JSON}\n</tool_call>",
        calls(PARIS, OSLO),
    ),
    (
        "content between",
        f"<tool_call>{PARIS_JSON}</tool_call>\nAnd now <tool_call>{GET_JSON}</tool_call>.",
        calls(PARIS, GET, content="And now ."),
    ),
    ("two in a block", f"<tool_call>\n{PARIS_JSON}\n{OSLO_JSON}\n</tool_call>", calls(PARIS, OSLO)),
    ("a list in a block", f"<tool_call>[{PARIS_JSON}, {OSLO_JSON}]</tool_call>", calls(PARIS, OSLO)),
    ("no closing tag", f"<tool_call>\n{PARIS_JSON}", calls(PARIS)),
    ("within a function", f'<tool_call>{{"function": {PARIS_JSON}}}</tool_call>', calls(PARIS)),
    ("the beginning of a tag", "2 < 3 and <tool_ca", content("2 < 3 and <tool_ca")),
    ("a tag that is talked of", "The <tool_call> tag.", content("The <tool_call> tag.")),
    ("an unknown name", f"<tool_call>\n{NOPE_JSON}\n</tool_call>", content(f"<tool_call>\n{NOPE_JSON}\n</tool_call>")),
    (
        "an unknown name before a known one",
        f"<tool_call>{NOPE_JSON}</tool_call><tool_call>{PARIS_JSON}</tool_call>",
        calls(PARIS, content=f"<tool_call>{NOPE_JSON}</tool_call>"),
    ),
    (
        "a known name before an unknown one",
        f"<tool_call>{PARIS_JSON}\n{NOPE_JSON}</tool_call>",
        calls(PARIS, content=f"\n{NOPE_JSON}</tool_call>"),
    ),
    ("an object without a tag", PARIS_JSON, content(PARIS_JSON)),
    ("nothing", "", Delta()),
]

GRANITE = [
    ("a list", f"<|tool_call|>[{PARIS_JSON}]", calls(PARIS)),
    ("a list of two", f"<|tool_call|> [{PARIS_JSON}, {OSLO_JSON}]\n", calls(PARIS, OSLO)),
    ("a list without commas", f"<|tool_call|>[{PARIS_JSON}{OSLO_JSON}]", calls(PARIS, OSLO)),
    ("as earlier calls are shown", f'<|tool_call|>[{{"function":{PARIS_JSON}}}]', calls(PARIS)),
    ("text as a tag", f"<tool_call>[{PARIS_JSON}]", calls(PARIS)),
    ("a block", f"<tool_call>\n{PARIS_JSON}\n</tool_call>", calls(PARIS)),
    ("content before", f"Yes. <|tool_call|>[{PARIS_JSON}]", calls(PARIS, content="Yes. ")),
    ("an empty list", "<|tool_call|>[]", content("<|tool_call|>[]")),
]

MISTRAL = [
    ("a list", f"[TOOL_CALLS][{PARIS_JSON}]", calls(PARIS)),
    ("a list of two", f"[TOOL_CALLS] [{PARIS_JSON}, {OSLO_JSON}]", calls(PARIS, OSLO)),
    ("with ids", f'[TOOL_CALLS][{PARIS_JSON[:-1]}, "id": "abc123def"}}]', calls(PARIS)),
    ("a name", '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}', calls(PARIS)),
    ("a name and an id", '[TOOL_CALLS]get_weather[CALL_ID]abc123def[ARGS]{"city": "Paris"}', calls(PARIS)),
    ("a name alone", '[TOOL_CALLS]get_weather{"city": "Paris"}', calls(PARIS)),
    (
        "two names",
        'Well.[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]get[ARGS]{"key": "k"}',
        calls(PARIS, ToolCall("get", {"key": "k"}), content="Well."),
    ),
    ("an unknown name", "[TOOL_CALLS]nope[ARGS]{}", content("[TOOL_CALLS]nope[ARGS]{}")),
    ("a list as an answer", "[1, 2]", content("[1, 2]")),
    ("the marker alone", "[TOOL_CALLS]", content("[TOOL_CALLS]")),
]

DEEPSEEK = [
    ("fenced", fenced(("get_weather", '{"city": "Paris"}')), calls(PARIS)),
    (
        "fenced, two",
        fenced(("get_weather", '{"city": "Paris"}'), ("get", json.dumps(GET.arguments))),
        calls(PARIS, GET),
    ),
    ("plain", plain(("get_weather", '{"city": "Paris"}')), calls(PARIS)),
    (
        "plain, two",
        "Hm." + plain(("get_weather", '{"city": "Paris"}'), ("get", '{"key": "k"}')),
        calls(PARIS, ToolCall("get", {"key": "k"}), content="Hm."),
    ),
    ("no marker of the section", '<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}', calls(PARIS)),
    ("an unknown name", plain(("nope", "{}")), content(plain(("nope", "{}")))),
    ("no call", "<｜tool▁calls▁begin｜>well", content("<｜tool▁calls▁begin｜>well")),
    (
        "an unknown name before a known one",
        fenced(("nope", "{}"), ("get_weather", '{"city": "Paris"}')),
        calls(PARIS, content=fenced(("nope", "{}")).removesuffix("<｜tool▁calls▁end｜>") + "\n"),
    ),
]

HARMONY = [
    ("an answer", "<|channel|>final<|message|>Hello.<|return|>", content("Hello.")),
    (
        "thinking and an answer",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello.",
        content("Hello.", "Hm."),
    ),
    (
        "thinking and a call",
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
            '<|constrain|>json<|message|>{"city": "Paris"}<|call|>'
        ),
        calls(PARIS, thinking="Hm."),
    ),
    (
        "the recipient before the channel",
        '<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris"}<|call|>',
        calls(PARIS),
    ),
    (
        "the recipient first of all",
        ' to=functions.get_weather<|channel|>commentary<|message|>{"city": "Paris"}',
        calls(PARIS),
    ),
    ("no name space", '<|channel|>commentary to=get_weather<|message|>{"city": "Paris"}', calls(PARIS)),
    (
        "a preamble and two calls",
        (
            "<|channel|>commentary<|message|>I look it up.<|end|>"
            '<|start|>assistant<|channel|>commentary to=functions.get_weather<|message|>{"city": "Paris"}<|call|>'
            '<|start|>assistant<|channel|>commentary to=functions.get<|message|>{"key": "k"}<|call|>'
        ),
        calls(PARIS, ToolCall("get", {"key": "k"}), content="I look it up."),
    ),
    (
        "an unknown name",
        "<|channel|>commentary to=functions.nope<|message|>{}<|call|>",
        content("<|channel|>commentary to=functions.nope<|message|>{}"),
    ),
    (
        "arguments that are no JSON",
        "<|channel|>commentary to=functions.get<|message|>key<|call|>",
        content("<|channel|>commentary to=functions.get<|message|>key"),
    ),
    ("text without a header", "Hello, <b>you</b>.", content("Hello, <b>you</b>.")),
    ("a body without a header", "<|message|>Hello.", content("Hello.")),
    (
        "no end before the next channel",
        "<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Yes.",
        content("Yes.", "Hm."),
    ),
    ("a header that is cut off", "<|channel|>analy", Delta()),
    ("a tag that is cut off", "<|channel|>analysis<|mess", Delta()),
    ("a header that is none", "<|channel|>that is what they say", content("<|channel|>that is what they say")),
]

COMMAND_R = [
    (
        "fenced",
        'Action: ```json\n[\n    {\n      "tool_name": "get_weather",\n   "parameters": {"city": "Paris"}\n }\n]```',
        calls(PARIS),
    ),
    (
        "a plan before",
        'Plan: look.\nAction:```json\n[{"tool_name": "get_weather", "parameters": {"city": "Paris"}}]\n```\n',
        calls(PARIS, content="Plan: look.\n"),
    ),
    (
        "marked",
        (
            "<|START_THINKING|>I look.<|END_THINKING|><|START_ACTION|>[\n"
            '    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}},\n'
            '    {"tool_call_id": "1", "tool_name": "get", "parameters": {"key": "k"}}\n]<|END_ACTION|>'
        ),
        calls(PARIS, ToolCall("get", {"key": "k"}), thinking="I look."),
    ),
    ("a response", "<|START_RESPONSE|>Hello.<|END_RESPONSE|>", content("Hello.")),
    ("thinking that does not end", "<|START_THINKING|>Action: none", content("", "Action: none")),
    ("an action that is talked of", "Action: run. ```json\n[1]\n```", content("Action: run. ```json\n[1]\n```")),
    (
        "no tool",
        'Action: ```json\n[{"tool_name": "directly_answer", "parameters": {}}]\n```',
        content('Action: ```json\n[{"tool_name": "directly_answer", "parameters": {}}]\n```'),
    ),
]

FUNCTIONARY = [
    ("a tag", '<function=get_weather>{"city": "Paris"}</function>', calls(PARIS)),
    (
        "two tags",
        'So: <function=get_weather>{"city": "Paris"}</function>\n<function=get>{"key": "k"}</function>',
        calls(PARIS, ToolCall("get", {"key": "k"}), content="So: "),
    ),
    ("a recipient", '>>>get_weather\n{"city": "Paris"}', calls(PARIS)),
    ("content and a recipient", '>>>all\nI look.>>>get_weather\n{"city": "Paris"}', calls(PARIS, content="I look.")),
    ("a name", 'get_weather{"city": "Paris"}', calls(PARIS)),
    ("two names", 'get_weather{"city": "Paris"}get\n{"key": "k"}', calls(PARIS, ToolCall("get", {"key": "k"}))),
    ("a name in a text", 'use get_weather{"city": "Paris"}', content('use get_weather{"city": "Paris"}')),
    ("a name that goes on", "get_weather_x{}", content("get_weather_x{}")),
    ("an unknown name", "<function=nope>{}</function>>>>nope\n{}", content("<function=nope>{}</function>>>>nope\n{}")),
    ("a prompt of Python", ">>> all\n>>>1 + 1", content(">>> all\n>>>1 + 1")),
    ("content that begins with all", "all\nof it", content("all\nof it")),
]

CODER = [
    ("a call", coder("get_weather", city="Paris"), calls(PARIS)),
    ("a number", coder("get_weather", city="Oslo", days=2), calls(OSLO)),
    ("no block around", coder("get_weather", city="Paris").removeprefix("<tool_call>\n"), calls(PARIS)),
    (
        "content and two",
        "So.\n" + coder("get_weather", city="Paris") + "\n" + coder("get", key="k"),
        calls(PARIS, ToolCall("get", {"key": "k"}), content="So.\n"),
    ),
    ("no parameters", coder("get"), calls(ToolCall("get", {}))),
    ("no function's end", coder("get", key="k").replace("</function>\n", ""), calls(ToolCall("get", {"key": "k"}))),
    ("text of several lines", coder("get", key="\n a\n<b>\n"), calls(ToolCall("get", {"key": "\n a\n<b>\n"}))),
    ("text that looks like a number", coder("get", key="5"), calls(ToolCall("get", {"key": "5"}))),
    ("a parameter the tool has not", coder("get", other="5"), calls(ToolCall("get", {"other": "5"}))),
    ("JSON in a block", f"<tool_call>\n{PARIS_JSON}\n</tool_call>", calls(PARIS)),
    ("an unknown name", coder("nope", key="k"), content(coder("nope", key="k"))),
    ("a parameter that is not closed", "<function=get><parameter=key>\nk", content("<function=get><parameter=key>\nk")),
    ("text between the parameters", "<function=get>key</function>", content("<function=get>key</function>")),
]

FORMATS = {
    "llama3": (Llama3Format(), LLAMA),
    "hermes": (HermesFormat(), HERMES),
    "granite": (GraniteFormat(), GRANITE),
    "mistral": (MistralFormat(), MISTRAL),
    "deepseek": (DeepSeekFormat(), DEEPSEEK),
    "harmony": (HarmonyFormat(), HARMONY),
    "command-r": (CommandRFormat(), COMMAND_R),
    "functionary": (FunctionaryFormat(), FUNCTIONARY),
    "qwen3-coder": (Qwen3CoderFormat(), CODER),
}

CASES = [
    pytest.param(fmt, text, expected, id=f"{name}: {what}")
    for name, (fmt, cases) in FORMATS.items()
    for what, text, expected in cases
]


@pytest.mark.parametrize("size", [None, 1, 3], ids=["at once", "by character", "by three"])
@pytest.mark.parametrize(("fmt", "text", "expected"), CASES)
def test_what_a_model_writes_is_told_apart(fmt, text, expected, size):
    assert parse(fmt, text, size=size) == expected


def test_a_tool_whose_name_begins_another_is_told_from_it():
    assert parse(HermesFormat(), f"<tool_call>{GET_JSON}{PARIS_JSON}</tool_call>") == calls(GET, PARIS)
    assert parse(FunctionaryFormat(), 'get{"key": "k"}get_weather{"city": "Paris"}', size=1) == calls(
        ToolCall("get", {"key": "k"}), PARIS
    )


@pytest.mark.parametrize("fmt", [fmt for fmt, _ in FORMATS.values()], ids=FORMATS)
def test_without_tools_everything_is_content(fmt):
    assert parse(fmt, f"So: {PARIS_JSON}", tools=[]) == content(f"So: {PARIS_JSON}")


def test_content_comes_out_as_soon_as_it_can_be_no_tag():
    parser = HermesFormat().parser(TOOLS)
    assert parser.feed("Hello <to") == content("Hello ")
    assert parser.feed("ast>") == content("<toast>")


def test_a_call_comes_out_with_the_last_brace_of_its_object():
    parser = HermesFormat().parser(TOOLS)
    assert parser.feed(f"Yes. <tool_call>{PARIS_JSON[:-1]}") == content("Yes. ")
    assert parser.feed("}") == calls(PARIS)


def test_content_and_calls_of_one_piece_come_out_together():
    parser = HermesFormat().parser(TOOLS)
    assert parser.feed(f"Yes. <tool_call>{PARIS_JSON}</tool_call>No.") == calls(PARIS, content="Yes. No.")


def test_a_prompt_that_ends_in_a_recipient_mark_is_continued():
    begun = FunctionaryFormat(speaks_in_channels=True, is_begun=True)
    assert parse(begun, "all\nof it") == content("of it")
    assert parse(begun, 'get_weather\n{"city": "Paris"}', size=1) == calls(PARIS)
    assert begun.opening() == ""


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("a", "5", 5),
        ("a", "5.5", 5.5),
        ("a", "five", "five"),
        ("a", "true", "true"),
        ("b", "null", None),
        ("b", "None", None),
        ("b", "2", 2),
        ("exact", "True", True),
        ("exact", "false", False),
        ("exact", "maybe", "maybe"),
        ("notes", '["x", "y"]', ["x", "y"]),
        ("notes", "x, y", "x, y"),
        ("how", "5", 5),
        ("how", "quickly", "quickly"),
        ("unit", "km", "km"),
        ("where", '{"lat": 1}', {"lat": 1}),
        ("where", "5", "5"),
    ],
)
def test_the_schema_tells_what_a_value_in_a_tag_is(name, text, value):
    (call,) = parse(Qwen3CoderFormat(), coder("add", **{name: text})).calls
    assert call.arguments == {name: value}
    assert type(call.arguments[name]) is type(value)


def test_a_whole_number_written_as_a_fraction_is_one():
    (call,) = parse(Qwen3CoderFormat(), coder("get_weather", days="2.0")).calls
    assert repr(call.arguments["days"]) == "2"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": 5}, "5"),
        ({"enum": 5}, "5"),
        ({"anyOf": 5}, "5"),
        ({"const": 5}, 5),
        ({"$ref": "#/$defs/Count"}, 5),
        ({"allOf": [{"$ref": "#/$defs/Count"}]}, 5),
        ({"$ref": "#/$defs/Circle"}, "5"),
        ({"$ref": "#/$defs/Nowhere"}, "5"),
        (None, "5"),
        (True, "5"),
    ],
)
def test_a_schema_that_says_little_does_no_harm(schema, value):
    counter = tool("count", to=schema)
    circle = {"anyOf": [{"$ref": "#/$defs/Circle"}, {"$ref": "#/$defs/Circle"}]}
    counter["function"]["parameters"]["$defs"] = {"Count": {"type": "integer"}, "Circle": circle}
    (call,) = parse(Qwen3CoderFormat(), coder("count", to=5), tools=[counter]).calls
    assert call.arguments == {"to": value}


@pytest.mark.parametrize("parameters", [None, 5, {"properties": None}, {"properties": [1]}])
def test_a_tool_without_a_schema_can_be_called(parameters):
    bare = {"type": "function", "function": {"name": "bare", "parameters": parameters}}
    (call,) = parse(Qwen3CoderFormat(), coder("bare", to=5), tools=[bare]).calls
    assert call.arguments == {"to": "5"}


@pytest.mark.parametrize(
    ("written", "read"),
    [("12", 12), ("1.5", 1.5), ("1e3", 1000.0), ("18446744073709551616", 18446744073709551616.0)],
)
def test_numbers_are_those_that_json_can_carry(written, read):
    (call,) = parse(
        HermesFormat(), f'<tool_call>{{"name": "get", "arguments": {{"key": {written}}}}}</tool_call>'
    ).calls
    assert call.arguments == {"key": read}


@pytest.mark.parametrize("written", ["1e400", "NaN", "Infinity", "9" * 5000])
def test_numbers_that_json_cannot_carry_are_no_call(written):
    text = f'<tool_call>{{"name": "get", "arguments": {{"key": {written}}}}}</tool_call>'
    assert parse(HermesFormat(), text) == content(text)
