from __future__ import annotations

import json
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.wire import gojson
from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.models import CreateRequest, Progress
from ollama_nb.wire.native import ChatRequest, GenerateRequest, Message


class Nested(msgspec.Struct):
    """Types with alternatives, and with notes for the document of the API."""

    a: Message | None = None
    b: str | list[str] = ""
    c: Annotated[list[Message], msgspec.Meta(description="some")] = []
    d: Annotated[int | None, msgspec.Meta(description="a number")] = None


def decode(body, kind=ChatRequest):
    return gojson.decode(body.encode() if isinstance(body, str) else body, kind, kind.__name__)


def refusal(body, kind=ChatRequest):
    with pytest.raises(BadRequestError) as caught:
        decode(body, kind)
    return caught.value.message


# -- what is taken -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["model", "Model", "MODEL", "mOdEl"])
def test_keys_match_in_any_case(key):
    assert decode(json.dumps({key: "a"})).model == "a"


def test_keys_of_messages_match_in_any_case_too():
    assert decode('{"MESSAGES":[{"Role":"user","CONTENT":"hi"}]}').messages == [Message(role="user", content="hi")]


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"a","model":"b"}',
        '{"Model":"a","model":"b"}',
        '{"model":"b","Model":"a","model":"b"}',
        '{"model":"b","MODEL":null}',
    ],
)
def test_of_equal_keys_the_last_that_says_something_wins(body):
    assert decode(body).model == "b"


def test_a_null_means_not_given():
    assert decode('{"model":null,"messages":null,"stream":null,"options":null}') == ChatRequest()


def test_a_null_body_is_a_request_without_fields():
    assert decode("null") == ChatRequest()


def test_a_null_among_messages_is_a_message_without_fields():
    assert decode('{"messages":[null]}').messages == [Message()]


def test_unknown_keys_are_passed_over():
    assert decode('{"model":"a","nonsense":{"deep":[1,2]}}') == ChatRequest(model="a")


@pytest.mark.parametrize("rest", ["x", "}", ' {"model":"b"}', "\n\n", "\x00"])
def test_only_the_first_value_of_a_body_counts(rest):
    assert decode('{"model":"a"}' + rest).model == "a"


def test_roles_are_in_small_letters():
    assert decode('{"messages":[{"role":"SYSTEM"}]}').messages[0].role == "system"


def test_a_key_that_is_a_python_word_has_its_name_on_the_wire():
    assert decode('{"FROM":"a"}', CreateRequest).from_ == "a"


def test_bytes_that_are_no_utf8_become_replacement_characters():
    assert decode(b'{"model":"a\xff"}').model == "a\ufffd"


@pytest.mark.parametrize("text", [r"\ud800", r"\uDC00"])
def test_half_a_surrogate_pair_becomes_a_replacement_character(text):
    request = decode(rf'{{"messages":[{{"content":"a{text}b"}}],"options":{{"x{text}":["{text}"]}}}}')
    assert request.messages[0].content == "a\ufffdb"
    assert request.options == {"x\ufffd": ["\ufffd"]}


def test_a_whole_surrogate_pair_is_its_character():
    assert decode(r'{"model":"\ud83d\ude00"}').model == "\U0001f600"


@pytest.mark.parametrize("number", [9223372036854775807, -9223372036854775808])
def test_integers_of_64_bits_are_exact(number):
    assert decode(f'{{"options":{{"seed":{number}}}}}').options["seed"] == number


def test_an_integer_beyond_64_bits_is_a_float_where_the_type_is_open():
    assert decode('{"options":{"seed":18446744073709551616}}').options == {"seed": 18446744073709551616.0}


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["", " ", "\n\t \r\n"])
def test_an_empty_body_is_missing(body):
    assert refusal(body) == "missing request body"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("!", "invalid character '!' looking for beginning of value"),
        ("{!", "invalid character '!' looking for beginning of object key string"),
        ('{"model":"a",}', "invalid character '}' looking for beginning of object key string"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ('{"model" "a"}', "invalid character '\"' after object key"),
        ('{"model":"a" "b"}', "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ('{"a":[{"b":"]"} 3]}', "invalid character '3' after array element"),
        ('{"a":{"b":["}"]} 3}', "invalid character '3' after object key:value pair"),
        ('{"a":01}', "invalid character '1' after object key:value pair"),
        ('{"model":"a\nb"}', r"invalid character '\n' in string literal"),
        ('{"model":"a\tb"}', r"invalid character '\t' in string literal"),
        (r'{"model":"\q"}', "invalid character 'q' in string escape code"),
        (r'{"model":"\u12x4"}', r"invalid character 'x' in \u hexadecimal character escape"),
        ("'", r"invalid character '\'' looking for beginning of value"),
        ("NaN", "invalid character 'N' looking for beginning of value"),
        ('{"a":Infinity}', "invalid character 'I' looking for beginning of value"),
        ("-Infinity", "invalid character 'I' in numeric literal"),
    ],
)
def test_bad_json_gets_gos_text(body, text):
    assert refusal(body) == text


