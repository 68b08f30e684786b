"""Prompts of Go templates: every vector of Ollama's layer above the language, and what the vectors leave open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_nb.prompt.gotemplate import TemplateError
from ollama_nb.prompt.render import collate, prompt_template, render_prompt

VECTORS = json.loads((Path(__file__).parent / "vectors" / "render.json").read_text())["cases"]
FIELDS = ("template", "messages", "tools", "system", "prompt", "suffix", "think")


@pytest.mark.parametrize("case", VECTORS, ids=[case["name"] for case in VECTORS])
def test_prompts_are_those_of_ollama(case):
    given = {name: case[name] for name in FIELDS if name in case}
    if not case.get("error"):
        assert render_prompt(**given) == case["output"]
    elif case["stage"] == "parse":
        with pytest.raises(TemplateError):
            prompt_template(case["template"])
    else:
        prompt_template(case["template"])
        with pytest.raises(TemplateError):
            render_prompt(**given)


def test_no_vector_is_left_out():
    assert len(VECTORS) == 471
    assert {case["group"] for case in VECTORS} >= {"quirk", "cut", "turns", "upstream", "family"}


def test_an_else_behind_the_response_is_cut_too():
    # Ollama fails on this; cutting it is what it means to do.
    source = "{{ if .Prompt }}{{ .Prompt }}> {{ .Response }}</s>{{ else }}nothing{{ end }} tail"
    assert render_prompt(template=source, prompt="hi") == "hi> "


def test_levels_of_thinking_reach_the_template():
    source = "{{ range .Messages }}{{ end }}{{ .Think }} {{ .ThinkLevel }} {{ .IsThinkSet }}"
    assert render_prompt(template=source, messages=[], think="high") == "true high true"
    assert render_prompt(template=source, messages=[], think=True) == "true  true"
    assert render_prompt(template=source, messages=[]) == "false  false"


def test_suffix_without_prompt_is_a_conversation():
    source = "{{ if .Suffix }}fim{{ else }}{{ .Prompt }}: {{ .Response }}{{ end }}"
    assert render_prompt(template=source, prompt="", suffix="x") == ": "


def test_variables_are_the_names_that_a_template_uses():
    source = (
        '{{ define "t" }}{{ .Tools }}{{ end }}{{ $.Suffix }}{{ with $m := .Messages }}{{ end }}{{ template "t" . }}'
    )
    assert prompt_template(source).variables >= {"tools", "suffix", "messages"}
    assert "content" not in prompt_template("{{ (index .Messages 0).Content }}").variables


def test_neighbours_of_one_role_become_one_message():
    messages = [
        {"role": "SYSTEM", "content": "a"},
        {"role": "system", "content": "b"},
        {"role": "user", "content": "c", "images": ["aQ=="]},
        {"role": "user", "content": "d"},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "system", "content": "e"},
    ]
    system, collated = collate(messages)
    assert system == "a\n\nb\n\ne"
    assert [(message["role"], message["content"]) for message in collated] == [
        ("system", "a\n\nb"),
        ("user", "c\n\nd"),
        ("tool", "1"),
        ("tool", "2"),
        ("system", "e"),
    ]
    assert collated[1]["images"] == ["aQ=="]
    assert messages[0]["content"] == "a", "what came in stays as it was"


def test_a_template_is_parsed_once():
    source = "{{ .Prompt }} once"
    assert prompt_template(source) is prompt_template(source)
