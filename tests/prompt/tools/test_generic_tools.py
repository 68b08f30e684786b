from __future__ import annotations

import json

import llguidance
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_nb.prompt.thinking import ThinkingParser
from ollama_nb.prompt.tools.call import Delta, ToolCall
from ollama_nb.prompt.tools.generic import GenericFormat, GenericParser


def tool(name, required=(), **properties):
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


CITY = {"type": "string"}
TOOLS = [
    tool("get", ["what"], what=CITY),
    tool("get_weather", ["city"], city=CITY),
    tool("get_weather_of", ["city"], city=CITY),
    tool("now", zone=CITY),
    {"type": "function", "function": {"name": "bare"}},
    {"type": "function"},
]

PARIS = ToolCall("get_weather", {"city": "Paris"})
OSLO = ToolCall("get_weather", {"city": "Oslo"})
NOW = ToolCall("now", {})
P = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
O = '{"name": "get_weather", "parameters": {"city": "Oslo"}}'  # noqa: E741
N = '{"name": "now", "arguments": {}}'


def read(tag, pieces, tools=TOOLS) -> Delta:
    parser = GenericParser(tag, tools)
    return sum((parser.feed(piece) for piece in pieces), Delta()) + parser.close()


TAGGED = [
    (f"<tool_call>\n{P}\n</tool_call>", "", [PARIS]),
    (f"Wait. <tool_call>{P}</tool_call>\n<tool_call>{O}</tool_call>", "Wait. ", [PARIS, OSLO]),
    (f"<tool_call>[{P}, {O}]</tool_call>", "", [PARIS, OSLO]),
    (f"<tool_call>{P}\n{O}", "", [PARIS, OSLO]),
    ("no calls, a < b and <tool_cal", "no calls, a < b and <tool_cal", []),
    # names that begin other names, and names of no tool
    ('<tool_call>{"name": "get", "arguments": {"what": "x"}}', "", [ToolCall("get", {"what": "x"})]),
    ('<tool_call>{"name": "get_weather_of", "arguments": {}}', "", [ToolCall("get_weather_of", {})]),
    ('<tool_call>get{"what": 1}', "", [ToolCall("get", {"what": 1})]),
    ('<tool_call>get_weather_of{"city": 1}', "", [ToolCall("get_weather_of", {"city": 1})]),
    ('<tool_call>get_weather_off{"city": 1}', '<tool_call>get_weather_off{"city": 1}', []),
    ('<tool_call>{"name": "wrong", "arguments": {}} x', '<tool_call>{"name": "wrong", "arguments": {}} x', []),
    ('<tool_call>now: {"name": "wrong", "arguments": {}}', '<tool_call>now: {"name": "wrong", "arguments": {}}', []),
    (
        '<tool_call>{"name": "wrong", "arguments": {"name": "now", "arguments": {}}}',
        '<tool_call>{"name": "wrong", "arguments": {"name": "now", "arguments": {}}}',
        [],
    ),
    # where a call may stand
    ('<tool_call>now {"zone": "UTC"}', "", [ToolCall("now", {"zone": "UTC"})]),
    ('<tool_call>now\n```json\n{"name": "x"}\n```', "", [ToolCall("now", {"name": "x"})]),
    ('<tool_call>{"get_weather": {"city": "Paris"}}', "", [PARIS]),
    ('<tool_call>{"get_weather": {"city": "Paris"}, "now": {}}', "", [PARIS, NOW]),
    ('<tool_call>{"get_weather": "Paris"}', '<tool_call>{"get_weather": "Paris"}', []),
    (f'<tool_call>{{"tool_calls": [{P}, {{"function": {O}}}]}}', "", [PARIS, OSLO]),
    ('<tool_call>{"type": "function", "function": ' + P + "}", "", [PARIS]),
    ('<tool_call>{"function": "now", "arguments": {}}', "", [NOW]),
    ("<tool_call>{" + P + "}</tool_call>", "", [PARIS]),
    # arguments
    (
        '<tool_call>{"arguments": "{\\"city\\": \\"Paris\\"}", "name": "get_weather"}',
        "",
        [PARIS],
    ),
    ('<tool_call>{"name": "now"}', "", [NOW]),
    ('<tool_call>{"name": "now", "arguments": null}', "", [NOW]),
    ('<tool_call>{"type": "function", "function": {"name": "bare"}}', "", [ToolCall("bare", {})]),
    ('<tool_call>{"name": "now", "arguments": [1]}', '<tool_call>{"name": "now", "arguments": [1]}', []),
    ('<tool_call>{"name": "get_weather"}', '<tool_call>{"name": "get_weather"}', []),
    ('<tool_call>{"name": "now", "zone": 1}', '<tool_call>{"name": "now", "zone": 1}', []),
    (
        '<tool_call>{"name": "get", "arguments": {"what": "}{ \\" } \\\\"}}',
        "",
        [ToolCall("get", {"what": '}{ " } \\'})],
    ),
    ('<tool_call>{"name": "now", "arguments": {"b": 1, "a": 2}}', "", [ToolCall("now", {"b": 1, "a": 2})]),
    ('<tool_call>{"name": "now", "arguments": {"a": NaN}}', '<tool_call>{"name": "now", "arguments": {"a": NaN}}', []),
    ("<tool_call>now{'a': 1}", "<tool_call>now{'a': 1}", []),
    ('<tool_call>{"name": "now", "arguments": {', '<tool_call>{"name": "now", "arguments": {', []),
    # content around calls
    (f"<tool_call>{P}</tool_call>\nNow the time: <tool_call>{N}</tool_call>", "Now the time:", [PARIS, NOW]),
    (f"<tool_call>{P}</tool_call>\n\nThat is all.\n", "That is all.", [PARIS]),
    (f"<tool_call>{P}</tool_call>, ok", "ok", [PARIS]),
    (f"<tool_call>{P}\n```\n</tool_c", "", [PARIS]),
    (f'<tool_call>{P}</tool_call>See {{"a": 1}}', 'See {"a": 1}', [PARIS]),
    (f'<tool_call>{P}</tool_call><tool_call>{{"name": "n', '{"name": "n', [PARIS]),
    (f"<tool_call>{P}<|im_end|>", "", [PARIS]),
    ('<tool_call>I shall call now {"zone": 1}', "I shall call", [ToolCall("now", {"zone": 1})]),
    ("<tool_call>", "<tool_call>", []),
    ("", "", []),
]


