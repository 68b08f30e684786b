"""The formats of a request: what each lets through, and what is refused with which words."""

from __future__ import annotations

import enum
import json
from typing import Annotated, Literal

import pydantic
import pytest
from byte_grammars import may_begin_with, takes

from ollama_nb.prompt.formats import Format, parse_format
from ollama_nb.wire.errors import BadRequestError


def taken(form, text):
    return takes(parse_format(form).grammar, text if isinstance(text, str) else json.dumps(text, ensure_ascii=False))


def refusal(form):
    with pytest.raises(BadRequestError) as caught:
        parse_format(form)
    assert caught.value.status == 400
    return caught.value.message


def nested(depth):
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


# -- none, JSON, and what is no format ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, ""])
def test_no_format_is_none(value):
    assert parse_format(value) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("xml", r'"\"xml\""'),
        (5, '"5"'),
        (True, '"true"'),
        (["json"], r'"[\"json\"]"'),
        ("<é>", r'"\"<é>\""'),
    ],
)
def test_what_is_no_format_is_refused_in_the_words_of_ollama(value, shown):
    assert refusal(value) == f'invalid format: {shown}; expected "json" or a valid JSON Schema object'


@pytest.mark.parametrize("text", ["{}", '{"a": 1}', '{"a":[{"b":null}, 1.5e3],"c":"é"}'])
def test_json_is_any_object(text):
    assert taken("json", text)


@pytest.mark.parametrize("text", ["[]", "1", '{"a": 1', ' {"a": 1}', '{"a":   1}', '{"a": 1}\n', "{'a': 1}"])
def test_json_is_nothing_but_one_object_with_few_blanks(text):
    assert not taken("json", text)


# -- JSON Schema --------------------------------------------------------------------------------------------------

TEXT = {"type": "string"}
TREE = {
    "$ref": "#/definitions/node",
    "definitions": {
        "node": {
            "type": "object",
            "properties": {"name": TEXT, "below": {"type": "array", "items": {"$ref": "#/definitions/node"}}},
            "required": ["name", "below"],
        }
    },
}
CAT = {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind"]}
DOG = {"type": "object", "properties": {"kind": {"enum": ["dog"]}, "barks": {"type": "boolean"}}, "required": ["kind"]}


@pytest.mark.parametrize(
    ("schema", "fits", "fits_not"),
    [
        ({}, [1, "x", None, [{"a": []}]], []),
        ({"properties": {"a": {}}, "required": ["a"]}, [{"a": None}, {"a": [1]}], [{}, {"a": 1, "b": 2}, 3]),
        ({"type": "object", "properties": {"a": TEXT}}, [{}, {"a": ""}], [{"b": ""}]),
        ({"type": "object", "properties": {"a": TEXT}, "additionalProperties": True}, [{"b": 1}], [{"a": 1}]),
        ({"type": "object", "properties": {"a": True}, "required": ["a", "b"]}, [{"a": 1, "b": 2}], [{"a": 1}]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"x": 1}], [{"x": "1"}]),
        ({"type": "object", "additionalProperties": TEXT, "required": ["a"]}, [{"a": "", "b": ""}], [{}, {"a": 1}]),
        ({"type": "object", "maxProperties": 1}, [{}, {"x" * 128: [1]}], [{"x" * 129: 1}, {"a": 1, "b": 2}]),
        ({"type": ["integer", "null"]}, [1, None, 10**17], ['"1"', 1.5, int("9" * 25)]),
        ({"type": "number", "minimum": 0}, [0, 1.5, 0.123456789], [-1, "0.1234567891", "1e5"]),
        ({"type": "number"}, ["6.022e23", -1, 0.5], ["01", "1."]),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, [4], [3]),
        ({"type": "integer", "minimum": 5, "maximum": 2**64}, [5, 10**18], [4, 2**63]),
        ({"type": "string", "maxLength": 2.0}, ["", '"éé"'], ['"abc"']),
        ({"const": None}, [None], ["null ", 0]),
        ({"enum": ["a", 1, None, {"k": [1, 2]}]}, ['"a"', 1, None, {"k": [1, 2]}], ['"b"', 2]),
        ({"items": [TEXT, {"type": "integer"}], "additionalItems": False}, [["a", 1], ["a"]], [[1], ["a", 1, 2]]),
        ({"prefixItems": [TEXT], "items": False, "minItems": 1}, [["a"]], [[], ["a", "b"]]),
        ({"type": "string", "format": "date-time"}, ['"2026-02-28T10:00:00Z"'], ['"2026-02-28T23:59:60Z"', '"now"']),
        ({"type": "string", "format": "color"}, ['"anything"'], []),
        ({"type": "integer", "format": "int32"}, [1], ["1.5"]),
        ({"type": "string", "pattern": r"^\\1$"}, [r'"\\1"'], ['"1"']),
        ({"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"b": TEXT}, "required": ["b"]}], "$defs": {"a": CAT}},
         [{"kind": "cat", "b": "x"}], [{"kind": "cat"}]),
        ({"type": "object", "properties": {"a": TEXT, "b": TEXT}, "minProperties": 1}, [{"b": ""}], [{}]),
        ({"type": "object", "properties": {"a": TEXT}, "required": ["a"], "minProperties": 1, "maxProperties": 9},
         [{"a": ""}], [{}]),
        ({"type": "object", "propertyNames": {"pattern": "^x"}, "additionalProperties": TEXT},
         [{"xa": "1"}, {}], [{"a": "1"}, {"xa": 1}]),
        ({"type": "object", "propertyNames": {"enum": ["a", "b"]}}, [{"a": 1}], [{"c": 1}]),
        ({"type": "object", "propertyNames": {"minLength": 2}}, [{"ab": 1}], [{"a": 1}]),
        ({"type": "object", "propertyNames": {"type": "string"}}, [{"ab": 1}], []),
        ({"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 1},
         [["a"], ["a", "c"]], [[], ["a", "a"], ["d"]]),
        ({"type": "array", "items": TEXT, "uniqueItems": True, "maxItems": 1}, [["a"], []], [["a", "a"]]),
        ({"type": "array", "items": TEXT, "uniqueItems": False}, [["a", "a"]], []),
        ({"oneOf": [TEXT, {"type": "integer"}]}, ['"a"', 1], [None]),
        ({"oneOf": [CAT, DOG], "discriminator": {"propertyName": "kind"}}, [{"kind": "cat", "lives": 9}],
         [{"kind": "cow"}, {"kind": "cat", "barks": True}]),
        (TREE, [{"name": "a", "below": [{"name": "b", "below": []}]}], [{"name": "a"}]),
        ({"$ref": "#named", "$defs": {"a": {"$anchor": "named", "type": "integer"}}}, [1], ['"a"']),
        ({"$id": "https://x.example/s", "$ref": "https://x.example/s#/$defs/a", "$defs": {"a": TEXT}}, ['"a"'], [1]),
        ({"properties": {"a": TEXT, "b": {"$ref": "#/properties/a"}}, "required": ["b"]}, [{"b": "x"}], [{"b": 1}]),
        ({"type": "object", "properties": {"then": TEXT}, "then": {"not": {}}}, [{"then": "x"}], []),
        ({"type": "string", "nullable": True, "x-order": 1, "readOnly": True, "examples": ["a"]}, ['"a"'], [None]),
    ],
)  # fmt: skip
def test_a_schema_lets_through_what_fits_it(schema, fits, fits_not):
    grammar = parse_format(schema).grammar
    for value in fits:
        text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
        assert takes(grammar, text) or takes(grammar, json.dumps(value)), value
    for value in fits_not:
        assert not taken(schema, value), value


