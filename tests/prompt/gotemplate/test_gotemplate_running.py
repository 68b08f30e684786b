"""Running templates: what newer versions of Go run too, options, functions, and limits that hold."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest

from ollama_nb.prompt.gotemplate import Function, Template, TemplateRunError
from ollama_nb.prompt.gotemplate.tree import Action, Command, Identifier, NodeList, Number, Pipe


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        ("{{ range $i := 3 }}{{ $i }}{{ end }}", "012"),
        ("{{ range .N }}x{{ else }}none{{ end }}", "xx"),
        ("{{ range 0 }}x{{ else }}none{{ end }}", "none"),
        ("{{ range -1 }}x{{ else }}none{{ end }}", "none"),
        (
            "{{ range 5 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}",
            "02",
        ),
        ("{{ $x := 0 }}{{ range $x = .L }}{{ end }}{{ $x }}", "b"),
        ("{{ $i := 0 }}{{ $x := 0 }}{{ range $i, $x = .L }}{{ $y := 1 }}{{ end }}{{ $i }}{{ $x }}", "1b"),
        ("{{ with .Nothing }}1{{ else with .L }}{{ len . }}{{ else }}3{{ end }}", "2"),
        ("{{ with .Nothing }}1{{ else with .Nothing }}2{{ else }}3{{ end }}", "3"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ $x = 4 }}{{ end }}{{ $x }}", "2"),
        ('{{ $x := "out" }}{{ range .L }}{{ $x := . }}{{ $x }}{{ end }}{{ $x }}', "about"),
        (
            '{{ define "t" }}{{ if . }}{{ template "t" slice . 1 }}{{ . }}{{ end }}{{ end }}{{ template "t" "abc" }}',
            "cbcabc",
        ),
    ],
)
def test_prints(source: str, output: str) -> None:
    assert Template(source).render({"N": 2, "L": ["a", "b"]}) == output


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ range $i, $x := 3 }}{{ end }}", "more than one variable"),
        ("{{ $x = 1 }}", "undefined variable: $x"),
        ("{{ range $x = .L }}{{ end }}", "undefined variable: $x"),
        ('{{ template "nope" }}', 'template "nope" not defined'),
        ("{{ index .L 7 }}", "error calling index: index out of range: 7"),
        ("{{ .L.X }}", "can't evaluate field X in type []interface {}"),
        ("{{ len 1 2 }}", "wrong number of args for len: want 1 got 2"),
        ("{{ printf 1 }}", "wrong type for value; expected string; got int"),
        ("{{ 1 | index .L | .N }}", "N is not a method but has arguments"),
    ],
)
def test_fails_with_a_reason(source: str, reason: str) -> None:
    with pytest.raises(TemplateRunError) as caught:
        Template(source).render({"N": 2, "L": ["a", "b"]})
    assert reason in str(caught.value)


# -- the option missingkey ----------------------------------------------------------------------------------------


def test_a_field_of_a_missing_key_is_an_error_only_with_missingkey_zero() -> None:
    source = "[{{ .Missing }}{{ .Missing.X }}]"
    with pytest.raises(TemplateRunError, match="nil pointer evaluating"):
        Template(source).render({})
    assert Template(source, missing_key_zero=False).render({}) == "[<no value><no value>]"


def test_a_key_that_is_nil_is_no_missing_key() -> None:
    with pytest.raises(TemplateRunError, match="nil pointer evaluating"):
        Template("{{ .N.X }}", missing_key_zero=False).render({"N": None})


# -- functions ----------------------------------------------------------------------------------------------------


def test_the_dates_are_those_of_the_day() -> None:
    before = dt.datetime.now().astimezone().date()
    printed = Template('{{ currentDate "2006-01-02" }} {{ yesterdayDate }}').render({})
    after = dt.datetime.now().astimezone().date()
    day = dt.timedelta(days=1)
    assert printed in {f"{today.isoformat()} {(today - day).isoformat()}" for today in (before, after)}


def test_a_function_says_its_types() -> None:
    repeat = Function(lambda text, times: text * times, ("string", "int"))
    template = Template('{{ repeat "ab" 2 }}{{ 3.0 | repeat "c" }}', {"repeat": repeat})
    with pytest.raises(TemplateRunError, match="expected int; got float64"):
        template.render({})
    assert Template('{{ repeat "ab" 2.0 }}', {"repeat": repeat}).render({}) == "abab"


def test_what_a_function_raises_becomes_an_error_of_the_template() -> None:
    def broken() -> str:
        raise KeyError("lost")

    with pytest.raises(TemplateRunError, match="error calling broken: 'lost'"):
        Template("{{ broken }}", {"broken": broken}).render({})


def test_a_tree_runs_with_the_functions_it_is_given() -> None:
    call = Pipe((Command((Identifier("json"), Number("1", 1, 1.0))),))
    tree = NodeList((Action(call),))
    assert Template.from_tree(tree).render({}) == "1"
    with pytest.raises(TemplateRunError, match='"json" is not a defined function'):
        Template.from_tree(tree, functions=()).render({})


# -- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ range 2000000 }}{{ end }}", "steps"),
        ("{{ range 9223372036854775807 }}x{{ end }}", "steps"),
        ("{{ range 2000 }}{{ range 2000 }}{{ if true }}x{{ end }}{{ end }}{{ end }}", "steps"),
        ('{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}', "deep"),
        ('{{ template "" }}', "deep"),
        (
            '{{ define "a" }}{{ if true }}{{ if true }}{{ template "a" }}{{ end }}{{ end }}{{ end }}{{ template "a" }}',
            "deep",
        ),
        ("{{ $x := .Long }}{{ range 40 }}{{ $x = print $x $x }}{{ end }}", "steps"),
        ("{{ range 1000000 }}{{ $.Long }}{{ end }}", "output"),
        ('{{ printf "%200000d" 1 }}', "width"),
        ('{{ printf "%.200000f" 1.0 }}', "width"),
        ('{{ printf "%*d" 200000 1 }}', "width"),
        ('{{ range 900000 }}{{ if eq (printf "%s" $.Long) "x" }}{{ end }}{{ end }}', "steps"),
    ],
)
def test_a_limit_ends_what_would_go_on(source: str, reason: str) -> None:
    with pytest.raises(TemplateRunError, match=reason):
        Template(source).render({"Long": "long" * 1000})


def test_templates_that_call_each_other_twice_end_too() -> None:
    calls = '{{ template "b" }}{{ template "b" }}'
    names = "abcdefghijklmnopqrstuvwxyz"
    chain = "".join(
        f'{{{{ define "{name}" }}}}{calls.replace("b", following)}{{{{ end }}}}'
        for name, following in itertools.pairwise(names)
    )
    with pytest.raises(TemplateRunError, match="steps"):
        Template(chain + '{{ define "z" }}{{ end }}{{ template "a" }}').render({})


def test_data_that_is_nested_without_end_is_an_error() -> None:
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for source in ("{{ . }}", "{{ json . }}", "{{ print . }}"):
        with pytest.raises(TemplateRunError):
            Template(source).render(deep)


def test_a_string_cut_within_a_character_prints_a_replacement() -> None:
    assert Template("{{ slice .S 0 1 }}|{{ slice .S 0 1 }}{{ slice .S 1 2 }}").render({"S": "é"}) == "\ufffd|é"
    assert Template('{{ printf "%q" (slice .S 0 1) }}').render({"S": "é"}) == '"\\xc3"'
    assert Template("{{ json (slice .S 0 1) }}").render({"S": "é"}) == '"\ufffd"'
