"""Laws: printing a tree and parsing it gives the tree, and nothing but the template's own errors comes out."""

from __future__ import annotations

import contextlib
import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ollama_nb.prompt.gotemplate import Template, TemplateError, TemplateRunError
from ollama_nb.prompt.gotemplate.format import sprintf
from ollama_nb.prompt.gotemplate.jsontext import json_text
from ollama_nb.prompt.gotemplate.numbers import parse_number
from ollama_nb.prompt.gotemplate.tree import (
    Action,
    Bool,
    Break,
    Chain,
    Command,
    Continue,
    Dot,
    Field,
    Identifier,
    If,
    Nil,
    NodeList,
    Number,
    Pipe,
    Range,
    String,
    TemplateCall,
    Text,
    Variable,
    With,
)
from ollama_nb.wire.gofloats import format_float
from ollama_nb.wire.gostrings import quote, quote_rune, unquote, unquote_char

WHOLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
BRACES = st.text("{}-/* \na", min_size=1, max_size=8)
NAMES = st.sampled_from(["Messages", "Role", "x_1", "if", "日本", "A"])
FUNCTIONS = st.sampled_from(["print", "len", "index", "and", "or", "eq", "json", "printf", "slice"])
NUMBERS = st.sampled_from(
    ["0", "-1", "1.5", "1e3", "0x1F", "'a'", "'\\n'", "2i", "1_000", "-9223372036854775808", "017"]
)


def number(text: str) -> Number:
    parsed = parse_number(text, 0)
    assert isinstance(parsed, Number)
    return parsed


def several(names: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(names, min_size=1, max_size=2).map(tuple)


STRINGS = WHOLE.map(lambda text: String(quote(text), text)) | st.sampled_from(["a", "{{", "}}"]).map(
    lambda text: String(f"`{text}`", text)
)
CONSTANTS = STRINGS | NUMBERS.map(number) | st.booleans().map(Bool) | st.just(Dot()) | st.just(Nil())
VARIABLES = st.builds(Variable, st.sampled_from(["$", "$x"]), st.just(()) | several(NAMES))
SIMPLE = CONSTANTS | several(NAMES).map(Field) | VARIABLES | FUNCTIONS.map(Identifier)


def pipes(operands: st.SearchStrategy) -> st.SearchStrategy[Pipe]:
    first = st.lists(operands, min_size=1, max_size=3).map(lambda items: Command(tuple(items)))
    later = st.builds(
        lambda name, items: Command((Identifier(name), *items)), FUNCTIONS, st.lists(operands, max_size=2)
    )
    commands = st.builds(lambda head, tail: (head, *tail), first, st.lists(later, max_size=2))
    declared = st.sampled_from([((), False), (("$x",), False), (("$x",), True)])
    return st.builds(lambda body, names: Pipe(body, *names), commands, declared)


OPERANDS = st.recursive(
    SIMPLE,
    lambda inner: pipes(inner) | st.builds(Chain, pipes(inner) | FUNCTIONS.map(Identifier), several(NAMES)),
    max_leaves=4,
)
PIPES = pipes(OPERANDS)
LEAVES = (
    (BRACES | WHOLE.filter(bool)).map(Text) | PIPES.map(Action) | st.builds(TemplateCall, STRINGS, st.none() | PIPES)
)


def merged(nodes: list) -> NodeList:
    """As the parser leaves them: no two texts side by side."""
    kept: list = []
    for node in nodes:
        if not (isinstance(node, Text) and kept and isinstance(kept[-1], Text)):
            kept.append(node)
    return NodeList(tuple(kept))


def blocks(inner: st.SearchStrategy) -> st.SearchStrategy:
    body = st.lists(inner, max_size=3).map(merged)
    leaving = st.lists(inner | st.sampled_from([Break(), Continue()]), max_size=3).map(merged)
    otherwise = st.none() | body
    return (
        st.builds(If, PIPES, body, otherwise)
        | st.builds(With, PIPES, body, otherwise)
        | st.builds(Range, PIPES, leaving, otherwise)
    )


BODIES = st.lists(st.recursive(LEAVES, blocks, max_leaves=4), max_size=3).map(merged)
DECLARATION = Action(Pipe((Command((number("1"),)),), ("$x",)))


def declared(body: NodeList) -> NodeList:
    return NodeList((DECLARATION, *body.nodes))


DATA = {"Messages": [{"Role": "user", "A": None}], "A": {"x_1": [1, 2.5, "é"]}, "Role": "x", "日本": True}


@given(BODIES.map(declared), st.dictionaries(WHOLE.filter(bool), BODIES.map(declared), max_size=1))
@settings(max_examples=60, deadline=None)
def test_a_printed_tree_parses_to_itself_and_runs_alike(root: NodeList, definitions: dict[str, NodeList]) -> None:
    made = Template.from_tree(root, definitions)
    read = Template(str(made))
    assert (read.root, read.definitions) == (root, definitions)
    assert outcome(read) == outcome(made)


def outcome(template: Template) -> str:
    try:
        return template.render(DATA)
    except TemplateRunError as error:
        return str(error)


PIECES = st.sampled_from(
    [
        *("{{", "}}", "{{-", "-}}", " ", "\n", "/*", "*/", "if", "else", "end", "range", "with", "define", "template"),
        *("block", "break", "continue", ".", ".Messages", ".A.x_1", "$", "$x", ":=", "=", ",", "|", "(", ")", '"a"'),
        *("`", '"', "'", "\\", "0", "1", "9999999", "-", "+", "e", "i", "0x", "nil", "true", "printf", "%d", "len"),
        *("index", "slice", "json", "and", "print", "html", "js", "urlquery", "call", "eq", "lt", "é", "\udcff", "\0"),
    ]
)


@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_text_is_read_and_run_or_fails_in_its_own_way(source: str) -> None:
    with contextlib.suppress(TemplateError):
        Template(source).render(DATA)


@given(st.lists(PIECES, max_size=12).map(" ".join))
@settings(max_examples=400, deadline=None)
def test_any_action_is_read_and_run_or_fails_in_its_own_way(inside: str) -> None:
    with contextlib.suppress(TemplateError):
        Template("{{ $x := .A }}{{ range .Messages }}{{ " + inside + " }}{{ end }}").render(DATA)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NESTED = st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner), max_leaves=6)


@given(st.text("%[]*.#+- 0123456789vTdsqxXeEfFgGbcoOptU!é", max_size=20), st.lists(NESTED, max_size=3))
@settings(max_examples=400, deadline=None)
def test_any_format_string_prints_something(template: str, values: list) -> None:
    with contextlib.suppress(TemplateRunError):
        assert isinstance(sprintf(template, *values), str)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | WHOLE,
        lambda inner: st.lists(inner) | st.dictionaries(WHOLE, inner),
        max_leaves=8,
    )
)
def test_json_says_what_the_value_is(value: object) -> None:
    assert json.loads(json_text(value), parse_int=float) == value


@given(WHOLE)
def test_a_quoted_string_reads_back(text: str) -> None:
    assert unquote(quote(text)) == text
    assert unquote(quote(text, ascii_only=True)) == text
    assert all(unquote_char(quote_rune(ord(char))) == ord(char) for char in text)


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from("gGeEf"))
@example(2.0**-24, "g")
def test_a_shortest_float_reads_back(value: float, letter: str) -> None:
    assert float(format_float(value, letter)) == value
    assert float.fromhex(format_float(value, "x")) == value
