from __future__ import annotations

import json

import llguidance
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.prompt.tools.schema import (
    MAX_ITEMS,
    MAX_LENGTH,
    arguments_schema,
    call_schema,
    needs_arguments,
    tool_name,
)

EMPTY = {"type": "object", "properties": {}, "additionalProperties": False}
ANYTHING = {"maxLength": MAX_LENGTH, "maxItems": MAX_ITEMS}
TEXT = {"type": "string", "maxLength": MAX_LENGTH}


def tool(parameters, name="f"):
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def of(**properties):
    return {"type": "object", "properties": properties}


def error_of(schema) -> str:
    """What llguidance says against a schema."""
    grammar = llguidance.LLMatcher.grammar_from_lark(f"start: call\ncall: %json {json.dumps(schema)}")
    failed, messages = llguidance.LLMatcher.validate_grammar_with_warnings(grammar)
    return "\n".join(messages) if failed else ""


@pytest.mark.parametrize("parameters", [None, {}, "object", [], {"type": "object"}, {"type": "string"}, of()])
def test_a_tool_that_names_no_parameters_takes_none(parameters):
    assert arguments_schema(tool(parameters)) == EMPTY


@pytest.mark.parametrize("broken", [{}, {"function": None}, {"function": {}}, {"function": {"name": 3}}])
def test_a_tool_that_is_none_has_no_name_and_no_parameters(broken):
    assert tool_name(broken) == ""
    assert arguments_schema(broken) == EMPTY
    assert not needs_arguments(broken)


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ({"type": "string"}, TEXT),
        ({"type": "string", "description": "x", "default": "y", "title": "Z"}, TEXT),
        ({"type": "string", "minLength": 1000}, {"type": "string", "minLength": 1000, "maxLength": 1000}),
        ({"type": "string", "maxLength": 9000}, {"type": "string", "maxLength": 9000}),
        ({"type": "string", "pattern": "^a+$"}, {"type": "string", "pattern": "^a+$"}),
        ({"type": "string", "pattern": "(?!a)b"}, TEXT),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "format": "colour"}, TEXT),
        ({"type": "string", "enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
        ({"enum": []}, ANYTHING),
        ({"const": {"$ref": "x"}}, {"const": {"$ref": "x"}}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"], "maxLength": MAX_LENGTH}),
        ({"type": ["string"]}, TEXT),
        ({"type": "any"}, ANYTHING),
        ({"type": ["string", "date"]}, ANYTHING),
        ({"type": {"a": 1}}, ANYTHING),
        ({}, ANYTHING),
        ("string", True),
        (False, False),
        ({"type": "integer", "minimum": 1, "maximum": "9"}, {"type": "integer", "minimum": 1}),
        ({"type": "number", "exclusiveMinimum": True, "multipleOf": 0}, {"type": "number"}),
        ({"type": "array", "items": {"type": "string"}}, {"type": "array", "items": TEXT, "maxItems": MAX_ITEMS}),
        ({"type": "array", "maxItems": 3, "uniqueItems": True}, {"type": "array", "maxItems": 3}),
        ({"type": "array", "minItems": -1, "maxItems": 2.5}, {"type": "array", "maxItems": MAX_ITEMS}),
        (
            {"type": "array", "items": [{"type": "string"}, {"type": "null"}], "maxItems": 2},
            {"type": "array", "prefixItems": [TEXT, {"type": "null"}], "maxItems": 2},
        ),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"anyOf": [TEXT, {"type": "null"}]}),
        (of(a={"type": "string"}), of(a=TEXT) | {"additionalProperties": False}),
        ({"properties": {"a": {}}}, of(a=ANYTHING) | {"additionalProperties": False}),
        (of(a={}) | {"additionalProperties": True}, of(a=ANYTHING) | {"additionalProperties": True}),
        ({"type": "object"}, {"type": "object", "maxProperties": MAX_ITEMS}),
        (
            {"type": "object", "additionalProperties": {"type": "string"}},
            {"type": "object", "additionalProperties": TEXT},
        ),
        ({"$ref": "#/nowhere"}, ANYTHING),
        ({"$ref": "https://example.org/schema"}, ANYTHING),
    ],
)
def test_a_parameter_keeps_what_makes_sense_and_gets_an_end(source, made):
    schema = arguments_schema(tool(of(x=source)))
    assert schema == of(x=made) | {"additionalProperties": False}
    assert not error_of(schema)