@pytest.mark.parametrize(("text", "content", "calls"), TAGGED)
def test_calls_behind_a_tag(text, content, calls):
    expected = Delta(content=content, calls=tuple(calls))
    assert read("<tool_call>", [text]) == expected
    assert read("<tool_call>", text) == expected


DEEPSEEK = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"  # noqa: RUF001
    '{"city": "Paris"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n'  # noqa: RUF001
    "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"  # noqa: RUF001
)


@pytest.mark.parametrize(
    ("tag", "text", "calls"),
    [
        ("[TOOL_CALLS]", f"[TOOL_CALLS] [{P}, {O}]", [PARIS, OSLO]),
        ("[TOOL_CALLS] [", f"[TOOL_CALLS] [{P}, {O}]", [PARIS, OSLO]),
        ("[TOOL_CALLS] [", f"[TOOL_CALLS][{P}]", [PARIS]),
        ("[TOOL_CALLS]", f"[TOOL_CALLS]{P}[/TOOL_CALLS]", [PARIS]),
        ("[TOOL_CALLS]", '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]now[ARGS]{}', [PARIS, NOW]),
        ("<|python_tag|>", f"<|python_tag|>{P}; {O}", [PARIS, OSLO]),
        ("Action:\n```json", f"Action:\n```json\n[{P}]\n```", [PARIS]),
        ("<｜tool▁calls▁begin｜>", DEEPSEEK, [PARIS, NOW]),  # noqa: RUF001
    ],
)
def test_calls_in_the_dress_of_other_families(tag, text, calls):
    expected = Delta(calls=tuple(calls))
    assert read(tag, [text]) == expected
    assert read(tag, text) == expected


BARE = [
    (P, "", [PARIS]),
    (f" \n{P}\n", "", [PARIS]),
    (f"{P}{O}", "", [PARIS, OSLO]),
    (f"{P}; {O}", "", [PARIS, OSLO]),
    (f"[{P}, {O}]", "", [PARIS, OSLO]),
    (f"{P}\nThat is it.", "That is it.", [PARIS]),
    (f'{P}, {{"a": 1}} {O}', f'{{"a": 1}} {O}', [PARIS]),
    ('{"name": "now"}', "", [NOW]),
    (f"Sure: {P}", f"Sure: {P}", []),
    (f"now {P}", f"now {P}", []),
    ('now{"zone": 1}', 'now{"zone": 1}', []),
    ('{"answer": 42}\n', '{"answer": 42}\n', []),
    (f'{{"answer": 42}} {P}', f'{{"answer": 42}} {P}', []),
    ("[1, 2, 3]", "[1, 2, 3]", []),
    ('  [{"a": 1}, {"b": 2}]', '  [{"a": 1}, {"b": 2}]', []),
    ('{"name": "wrong", "arguments": {}}', '{"name": "wrong", "arguments": {}}', []),
    ('{"people": [{"name": "now"}]}', '{"people": [{"name": "now"}]}', []),
    ('{"half', '{"half', []),
    ("{}", "{}", []),
    ("\n", "\n", []),
]


