from __future__ import annotations

import pytest

from ollama_nb.prompt.gotemplate import Template
from ollama_nb.prompt.tools.infer import call_arguments_key, tool_call_tag

CALLS = '{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}{{ end }}'


@pytest.mark.parametrize(
    ("source", "tag"),
    [
        ("", "{"),
        ("{{ .Prompt }}", "{"),
        ("{{ .ToolCalls }}", "{"),
        ("{{ if .ToolCalls }}{{ end }}", "{"),
        ("{{ if .ToolCalls }}" + CALLS + "{{ end }}", "{"),
        ("{{ if .ToolCalls }}<tool_call>" + CALLS + "</tool_call>{{ end }}", "<tool_call>"),
        ("{{ if .ToolCalls }}\n\n<tool_call>\n" + CALLS + "{{ end }}", "<tool_call>"),
        ('{{ if .ToolCalls }}{{ range .ToolCalls }}<tool_call>\n{"name": {{ .Function.Name }}{{ end }}{{ end }}',
         "<tool_call>"),
        ("{{ if .ToolCalls }}[TOOL_CALLS] [" + CALLS + "]{{ end }}", "[TOOL_CALLS] ["),
        ("{{ if .ToolCalls }}[" + CALLS + "]{{ end }}", "["),
        ("{{ if .ToolCalls }}<|python_tag|>" + CALLS + "{{ end }}", "<|python_tag|>"),
        ("{{ if .ToolCalls }}Action:\r\n```json\r\n" + CALLS + "{{ end }}", "Action:\n```json"),
        ("{{ if .ToolCalls }}{{ if .Content }}say: {{ .Content }}{{ end }}<tool_call>{{ end }}", "say:"),
        ("{{ if .ToolCalls }}{{ .Content }}<tool_call>{{ end }}", "{"),
        ("{{ if .ToolCalls }}{{ range .ToolCalls }}{{ .Function.Name }}{{ end }}<|eot|>{{ end }}", "{"),
        ("{{ if .Tools }}no{{ end }}{{ if .ToolCalls }}<t>{{ end }}{{ if .ToolCalls }}<later>{{ end }}", "<t>"),
        ("{{ range .Messages }}{{ if .Content }}x{{ else if .ToolCalls }}<t>{{ end }}{{ end }}", "<t>"),
        ("{{ with .Messages }}{{ range . }}{{ else }}{{ if .ToolCalls }}<t>{{ end }}{{ end }}{{ end }}", "<t>"),
        ('{{ if and (eq .Role "assistant") .ToolCalls }}<t>{{ end }}', "<t>"),
        ("{{ range $i, $m := .Messages }}{{ if and .Last (gt (len $m.ToolCalls) 0) }}<t>{{ end }}{{ end }}", "<t>"),
    ],
)  # fmt: skip
def test_the_tag_is_what_a_template_prints_in_front_of_calls(source, tag):
    assert tool_call_tag(Template(source).root) == tag


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("{{ if .ToolCalls }}" + CALLS + "{{ end }}", "arguments"),
        ("{{ if .ToolCalls }}" + CALLS.replace("arguments", "parameters") + "{{ end }}", "parameters"),
        ('Write {"name": x, "parameters": y}. {{ if .ToolCalls }}' + CALLS + "{{ end }}", "arguments"),
        ("", "arguments"),
    ],
)
def test_the_key_of_the_arguments_is_the_one_in_the_calls_of_the_template(source, key):
    assert call_arguments_key(Template(source).root) == key
