from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.parameters import DEPRECATED, PARAMETERS, Kind, parse_assignments, parse_parameter


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("num_ctx", "4096", 4096),
        ("num_predict", "-1", -1),
        ("seed", "+7", 7),
        ("seed", str(2**63 - 1), 2**63 - 1),
        ("temperature", "0.7", 0.7),
        ("temperature", "1", 1.0),
        ("top_p", ".5", 0.5),
        ("min_p", "5e-2", 0.05),
        ("use_mmap", "true", True),
        ("use_mmap", "F", False),
        ("stop", "<|im_end|>", ["<|im_end|>"]),
        ("stop", "", [""]),
    ],
)
def test_text_becomes_the_parameters_type(name, text, value):
    parsed = parse_parameter(name, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nonsense", "1", "unknown parameter 'nonsense'"),
        ("Temperature", "1", "unknown parameter 'Temperature'"),
        ("num_ctx", "4k", "invalid int value [4k]"),
        ("num_ctx", "1.5", "invalid int value [1.5]"),
        ("num_ctx", "", "invalid int value []"),
        ("num_ctx", "1_000", "invalid int value [1_000]"),
        ("num_ctx", "٣", "invalid int value [٣]"),
        ("seed", str(2**63), f"invalid int value [{2**63}]"),
        ("seed", "9" * 5000, f"invalid int value [{'9' * 5000}]"),
        ("temperature", "warm", "invalid float value [warm]"),
        ("temperature", "nan", "invalid float value [nan]"),
        ("temperature", "1e39", "invalid float value [1e39]"),
        ("temperature", "1e999", "invalid float value [1e999]"),
        ("temperature", " 1", "invalid float value [ 1]"),
        ("use_mmap", "yes", "invalid bool value [yes]"),
    ],
)
def test_what_cannot_be_read_is_refused_in_ollamas_words(name, text, message):
    with pytest.raises(BadRequestError) as caught:
        parse_parameter(name, text)
    assert caught.value.message == message


def test_stops_gather_in_order_and_other_names_keep_the_last_value():
    values, warnings = parse_assignments(["stop=a=b", "temperature=0.1", "stop=c", "temperature=0.2"])
    assert values == {"stop": ["a=b", "c"], "temperature": 0.2}
    assert warnings == []


def test_deprecated_names_are_dropped_with_a_warning():
    assert parse_assignments(["mirostat=1"]) == ({}, ["warning: parameter mirostat is deprecated"])
    assert not DEPRECATED & set(PARAMETERS)


def test_an_assignment_needs_an_equals_sign():
    with pytest.raises(BadRequestError, match="invalid parameter 'temperature'"):
        parse_assignments(["temperature"])


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_64_bit_integer_reads_back(number):
    assert parse_parameter("seed", str(number)) == number


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_float32_reads_back(number):
    assert parse_parameter("temperature", repr(number)) == number


def test_every_parameter_has_a_type():
    assert set(PARAMETERS.values()) == set(Kind) - {Kind.BIAS}
