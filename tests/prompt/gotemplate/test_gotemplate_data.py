"""From the JSON of the API to what templates see."""

from __future__ import annotations

import pytest

from ollama_nb.prompt.gotemplate import Message, Messages, Template, template_data
from ollama_nb.wire.errors import BadRequestError

CALL = {"id": "call_1", "function": {"index": 2, "name": "add", "arguments": {"b": 1, "a": [2, {"c": True}]}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {
            "type": "object",
            "required": ["a"],
            "properties": {
                "a": {"type": "integer", "description": "first", "default": 1},
                "b": {"type": ["integer", "null"], "anyOf": [{"type": "integer"}, {"type": "null"}]},
            },
        },
    },
}


def render(source: str, **data: object) -> str:
    return Template(source).render(template_data(data))


def test_other_keys_stay_as_they_are() -> None:
    data = {"System": "x", "Number": 5}
    assert template_data(data) == data


def test_typed_values_are_kept() -> None:
    messages = Messages([Message(Role="user", Content="hi")])
    assert template_data({"Messages": messages})["Messages"] is messages
    assert template_data({"Messages": list(messages)})["Messages"][0] is messages[0]


@pytest.mark.parametrize(
    ("source", "message", "output"),
    [
        ("{{ .Role }}:{{ .Content }}", {"role": "user", "content": "hi"}, "user:hi"),
        ("{{ json . }}", {"role": "user", "extra": 1}, '{"role":"user","content":""}'),
        ("{{ json . }}", {"images": ["aGk="]}, '{"role":"","content":"","images":["aGk="]}'),
        ("{{ range .Images }}{{ len . }}{{ index . 0 }}{{ end }}", {"images": ["aGk="]}, "2104"),
        ("{{ .ToolCallID }}{{ json . }}", {"tool_call_id": "7"}, '7{"role":"","content":"","tool_call_id":"7"}'),
        ("{{ range .ToolCalls }}{{ .ID }}{{ .Function.Index }}{{ end }}", {"tool_calls": [CALL]}, "call_12"),
        (
            "{{ range .ToolCalls }}{{ .Function.Arguments }}{{ end }}",
            {"tool_calls": [CALL]},
            '{"a":[2,{"c":true}],"b":1}',
        ),
        (
            "{{ range .ToolCalls }}{{ json . }}{{ end }}",
            {"tool_calls": [{}]},
            '{"function":{"name":"","arguments":null}}',
        ),
        (
            "{{ range .ToolCalls }}{{ . }}{{ end }}",
            {"tool_calls": [CALL]},
            "{call_1 {2 add map[a:[2 map[c:true]] b:1]}}",
        ),
        ("{{ range .ToolCalls }}{{ .Function.Arguments.b | printf `%T` }}{{ end }}", {"tool_calls": [CALL]}, "float64"),
    ],
)
def test_a_message(source: str, message: dict, output: str) -> None:
    assert render("{{ range .Messages }}" + source + "{{ end }}", Messages=[message]) == output


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("{{ .Type }}/{{ .Function.Name }}", "function/add"),
        ("{{ .Function.Parameters.Required }}", "[a]"),
        ("{{ .Function.Parameters.Properties.a.Type }}", "integer"),
        ("{{ .Function.Parameters.Properties.b.Type }}", "[integer null]"),
        ("{{ json .Function.Parameters.Properties.a }}", '{"type":"integer","description":"first"}'),
        ("{{ json .Function.Parameters.Properties.zz }}", '{"type":null,"description":""}'),
        (
            "{{ range $k, $v := .Function.Parameters.Properties }}{{ $k }}:{{ toTypeScriptType $v }};{{ end }}",
            "a:number;b:number | null;",
        ),
        ("{{ .Function.Description | printf `%q` }}", '"Adds."'),
    ],
)
def test_a_tool(source: str, output: str) -> None:
    assert render("{{ range .Tools }}" + source + "{{ end }}", Tools=[TOOL]) == output


def test_alternatives_of_a_property_are_no_field() -> None:
    template = Template("{{ range .Tools }}{{ .Function.Parameters.Properties.b.any_of }}{{ end }}")
    with pytest.raises(Exception, match="can't evaluate field any_of"):
        template.render(template_data({"Tools": [TOOL]}))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"Messages": "hi"}, "messages: expected an array, got a string"),
        ({"Messages": ["hi"]}, "messages[0]: expected an object, got a string"),
        ({"Messages": [{"role": 5}]}, "messages[0].role: expected a string, got a number"),
        ({"Messages": [{"images": ["@"]}]}, "messages[0].images[0]: invalid base64"),
        (
            {"Messages": [{"tool_calls": [{"function": {"arguments": "{}"}}]}]},
            "messages[0].tool_calls[0].function.arguments: expected an object, got a string",
        ),
        (
            {"Messages": [{"tool_calls": [{"function": {"index": 1.5}}]}]},
            "messages[0].tool_calls[0].function.index: expected an integer, got a number",
        ),
        (
            {"Messages": [{"tool_calls": [{"function": {"arguments": {"n": 10**400}}}]}]},
            "messages[0].tool_calls[0].function.arguments.n: number out of range",
        ),
        (
            {"Tools": [{"function": {"parameters": {"required": [1]}}}]},
            "tools[0].function.parameters.required[0]: expected a string, got a number",
        ),
        (
            {"Tools": [{"function": {"parameters": {"properties": {"a": []}}}}]},
            "tools[0].function.parameters.properties.a: expected an object, got an array",
        ),
        (
            {"Tools": [{"function": {"parameters": {"properties": {"a": {"type": True}}}}}]},
            "tools[0].function.parameters.properties.a.type: expected an array, got a boolean",
        ),
    ],
)
def test_a_wrong_type_is_said_in_one_line(data: dict, message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        template_data(data)
    assert caught.value.message == message
