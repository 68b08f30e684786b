"""Reading templates: where an error is, what newer versions of Go read too, and the tree that comes out."""

from __future__ import annotations

import pytest

from ollama_nb.prompt.gotemplate import Template, TemplateSyntaxError
from ollama_nb.prompt.gotemplate.lexer import Kind, tokens
from ollama_nb.prompt.gotemplate.pipelines import MAX_NESTING
from ollama_nb.prompt.gotemplate.tree import (
    Action,
    Chain,
    Command,
    Field,
    Identifier,
    If,
    NodeList,
    Number,
    Pipe,
    String,
    TemplateCall,
    Text,
    With,
    walk,
)


@pytest.mark.parametrize(
    ("source", "line", "column", "reason"),
    [
        ("{{ nosuch }}", 1, 4, 'function "nosuch" not defined'),
        ("a\nb {{ $x }}", 2, 6, 'undefined variable "$x"'),
        ("{{ .X }}\n\n  {{ if .Y }}", 3, 6, "{{if}} is not closed"),
        ("one\n{{ .X", 2, 1, "unclosed action"),
        ("{{/* never", 1, 3, "unclosed comment"),
        ("{{ (.X }}", 1, 8, "unclosed left paren"),
        ("{{ .X) }}", 1, 6, "unexpected right paren"),
        ("{{ .X | 5 }}", 1, 9, "non executable command in pipeline stage 2"),
        ('{{ "a\nb" }}', 1, 4, "unterminated quoted string"),
        ('{{ "\\z" }}', 1, 4, "invalid syntax in string"),
        ("{{ 99999999999999999999 }}", 1, 4, "integer overflow"),
        ("{{ 1x }}", 1, 4, "bad number syntax"),
        ("{{ .X§ }}", 1, 6, "bad character"),
        ("{{ }}", 1, 4, "missing value for command"),
        ("{{ end }}", 1, 4, "unexpected <end> in input"),
        ("x{{ break }}", 1, 5, "{{break}} outside {{range}}"),
        ("{{ if .X }}{{ else with .Y }}{{ end }}", 1, 20, "unexpected <with> in else"),
        ("{{ with .X }}{{ else if .Y }}{{ end }}", 1, 22, "unexpected <if> in else"),
        ("{{ range $a, $b, $c := .X }}{{ end }}", 1, 14, "too many declarations in range"),
        ('{{ define "a" }}1{{ end }}\n{{ define "a" }}2{{ end }}', 2, 4, 'multiple definition of template "a"'),
    ],
)
def test_an_error_says_where_it_is(source: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(TemplateSyntaxError) as caught:
        Template(source)
    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert reason in error.reason
    assert str(error) == f"template: line {line}, column {column}: {error.reason}"
    assert "\n" not in str(error).replace(source, "")


def test_tokens_keep_their_place() -> None:
    found = [(token.kind, token.text, token.position) for token in tokens("a {{- .X | len }}")]
    assert found == [
        (Kind.TEXT, "a", 0),
        (Kind.OPEN, "{{", 2),
        (Kind.FIELD, ".X", 6),
        (Kind.SPACE, " ", 8),
        (Kind.PIPE, "|", 9),
        (Kind.SPACE, " ", 10),
        (Kind.IDENTIFIER, "len", 11),
        (Kind.SPACE, " ", 14),
        (Kind.CLOSE, "}}", 15),
        (Kind.END, "", 17),
    ]


def test_a_tree_has_the_shape_of_its_source() -> None:
    root = Template('hi {{ if (index .L 0).Name }}{{ "x" }}{{ else }}{{ template "t" 1 }}{{ end }}').root
    called = Command((Identifier("index"), Field(("L",)), Number("0", 0, 0.0)))
    condition = Pipe((Command((Chain(Pipe((called,)), ("Name",)),)),))
    body = NodeList((Action(Pipe((Command((String('"x"', "x"),)),))),))
    one = Pipe((Command((Number("1", 1, 1.0),)),))
    otherwise = NodeList((TemplateCall(String('"t"', "t"), one),))
    assert root == NodeList((Text("hi "), If(condition, body, otherwise)))


def test_texts_around_a_comment_become_one() -> None:
    assert Template("a{{/* c */}}b").root == NodeList((Text("ab"),))


def test_an_else_if_is_an_if_in_the_other_branch() -> None:
    assert Template("{{ if .A }}1{{ else if .B }}2{{ end }}").root == (
        Template("{{ if .A }}1{{ else }}{{ if .B }}2{{ end }}{{ end }}").root
    )


def test_an_else_with_is_a_with_in_the_other_branch() -> None:
    (node,) = Template("{{ with .A }}1{{ else with .B }}2{{ else }}3{{ end }}").root.nodes
    assert isinstance(node, With)
    assert node.otherwise is not None
    (inner,) = node.otherwise.nodes
    assert isinstance(inner, With)
    assert inner.otherwise == NodeList((Text("3"),))


def test_definitions_stand_apart_from_the_root() -> None:
    template = Template('a{{ define "t" }}b{{ end }}c{{ block "u" . }}d{{ end }}')
    assert template.definitions == {"t": NodeList((Text("b"),)), "u": NodeList((Text("d"),))}
    assert template.root.nodes[0] == Text("ac")
    assert isinstance(template.root.nodes[1], TemplateCall)


def test_a_walk_meets_all_nodes_in_source_order() -> None:
    root = Template("{{ if .A }}{{ .B.C | len }}{{ else }}{{ range $.D }}{{ (.E).F }}{{ end }}{{ end }}").root
    names = [".".join(node.names) for node in walk(root) if hasattr(node, "names")]
    assert names == ["A", "B.C", "D", "F", "E"]


@pytest.mark.parametrize("text", ["{", "{ ", "a{", "{{", "{{{ x", "}}", "-}}", "{{/**/}}", " {- "])
def test_braces_in_a_text_survive_printing(text: str) -> None:
    template = Template.from_tree(NodeList((Text(text), Action(Pipe((Command((Field(("X",)),)),))), Text(text))))
    assert Template(str(template)).root == template.root
    assert Template(str(template)).render({"X": 1}) == f"{text}1{text}"


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("{{ if .X }}", "{{ end }}"), ("{{ (", ") }}"), ("{{ if .X }}{{ else if .Y }}", "{{ end }}")],
)
def test_nesting_has_a_limit(opening: str, closing: str) -> None:
    depth = MAX_NESTING + 1
    middle = ".X" if opening == "{{ (" else "x"
    source = opening[:2] + opening[2:] * depth + middle + closing[:1] * depth if middle == ".X" else opening * depth
    with pytest.raises(TemplateSyntaxError, match="nested more than"):
        Template(source)


def test_nesting_up_to_the_limit_is_read_and_run() -> None:
    source = "{{ if .X }}" * MAX_NESTING + "x" + "{{ end }}" * MAX_NESTING
    template = Template(source)
    assert template.render({"X": True}) == "x"
    assert Template(str(template)).root == template.root


def test_a_source_has_a_longest_length() -> None:
    with pytest.raises(TemplateSyntaxError, match="longer than"):
        Template("x" * 2_000_000)


def test_functions_must_be_known_by_name() -> None:
    with pytest.raises(TemplateSyntaxError, match='function "shout" not defined'):
        Template("{{ shout .X }}")
    template = Template("{{ shout .X }}", ["shout"])
    assert template.render({"X": "a"}, {"shout": lambda text: text + "!"}) == "a!"