ENDLESS = {"properties": {"again": {"$ref": "#/$defs/endless"}}, "required": ["again"]}


def test_what_could_never_end_is_never_begun():
    form = {
        "properties": {
            "a": {"$ref": "#/$defs/endless"},
            "b": {"anyOf": [{"$ref": "#/$defs/endless"}, {"type": "null"}]},
        },
        "$defs": {"endless": ENDLESS},
    }
    assert taken(form, {"b": None})
    assert not may_begin_with(parse_format(form).grammar, '{"a')
    assert not may_begin_with(parse_format(form).grammar, '{"b": {')


def test_properties_come_in_the_order_of_the_schema():
    schema = {"properties": {"b": TEXT, "a": TEXT}, "required": ["a", "b"]}
    assert taken(schema, '{"b": "", "a": ""}')
    assert not taken(schema, '{"a": "", "b": ""}')


def test_white_space_comes_to_an_end():
    grammar = parse_format({"properties": {"a": TEXT}, "required": ["a"]}).grammar
    assert may_begin_with(grammar, '{"a": "')
    assert not may_begin_with(grammar, '{"a":  ')
    assert not may_begin_with(grammar, "{\n")


def test_a_schema_is_not_changed():
    schema = {"oneOf": [CAT, DOG], "minItems": 2.0}
    copy = json.loads(json.dumps(schema))
    parse_format(schema)
    assert schema == copy


# -- what other programs emit -------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    barks: bool


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str = pydantic.Field(min_length=1, max_length=40, description="Both names.")
    age: int | None = pydantic.Field(default=None, ge=0, le=130)
    colours: set[Colour] = set()
    point: tuple[float, float]
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
    friends: list[Person] = []
    extra: dict[str, int] = {}
    site: pydantic.HttpUrl | None = None