@pytest.mark.parametrize("tag", ["{", "["])
@pytest.mark.parametrize(("text", "content", "calls"), BARE)
def test_calls_without_a_tag_come_first_or_not_at_all(tag, text, content, calls):
    expected = Delta(content=content, calls=tuple(calls))
    assert read(tag, [text]) == expected
    assert read(tag, text) == expected


def test_content_before_the_tag_streams_and_a_call_comes_with_its_last_brace():
    parser = GenericParser("<tool_call>", TOOLS)
    assert parser.feed("Well, <to") == Delta(content="Well, ")
    assert parser.feed("day> <tool_call") == Delta(content="<today> ")
    assert not parser.feed(">" + P[:-1])
    assert parser.feed(P[-1] + "</tool_") == Delta(calls=(PARIS,))
    assert not parser.close()


def test_content_and_calls_of_one_piece_come_together():
    parser = GenericParser("<tool_call>", TOOLS)
    assert parser.feed(f"Both. <tool_call>{P}{O}") == Delta(content="Both. ", calls=(PARIS, OSLO))


@pytest.mark.parametrize("first", ["Hello", " {} ", '[{"a": 1}] '])
def test_what_begins_with_no_call_streams_without_a_tag(first):
    parser = GenericParser("{", TOOLS)
    assert parser.feed(first) == Delta(content=first)
    assert parser.feed(f" {P[:9]}") == Delta(content=f" {P[:9]}")


@pytest.mark.parametrize("tag", ["{", "<tool_call>"])
def test_without_tools_everything_is_content(tag):
    parser = GenericParser(tag, [])
    assert parser.feed(f"<tool_call>{P}") == Delta(content=f"<tool_call>{P}")


def test_closing_twice_brings_nothing_more():
    parser = GenericParser("<tool_call>", TOOLS)
    parser.feed("<tool_call>{")
    assert parser.close() == Delta(content="<tool_call>{")
    assert not parser.close()


def test_surrogates_that_stand_alone_become_replacement_characters():
    (call,) = read("{", [r'{"name": "now", "arguments": {"a": "\ud800", "b": "\ud83d\ude00"}}']).calls
    assert call.arguments == {"a": "\ufffd", "b": "😀"}


