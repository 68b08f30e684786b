# ruff: noqa: RUF001 - DeepSeek's markers have full-width bars

from __future__ import annotations

import pytest

from ollama_nb.prompt import tools
from ollama_nb.prompt.gotemplate import tree
from ollama_nb.prompt.tools import tool_format
from ollama_nb.prompt.tools.call import Delta, ToolCall

LLAMA3_HEADERS = "<|start_header_id|>assistant<|end_header_id|>\n\n"

JINJA = [
    ("harmony", "<|start|>assistant<|channel|>analysis<|message|>{{ message.thinking }}<|end|>"),
    ("deepseek", "{{'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>'}}\\n```json"),
    ("deepseek", "{{'<｜tool▁call▁begin｜>'+ tool['function']['name'] + '<｜tool▁sep｜>'}}"),
    ("mistral", "{{ '[TOOL_CALLS] [' }}"),
    ("mistral", "{{ '[TOOL_CALLS]' + tool['function']['name'] + '[ARGS]' + arguments }}"),
    ("command-r", '<|START_ACTION|>[\n{"tool_call_id": "0", "tool_name": "f"}\n]<|END_ACTION|>'),
    ("command-r", "Write 'Action:' followed by a json-formatted list ... \"tool_name\": title of the tool"),
    ("qwen3-coder", "<tool_call>\n<function=example>\n<parameter=p>\nvalue\n</parameter>\n</function>\n</tool_call>"),
    ("functionary", '<function=example_name>{"example_parameter": "value"}</function>'),
    ("functionary", "{{ '>>>all\\n' + message['content'] }}{{ '>>>' + tool.name }}"),
    ("granite", "<|start_of_role|>assistant<|end_of_role|><|tool_call|>[]"),
    ("granite", "<|start_of_role|>assistant<|end_of_role|><tool_call>[]"),
    ("hermes", '<|im_start|>system\n<tool_call>\n{"name": <function-name>, "arguments": {}}\n</tool_call>'),
    ("hermes", LLAMA3_HEADERS + '<tool_call>{"name": "f", "parameters": {}}</tool_call>'),
    ("llama3", LLAMA3_HEADERS + '{{ \'{"name": "\' + name + \'", "parameters": \' }}'),
    ("llama3", LLAMA3_HEADERS + "<|python_tag|>{{ tool.name }}.call("),
    ("generic", LLAMA3_HEADERS + '<TOOLCALL>[{"name": "f", "parameters": {}}]</TOOLCALL>'),
    ("generic", LLAMA3_HEADERS + "{{ message.content }}"),
    ("generic", "{% for message in messages %}{{ message.content }}{% endfor %}"),
]


@pytest.mark.parametrize(("name", "source"), JINJA)
def test_a_template_of_jinja_tells_the_format_by_its_markers(name, source):
    assert tool_format(source, None).name == name


@pytest.mark.parametrize(
    ("source", "opening"),
    [
        (
            "'<｜tool▁call▁begin｜>' + type + '<｜tool▁sep｜>' + name + '\\n```json'",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        ),
        ("'<｜tool▁call▁begin｜>' + name + '<｜tool▁sep｜>'", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"),
        ("<|START_ACTION|>", "<|START_ACTION|>"),
        ("Action: tool_name", "Action: ```json\n"),
        ("<|tool_call|>", "<|tool_call|>"),
        ("<|start_of_role|><tool_call>", "<tool_call>"),
        ("<function=f>", "<function="),
        ("{{ '>>>' + name }}", ">>>"),
        ("{{ '>>>' + name }}{% if add_generation_prompt %}{{ 'assistant\\n\\n>>>' }}{% endif %}", ""),
        ("{{ range .ToolCalls }}>>>{{ .Function.Name }}{{ end }}<|start_header_id|>assistant\n\n>>>", ""),
        ("<TOOLCALL>[]", "<TOOLCALL>"),
        ("functools[", "functools["),
    ],
)
def test_a_call_is_begun_as_the_template_writes_it(source, opening):
    assert tool_format(source, None).opening() == opening


def test_granite_4_is_made_to_write_one_object():
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert "[" in tool_format("<|start_of_role|><tool_call>[]", None).grammar([tool]).partition("\n")[0]
    assert "[" not in tool_format("<|start_of_role|><tool_call>{}</tool_call>", None).grammar([tool]).partition("\n")[0]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<|channel|><|message|>", True),
        ("<|START_ACTION|>", True),
        ("{{ '>>>' + name }}", True),
        ("<tool_call>", False),
        ("Action: tool_name", False),
        ("", False),
    ],
)
def test_formats_that_hold_a_whole_answer_say_so(source, expected):
    assert tool_format(source, None).speaks_in_channels is expected


def go(tag):
    """The tree of ``{{ if .ToolCalls }}tag{"name": "{{ .Name }}"}{{ end }}``."""
    condition = tree.Pipe((tree.Command((tree.Field(("ToolCalls",)),)),))
    return tree.NodeList((tree.If(condition, tree.NodeList((tree.Text(f'{tag}{{"name": "'),))),))


@pytest.mark.parametrize(
    ("name", "tag", "source"),
    [
        ("llama3", "{", LLAMA3_HEADERS + '{"name": "", "parameters": {}}'),
        ("llama3", "<|python_tag|>", LLAMA3_HEADERS + "<|python_tag|>"),
        ("generic", "<toolcall>", LLAMA3_HEADERS + '<toolcall>{"name": "", "parameters": {}}'),
        ("generic", "functools[", LLAMA3_HEADERS + '"parameters" functools['),
        ("generic", "<tool>", "<tool>"),
        ("hermes", "<tool_call>", "<tool_call>"),
    ],
)
def test_a_template_of_go_tells_its_tag_by_its_tree(name, tag, source):
    root = go("" if tag == "{" else tag)
    assert tool_format(source, root).name == name


def test_what_no_family_writes_is_read_behind_the_tag_of_the_tree():
    tool = {"type": "function", "function": {"name": "now", "parameters": {}}}
    found = tool_format("<tool>", go("<tool>")).parser([tool]).feed('Hm. <tool>{"name": "now", "arguments": {}}')
    assert found == Delta("Hm. ", calls=(ToolCall("now", {}),))


def test_the_package_shows_what_others_need():
    assert tools.__all__ == ["Delta", "OutputParser", "Tool", "ToolCall", "ToolFormat", "tool_format"]
    assert all(hasattr(tools, name) for name in tools.__all__)