def test_models_of_pydantic_are_schemas():
    form = Person.model_json_schema()
    person = Person(name="A", point=(1, 2), pet=Dog(kind="dog", barks=True), colours={Colour.BLUE}, extra={"x": 1})
    text = person.model_dump_json()
    assert taken(form, text)
    assert not taken(form, text.replace('"dog"', '"cat"'))
    assert not taken(form, text.replace('"blue"', '"pink"'))


def test_schemas_of_zod_are_schemas():
    form = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "score": {"type": "number", "exclusiveMinimum": 0},
            "role": {"anyOf": [{"type": "string", "const": "a"}, {"type": "string", "const": "b"}]},
            "meta": {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"type": "string"}},
            "same": {"$ref": "#/properties/role"},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        },
        "required": ["role"],
        "additionalProperties": False,
    }
    assert taken(form, {"score": 0.5, "role": "a", "meta": {"k": "v"}, "same": "b", "next": {"role": "b"}})
    assert not taken(form, {"role": "a", "next": {"score": 1}})


# -- schemas that are refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "place", "reason"),
    [
        ({"not": TEXT}, "#/not", '"not" cannot be kept by a grammar'),
        ({"items": {"contains": TEXT}}, "#/items/contains", '"contains" cannot'),
        ({"if": TEXT, "then": TEXT}, "#/then", '"then" cannot'),
        ({"dependentRequired": {"a": ["b"]}}, "#/dependentRequired", '"dependentRequired" cannot'),
        ({"dependentSchemas": {}}, "#/dependentSchemas", "cannot"),
        ({"properties": {"a/b": {"unevaluatedItems": False}}}, "#/properties/a~1b/unevaluatedItems", "cannot"),
        ({"unevaluatedProperties": False}, "#/unevaluatedProperties", "cannot"),
        ({"$dynamicRef": "#a"}, "#/$dynamicRef", "cannot"),
        ({"type": "array", "items": TEXT, "uniqueItems": True}, "#/uniqueItems", "that an enum names"),
        ({"type": "array", "items": {"enum": ["a"]}, "uniqueItems": True, "minItems": 2}, "#/minItems", "only 1"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "#/oneOf", "fit both schema 0 and schema 1"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"not": {}}}}, "#/$defs/b/not", "cannot"),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "#", "no value with an end could fit"),
        ({"$ref": "#"}, "#", "no value with an end"),
        ({"items": {"$ref": "#"}, "minItems": 1}, "#", "no value with an end"),
        ({"type": "dict"}, "#/type", '"dict" is no type; types are array, boolean'),
        ({"type": []}, "#/type", "at least one type"),
        ({"enum": []}, "#/enum", "at least one element"),
        ({"anyOf": {}}, "#/anyOf", "at least one element"),
        ({"properties": []}, "#/properties", "an object of schemas"),
        ({"properties": {"a": "string"}}, "#/properties/a", "has to be an object, true or false"),
        ({"required": "a"}, "#/required", "a list of names"),
        ({"minLength": -1}, "#/minLength", "-1 is no count"),
        ({"maxItems": True}, "#/maxItems", "true is no count"),
        ({"minimum": "3"}, "#/minimum", '"3" is no number'),
        ({"type": "integer", "minimum": 1e20}, "#", "a bound of more than 18 digits"),
        ({"multipleOf": 0}, "#/multipleOf", "0 is not above 0"),
        ({"exclusiveMinimum": True}, "#/exclusiveMinimum", 'nothing without "minimum"'),
        ({"pattern": "(?=a)b"}, "#/pattern", "(?= in a pattern"),
        ({"pattern": r"a\b"}, "#/pattern", r"\b in a pattern"),
        ({"pattern": 3}, "#/pattern", "3 is no regular expression"),
        ({"patternProperties": {r"(a)\1": TEXT}}, "#/patternProperties", r"\1 in a pattern"),
        ({"format": "json-pointer"}, "#/format", 'the format "json-pointer" cannot be kept'),
        ({"format": 3}, "#/format", "3 is no format"),
        ({"$ref": "https://x.example/s"}, "#/$ref", "points at nothing within the schema"),
        ({"$ref": "#/$defs/none"}, "#/$ref", "points at nothing"),
        ({"$ref": "#none"}, "#/$ref", "points at nothing"),
        ({"$ref": 3}, "#/$ref", "3 points at nothing"),
        ({"type": "object", "minProperties": 2}, "#/minProperties", "may repeat"),
        ({"properties": {"a": TEXT, "b": TEXT, "c": TEXT}, "minProperties": 2}, "#/minProperties", "be counted"),
        ({"properties": {"a": TEXT}, "propertyNames": {"pattern": "a"}}, "#/propertyNames", "beside properties"),
        ({"propertyNames": {"pattern": "a", "maxLength": 3}}, "#/propertyNames", "only one of these"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_with_its_place(schema, place, reason):
    message = refusal(schema)
    assert message.startswith(f"invalid JSON schema in format: {place}: ")
    assert reason in message


def test_a_schema_that_is_too_deep_is_refused():
    assert isinstance(parse_format(nested(60)), Format)
    assert "nested more than 64 levels deep" in refusal(nested(70))


def test_a_schema_that_is_too_large_is_refused():
    assert "characters, more than 262144" in refusal({"enum": ["x" * 1000] * 300})


# -- oneOf --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"type": "string"}, {"type": ["integer", "null"]}),
        ({"const": 1}, {"enum": [2, "1", True]}),
        ({"const": 1}, {"type": "string"}),
        ({"type": "integer", "maximum": 3}, {"type": "number", "minimum": 3.5}),
        ({"type": "string", "maxLength": 1}, {"type": "string", "minLength": 2}),
        ({"type": "array", "maxItems": 1}, {"type": "array", "minItems": 2}),
        ({"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": TEXT}, "required": ["b"]}),
        ({"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"a": {"type": "integer"}}}),
        ({"anyOf": [{"const": 1}, {"const": 2}]}, {"anyOf": [{"const": 3}, {"type": "null"}]}),
        ({"allOf": [{"const": 1}]}, {"const": 2}),
        (False, True),
    ],
)
def test_schemas_that_exclude_each_other_may_be_one_of(one, other):
    for options in ([one, other], [other, one]):
        assert parse_format({"oneOf": options, "title": "x"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"type": "string"}, {"type": "string"}),
        ({"const": 1}, {"enum": [1.0, 2]}),
        ({"type": "integer", "maximum": 3}, {"type": "integer", "minimum": 3}),
        ({"properties": {"a": TEXT}}, {"properties": {"b": TEXT}}),
        ({"properties": {"a": TEXT}, "required": ["a"]}, {"type": "object"}),
        (True, {"type": "null"}),
    ],
)
def test_schemas_that_may_meet_may_not(one, other):
    for options in ([one, other], [other, one]):
        assert "a value may fit both" in refusal({"oneOf": options})


