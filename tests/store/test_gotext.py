"""Values written as Go writes them, byte for byte."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.store.gotext import go_json, go_number, go_value
from ollama_nb.wire.errors import BadRequestError


@pytest.mark.parametrize(
    ("number", "in_json", "in_show"),
    [
        (1, "1", "1"),
        (1.0, "1", "1"),
        (0, "0", "0"),
        (0.0, "0", "0"),
        (-1.5, "-1.5", "-1.5"),
        (0.7, "0.7", "0.7"),
        (100, "100", "100"),
        (4096, "4096", "4096"),
        (131072, "131072", "131072"),
        (999999.5, "999999.5", "999999.5"),
        (1000000, "1000000", "1e+06"),
        (1234567.0, "1234567", "1.234567e+06"),
        (2097152.0, "2097152", "2.097152e+06"),
        (12345678.9, "12345678.9", "1.23456789e+07"),
        (0.0001, "0.0001", "0.0001"),
        (0.00001, "0.00001", "1e-05"),
        (0.000001, "0.000001", "1e-06"),
        (1e-7, "1e-7", "1e-07"),
        (1.5e-10, "1.5e-10", "1.5e-10"),
        (1e20, "100000000000000000000", "1e+20"),
        (1e21, "1e+21", "1e+21"),
        (1e100, "1e+100", "1e+100"),
    ],
)
def test_numbers_look_as_in_go(number, in_json, in_show):
    assert go_number(number) == in_json
    assert go_value(number) == in_show


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_in_json_reads_back_as_itself(number):
    assert float(json.loads(go_json(number))) == number
    assert float(go_value(number)) == number


@pytest.mark.parametrize(("number", "word"), [(math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf")])
def test_what_json_cannot_say_is_refused(number, word):
    with pytest.raises(BadRequestError) as caught:
        go_json({"temperature": number})
    assert caught.value.message == f"json: unsupported value: {word}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": [True, None, "x"], "B": {}}, b'{"B":{},"a":[true,null,"x"],"b":1}\n'),
        ("<s>&", b'"\\u003cs\\u003e\\u0026"\n'),
        ("\u2028\u2029", b'"\\u2028\\u2029"\n'),
        ("\b\f\n\r\t\x00\x1f\x7f", b'"\\b\\f\\n\\r\\t\\u0000\\u001f\x7f"\n'),
        ('"\\/', b'"\\"\\\\/"\n'),
        ("é😀", '"é😀"\n'.encode()),
        ("a\ud800b", '"a\ufffdb"\n'.encode()),
    ],
)
def test_json_is_compact_sorted_and_escaped(value, expected):
    assert go_json(value) == expected


def test_the_fields_of_a_struct_keep_their_order():
    assert go_json({"b": 1, "a": 2}, sort_keys=False) == b'{"b":1,"a":2}\n'


def test_what_has_no_json_form_is_an_error():
    with pytest.raises(TypeError, match=r"^bytes has no JSON form$"):
        go_json({"x": b"y"})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_json_reads_back_as_what_was_written(value):
    # Go has one kind of number in JSON: 1e20 is written without an exponent.
    assert json.loads(go_json(value), parse_int=float) == value


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("<|eot_id|>", '"<|eot_id|>"'),
        ('a"b\\', r'"a\"b\\"'),
        ("\n\t\r\a\b\f\v", r'"\n\t\r\a\b\f\v"'),
        ("\x00\x7f", r'"\x00\x7f"'),
        ("é世😀", '"é世😀"'),
        ("\u00a0\u200b", r'"\u00a0\u200b"'),
        ("\U000e0001", r'"\U000e0001"'),
    ],
)
def test_strings_are_quoted_as_in_go(text, quoted):
    assert go_value(text) == quoted


@pytest.mark.parametrize(("value", "shown"), [(True, "true"), (False, "false"), (None, "<nil>")])
def test_other_values_are_shown_as_words(value, shown):
    assert go_value(value) == shown
