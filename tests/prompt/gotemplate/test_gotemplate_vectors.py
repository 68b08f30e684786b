"""Every template of ``tests/prompt/vectors/gotemplate.json`` gives what Go's own text/template gave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_nb.prompt.gotemplate import Template, TemplateRunError, TemplateSyntaxError, template_data
from ollama_nb.prompt.gotemplate.format import show

VECTORS = Path(__file__).parents[1] / "vectors" / "gotemplate.json"
CASES = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]


def upper(text: str) -> str:
    return text.upper()


def add(*numbers: int) -> int:
    return sum(numbers)


def join(items: list, separator: str) -> str:
    return separator.join(map(show, items))


def fail() -> str:
    raise ValueError("fail was called")


def current_date(*_: str) -> str:
    return "2025-07-29"


FUNCTIONS = {"upper": upper, "add": add, "join": join, "fail": fail, "currentDate": current_date}


def read(case: dict) -> tuple[Template, dict]:
    names = ["json", *case.get("funcs", ())]
    return Template(case["template"], names), {name: FUNCTIONS[name] for name in names if name in FUNCTIONS}


def select(stage: str | None) -> list:
    return [pytest.param(case, id=case["name"]) for case in CASES if case.get("stage") == stage]


@pytest.mark.parametrize("case", select(None))
def test_prints_what_go_prints(case: dict) -> None:
    template, functions = read(case)
    assert template.render(template_data(case.get("data", {})), functions) == case["output"]


@pytest.mark.parametrize("case", select("parse"))
def test_is_refused_before_it_runs(case: dict) -> None:
    with pytest.raises(TemplateSyntaxError, match=r"^template: line \d+, column \d+: "):
        read(case)


@pytest.mark.parametrize("case", select("exec"))
def test_fails_while_it_runs(case: dict) -> None:
    template, functions = read(case)
    with pytest.raises(TemplateRunError):
        template.render(template_data(case.get("data", {})), functions)


@pytest.mark.parametrize("case", [*select(None), *select("exec")])
def test_printed_source_parses_to_the_same_tree(case: dict) -> None:
    template, _ = read(case)
    again = Template(str(template), ["json", *case.get("funcs", ())])
    assert (again.root, again.definitions) == (template.root, template.definitions)