def test_one_of_beside_any_of_keeps_both():
    schema = {"oneOf": [{"const": 1}, {"const": 2}], "anyOf": [{"const": 2}, {"const": 3}]}
    assert taken(schema, 2)
    assert not taken(schema, 1)


# -- other languages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("[0-9]{3}-[a-z]+", ["123-ab"], ["123-", "x123-ab"]),
        ("^a/b$", ["a/b"], ["a"]),
        (r"^a\$", ["a$"], ["a"]),
        (r"[/]\/", ["//"], ["/"]),
        ('a\n"', ['a\n"'], ["a"]),
        ("a\\\nb", ["a\nb"], []),
        ("^(a|b)$", ["a", "b"], ["ab"]),
        ("^a|b$", ["a", "b"], ["c"]),
        ("^$", [""], ["a"]),
        ("é+", ["éé"], ["e"]),
    ],
)
def test_a_regex_is_the_whole_answer(pattern, fits, fits_not):
    assert all(taken({"regex": pattern}, text) for text in fits)
    assert not any(taken({"regex": pattern}, text) for text in fits_not)


def test_a_choice_is_one_of_the_texts():
    texts = ["yes", "no", "yes, sir", 'é"\n', "}"]
    assert all(taken({"choice": texts}, text) for text in texts)
    assert not any(taken({"choice": texts}, text) for text in ("ye", "yesno", "Yes", ""))


def test_a_grammar_in_lark_is_taken_as_it_is():
    assert taken({"lark": 'start: "a" b\nb: /[0-9]+/'}, "a12")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"regex": 3}, "regex: a regular expression is needed"),
        ({"regex": ""}, "regex: a regular expression is needed"),
        ({"regex": "(?<!a)b"}, "regex: (?<! looks around or back"),
        ({"choice": []}, "choice: a list of texts is needed"),
        ({"choice": ["a", 1]}, "choice: a list of texts is needed"),
        ({"choice": "a"}, "choice: a list of texts is needed"),
        ({"choice": [str(number) for number in range(5000)]}, "choice: 5000 texts are more than 4096"),
        ({"lark": " "}, "lark: a grammar is needed"),
        ({"lark": {}}, "lark: a grammar is needed"),
        ({"gbnf": None}, "gbnf: a grammar is needed"),
        ({"gbnf": "root ::= x"}, 'gbnf: line 1: there is no rule "x"'),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_the_language(form, message):
    assert refusal(form).startswith(f"invalid format: {message}")


def test_beside_other_keys_a_language_is_no_keyword_at_all():
    assert taken({"regex": "a", "type": "integer"}, "1")