@pytest.mark.parametrize(
    "body",
    ["{", '{"', '{"model', '{"model"', '{"model":', '{"model":"a', '{"model":"a"', '{"model":"a",', "[", "[1", "[1,",
     '{"stream":tru', '{"stream":nul', '{"a":-', r'{"a":"\u12', r'{"a":"\u'],
)  # fmt: skip
def test_a_body_that_breaks_off_ends_unexpectedly(body):
    assert refusal(body) == "unexpected EOF"


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ('{"stream":"x"}', ChatRequest, "string into Go struct field ChatRequest.stream of type bool"),
        ('{"model":1}', ChatRequest, "number into Go struct field ChatRequest.model of type string"),
        ('{"model":{}}', GenerateRequest, "object into Go struct field GenerateRequest.model of type string"),
        ('{"raw":[]}', GenerateRequest, "array into Go struct field GenerateRequest.raw of type bool"),
        ('{"prompt":true}', GenerateRequest, "bool into Go struct field GenerateRequest.prompt of type string"),
        ('{"messages":"x"}', ChatRequest, "string into Go struct field ChatRequest.messages of type []api.Message"),
        ('{"messages":[1]}', ChatRequest, "number into Go struct field ChatRequest.messages of type api.Message"),
        (
            '{"messages":[{},{"content":1}]}',
            ChatRequest,
            "number into Go struct field ChatRequest.messages.content of type string",
        ),
        (
            '{"options":[]}',
            ChatRequest,
            "array into Go struct field ChatRequest.options of type map[string]interface {}",
        ),
        ('{"context":["a"]}', GenerateRequest, "string into Go struct field GenerateRequest.context of type int"),
        ('{"context":[1.5]}', GenerateRequest, "number into Go struct field GenerateRequest.context of type int"),
        (
            f'{{"context":[{2**63}]}}',
            GenerateRequest,
            "number into Go struct field GenerateRequest.context of type int",
        ),
        ('{"files":{"a":1}}', CreateRequest, "number into Go struct field CreateRequest.files of type string"),
        ('{"from":1}', CreateRequest, "number into Go struct field CreateRequest.from of type string"),
    ],
)
def test_a_value_of_the_wrong_type_gets_gos_text(body, kind, text):
    assert refusal(body, kind) == f"json: cannot unmarshal {text}"


@pytest.mark.parametrize(("body", "what"), [("[]", "array"), ('"x"', "string"), ("1", "number"), ("true", "bool")])
def test_a_body_that_is_no_object_gets_gos_text(body, what):
    assert refusal(body) == f"json: cannot unmarshal {what} into Go value of type api.ChatRequest"


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" * 5000, "-" + "1" * 5000])
def test_a_number_past_64_bit_floats_is_refused(number):
    assert refusal(f'{{"options":{{"seed":{number}}}}}').startswith("json: cannot unmarshal number ")


@pytest.mark.parametrize(
    "body",
    [
        "[" * 1_000_000,
        '{"a":' * 1_000_000,
        '{"options":{"a":' + "[" * gojson.MAX_DEPTH + "]" * gojson.MAX_DEPTH + "}}",
    ],
    ids=["lists", "objects", "just too deep"],
)
def test_a_bomb_of_nesting_is_refused(body):
    assert refusal(body) == "exceeded max depth"


def test_nesting_below_the_limit_is_taken():
    depth = gojson.MAX_DEPTH - 3
    assert decode('{"options":{"a":' + "[" * depth + "]" * depth + "}}").options


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"a":{"role":1}}', "number into Go struct field Nested.a.role of type string"),
        ('{"b":["x",1]}', "number into Go struct field Nested.b of type string"),
        ('{"b":1}', "number into Go struct field Nested.b of type string"),
        ('{"c":[{"role":1}]}', "number into Go struct field Nested.c.role of type string"),
        ('{"d":"x"}', "string into Go struct field Nested.d of type int"),
    ],
)
def test_types_with_alternatives_or_notes_have_their_place_and_name_in_a_refusal(body, text):
    assert refusal(body, Nested) == f"json: cannot unmarshal {text}"


def test_keys_of_any_case_are_found_in_types_with_alternatives_or_notes():
    nested = decode('{"A":{"ROLE":"x"},"C":[{"Role":"y"}]}', Nested)
    assert nested.a is not None
    assert [nested.a.role, *(message.role for message in nested.c)] == ["x", "y"]


@given(st.binary())
def test_any_bytes_give_a_request_or_a_refusal(body):
    try:
        assert isinstance(decode(body), ChatRequest)
    except BadRequestError as error:
        assert error.message  # noqa: PT017 - either way is right; only another exception is not


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list(GenerateRequest.__struct_fields__)), inner),
    max_leaves=20,
)


@given(_JSON, st.integers(0, 40))
def test_any_json_broken_anywhere_gives_a_request_or_a_refusal(value, cut):
    text = json.dumps(value)
    for body in (text, text[:-cut]):
        try:
            assert isinstance(decode(body, GenerateRequest), GenerateRequest)
        except BadRequestError as error:
            assert error.message  # noqa: PT017 - as above


# -- what is written ---------------------------------------------------------------------------------------------------


def test_characters_that_html_knows_are_escaped():
    encoded = gojson.encode({"a<": "<b>&\u2028\u2029"})
    assert encoded == rb'{"a\u003c":"\u003cb\u003e\u0026\u2028\u2029"}'


def test_empty_optional_fields_are_left_out():
    assert gojson.encode(Progress(status="success")) == b'{"status":"success"}'


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())))
def test_what_is_written_reads_back_the_same(value):
    assert json.loads(gojson.encode(value)) == value


def test_types_are_looked_at_once_however_many_messages_there_are(monkeypatch):
    asked = []
    fields = msgspec.structs.fields
    monkeypatch.setattr(msgspec.structs, "fields", lambda kind: asked.append(kind) or fields(kind))
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "x"}] * 1000})
    assert len(gojson.decode(body, ChatRequest, "ChatRequest").messages) == 1000
    assert len(asked) < 10