@pytest.mark.parametrize("tag", ["{", "<tool_call>"])
@pytest.mark.parametrize("filling", ["a", "{", "\\\\", " ", '", "b": "', "<tool_call>"])
def test_long_arguments_cost_in_proportion_to_their_length(tag, filling):
    value = filling * (300_000 // len(filling))
    text = f'{tag.strip("{")}{{"name": "now", "arguments": {{"a": "{value}"}}}}'
    (call,) = read(tag, [text[start : start + 4] for start in range(0, len(text), 4)]).calls
    assert sum(len(key) + len(item) for key, item in call.arguments.items()) < len(text)


@pytest.mark.parametrize("filling", ["{}", "{", "}", "now ", "now{]}", "< ", "[", "w. ", "<|", '{"a": 1} no'])
@pytest.mark.parametrize("tag", ["{", "<tool_call>"])
def test_long_texts_that_are_no_calls_cost_in_proportion_to_their_length(tag, filling):
    text = "<tool_call>" * (tag != "{") + filling * (100_000 // len(filling))
    assert read(tag, [text[start : start + 4] for start in range(0, len(text), 4)]).content == text


def test_deep_nesting_is_no_call_and_no_error():
    text = '{"name": "now", "arguments": ' + '{"a": ' * 30_000 + "1" + "}" * 30_001
    assert read("{", [text]) == Delta(content=text)


PARTS = [
    *("<tool_call>", "</tool_call>", "<tool", "_call>", "[", "]", "{", "}", '"', "\\", ":", ",", " ", "\n", "a b", "é"),
    *(
        "get",
        "get_weather",
        "_of",
        "now",
        '"name": ',
        '"arguments": ',
        '{"city": "Oslo"}',
        "{}",
        P,
        O,
        N,
        '{"now": {}}',
    ),
    *("<think>", "</think>", "<|end|>", "```", "word", '{"name": "wrong", "arguments": {}}'),
]
PIECES = st.lists(st.sampled_from(PARTS), max_size=14)
TAGS = st.sampled_from(["<tool_call>", "{", "[", "[TOOL_CALLS] [", "now"])


@given(PIECES, TAGS)
@example(['{"a": "\\', '"}', "x"], "{")
def test_the_pieces_do_not_matter(pieces, tag):
    text = "".join(pieces)
    assert read(tag, pieces) == read(tag, [text]) == read(tag, text)


@given(PIECES.map("".join), TAGS)
def test_content_is_the_text_where_there_are_no_calls(text, tag):
    found = read(tag, [text])
    assert found.calls or found.content == text


@given(PIECES.map("".join), TAGS)
def test_only_tools_that_were_offered_are_called(text, tag):
    assert {call.name for call in read(tag, [text], TOOLS[3:4]).calls} <= {"now"}


@given(st.text(), st.text(alphabet='{}[]"\\<>n: '), TAGS)
def test_content_before_a_call_is_kept_to_the_letter(before, value, tag):
    call = json.dumps({"name": "now", "arguments": {"a": value}}, ensure_ascii=False)
    found = read("<tool_call>", [before, "<tool_call>", call, "</tool_call>"])
    if "<tool_call>" not in before:
        assert found == Delta(content=before, calls=(ToolCall("now", {"a": value}),))


def read_both(pieces) -> Delta:
    thinking, tools = ThinkingParser("<think>", "</think>"), GenericParser("<tool_call>", TOOLS)
    found = Delta()
    for step in (*(thinking.feed(piece) for piece in pieces), thinking.close()):
        found += Delta(thinking=step.thinking) + tools.feed(step.content)
    return found + tools.close()


@given(PIECES)
def test_the_pieces_do_not_matter_for_thinking_and_tools_in_a_row(pieces):
    text = "<think>" + "".join(pieces)
    assert read_both(["<think>", *pieces]) == read_both([text]) == read_both(text)


@given(PIECES.map("".join))
def test_calls_in_the_thinking_are_thoughts(text):
    thought = text.replace("</think>", "").lstrip()
    assert read_both([f"<think>{thought}</think>\n\nSo: <tool_call>{P}"]) == Delta("So: ", thought, (PARIS,))


# -- the grammar -------------------------------------------------------------------------------------------------------


class Bytes:
    """A tokenizer of 256 bytes and an end."""

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([value]) for value in range(256)), b"<end>")
    special_token_ids = (256,)

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


TOKENIZER = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()), n_vocab=257)


def accepts(grammar, text) -> bool:
    matcher = llguidance.LLMatcher(TOKENIZER, llguidance.LLMatcher.grammar_from_lark(grammar), log_level=0)
    data = text.encode()
    return (
        matcher.validate_tokens(list(data)) == len(data)
        and matcher.consume_tokens(list(data))
        and matcher.is_accepting()
    )


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (P, True),
        (P.replace(": ", ":"), True),
        (N, True),
        ('{"name": "now", "arguments": {"zone": "UTC"}}', True),
        ('{"name": "get_weather", "arguments": {}}', False),
        ('{"name": "now", "arguments": {"city": "UTC"}}', False),
        ('{"name": "wrong", "arguments": {}}', False),
        (P.replace(" ", "  "), False),
        (f"{P} ", False),
        (P[:-1], False),
        (f"{P}{P}", False),
    ],
)
def test_the_grammar_is_one_call_of_one_tool(text, fits):
    assert accepts(GenericFormat("<tool_call>").grammar(TOOLS[:5]), text) is fits


def test_the_grammar_has_the_key_that_the_template_has():
    grammar = GenericFormat("{", arguments_key="parameters").grammar(TOOLS[:5])
    assert accepts(grammar, O)
    assert not accepts(grammar, P)


@pytest.mark.parametrize("tag", ["{", "[", "<tool_call>", "[TOOL_CALLS] [", "[TOOL_CALLS]"])
def test_opening_and_grammar_make_what_the_parser_reads(tag):
    form = GenericFormat(tag)
    parser = form.parser(TOOLS)
    assert parser.feed(form.opening()) + parser.feed(P) + parser.close() == Delta(calls=(PARIS,))