def test_what_is_required_stays_so_and_may_be_anything_if_it_is_not_described():
    parameters = of(a={"type": "string"}) | {"required": ["a", "b", "a", 3]}
    assert arguments_schema(tool(parameters)) == {
        "type": "object",
        "properties": {"a": TEXT, "b": ANYTHING},
        "required": ["a", "b"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("parameters", "needs"),
    [({"required": ["a"]}, True), ({"required": []}, False), ({"required": None}, False), ({}, False), (None, False)],
)
def test_a_tool_needs_arguments_where_one_is_required(parameters, needs):
    assert needs_arguments(tool(parameters)) is needs


def test_properties_that_come_together_from_several_places_are_not_closed():
    parameters = {"allOf": [of(a={"type": "string"}), {"$ref": "#/$defs/More"}], "$defs": {"More": of(b={})}}
    schema = arguments_schema(tool(parameters))
    assert "additionalProperties" not in json.dumps(schema)
    assert not error_of(call_schema(tool(parameters)))


def test_the_tool_itself_is_left_as_it_was():
    original = tool(of(a={"type": "array", "items": of(b={"type": "string"})}) | {"required": ["a", "c"]})
    before = json.dumps(original)
    call_schema(original)
    assert json.dumps(original) == before


def test_a_call_has_its_name_first_and_its_arguments_behind():
    schema = call_schema(tool(of(a={"type": "string"}), name="say"))
    assert list(schema["properties"]) == ["name", "arguments"]
    assert schema["properties"]["name"] == {"const": "say"}
    assert schema["properties"]["arguments"] == of(a=TEXT) | {"additionalProperties": False}
    assert schema["required"] == ["name", "arguments"]
    assert schema["additionalProperties"] is False


def test_a_call_has_the_keys_of_its_family():
    schema = call_schema(tool(None), name_key="tool_name", arguments_key="parameters")
    assert schema["required"] == list(schema["properties"]) == ["tool_name", "parameters"]


@pytest.mark.parametrize(("key", "place"), [("arguments", "arguments"), ("a/b", "a~1b")])
def test_references_of_a_tool_point_to_the_same_in_the_call(key, place):
    parameters = {
        "$defs": {"Node": of(next={"$ref": "#/$defs/Node"}, root={"$ref": "#"})},
        **of(first={"$ref": "#/$defs/Node"}, other={"$ref": "#/properties/list"}, list={"type": "array"}),
    }
    schema = call_schema(tool(parameters), arguments_key=key)
    first = schema["properties"][key]["properties"]
    assert first["first"] == {"$ref": "#/$defs/Node"}
    assert first["other"] == {"$ref": f"#/properties/{place}/properties/list"}
    assert schema["$defs"]["Node"]["properties"]["root"] == {"$ref": f"#/properties/{place}"}
    assert not error_of(schema)


def test_a_schema_of_any_depth_is_cut_and_not_an_error():
    deep = {"type": "string"}
    for _ in range(5000):
        deep = of(a=deep)
    schema = arguments_schema(tool(deep))
    assert json.dumps(schema).count('"a"') < 100


KEYWORDS = st.sampled_from(
    (
        *("type", "properties", "items", "required", "enum", "anyOf", "additionalProperties", "maxLength", "minItems"),
        *("$ref", "pattern", "description", "uniqueItems", "not", "$defs", "prefixItems", "format", "x"),
    )
)
VALUES = st.recursive(
    st.sampled_from([None, True, -1, 3, 2.5, "string", "object", "array", "x", "#", "#/properties/x", "date", ["x"]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYWORDS, VALUES, max_size=5))
def test_any_parameters_give_a_schema_of_an_object(parameters):
    schema = arguments_schema(tool(parameters))
    assert schema["type"] == "object"
    assert json.loads(json.dumps(schema)) == schema


TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "any", "float"])
SCHEMAS = st.recursive(
    st.builds(lambda kind: {"type": kind}, TYPES) | st.just({"enum": ["a", 1, None]}) | st.just({}),
    lambda inner: st.one_of(
        st.builds(lambda item: {"type": "array", "items": item}, inner),
        st.builds(lambda item: {"anyOf": [item, {"type": "null"}]}, inner),
        st.builds(
            lambda properties, required: {"type": "object", "properties": properties, "required": required},
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            st.lists(st.sampled_from("abcd"), max_size=3),
        ),
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from("abc"), SCHEMAS, max_size=3), st.lists(st.sampled_from("abz"), max_size=3))
def test_parameters_as_people_write_them_compile(properties, required):
    assert not error_of(call_schema(tool({"type": "object", "properties": properties, "required": required})))
