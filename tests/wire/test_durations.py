from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.wire.durations import (
    FOREVER,
    MICROSECOND,
    MILLISECOND,
    MINUTE,
    SECOND,
    format_duration,
    format_rfc3339,
    parse_duration,
    parse_keep_alive,
)
from ollama_nb.wire.errors import BadRequestError

HOUR = 60 * MINUTE
MICRO = "\u00b5"
MU = "\u03bc"


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("+0", 0),
        ("0s", 0),
        ("5s", 5 * SECOND),
        ("+5s", 5 * SECOND),
        ("-1s", -SECOND),
        ("1.5s", 1500 * MILLISECOND),
        (".5s", 500 * MILLISECOND),
        ("5.s", 5 * SECOND),
        ("1.0s", SECOND),
        ("1.004s", 1004 * MILLISECOND),
        ("100.00100s", 100 * SECOND + MILLISECOND),
        ("10ns", 10),
        ("11us", 11 * MICROSECOND),
        (f"12{MICRO}s", 12 * MICROSECOND),
        (f"12{MU}s", 12 * MICROSECOND),
        ("13ms", 13 * MILLISECOND),
        ("14s", 14 * SECOND),
        ("15m", 15 * MINUTE),
        ("16h", 16 * HOUR),
        ("3h30m", 3 * HOUR + 30 * MINUTE),
        ("10.5s4m", 4 * MINUTE + 10500 * MILLISECOND),
        ("-2m3.4s", -(2 * MINUTE + 3400 * MILLISECOND)),
        ("1h2m3s4ms5us6ns", HOUR + 2 * MINUTE + 3 * SECOND + 4 * MILLISECOND + 5 * MICROSECOND + 6),
        ("0.0000000009s", 0),
        ("0.9999999999999999999999999999s", SECOND),
        ("9007199254.740993ms", 9007199254740993),
        ("9223372036854775807ns", FOREVER),
        ("-9223372036854775808ns", -(1 << 63)),
        ("0.3333333333333333333h", 20 * MINUTE),
        ("0.100000000000000000000h", 6 * MINUTE),
        ("0.830103483285477580700h", 49 * MINUTE + 48 * SECOND + 372539827),
        ("0." + "0" * 5000 + "1h", 0),
        ("0" * 5000 + "1h", HOUR),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text, nanoseconds):
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("1.5", 'time: missing unit in duration "1.5"'),
        ("-5", 'time: missing unit in duration "-5"'),
        ("abc", 'time: invalid duration "abc"'),
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        (".", 'time: invalid duration "."'),
        (".s", 'time: invalid duration ".s"'),
        ("+.s", 'time: invalid duration "+.s"'),
        ("--1s", 'time: invalid duration "--1s"'),
        (" 1s", 'time: invalid duration " 1s"'),
        ("\u0663s", 'time: invalid duration "\\xd9\\xa3s"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1e3s", 'time: unknown unit "e" in duration "1e3s"'),
        ("1s ", 'time: unknown unit "s " in duration "1s "'),
        ("1S", 'time: unknown unit "S" in duration "1S"'),
        ('"\\', 'time: invalid duration "\\"\\\\"'),
        ("\n\ud800", 'time: invalid duration "\\x0a\\xed\\xa0\\x80"'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("9223372036854775.808us", 'time: invalid duration "9223372036854775.808us"'),
        ("2562048h", 'time: invalid duration "2562048h"'),
        ("2562047h48m", 'time: invalid duration "2562047h48m"'),
        ("-9223372036854775809ns", 'time: invalid duration "-9223372036854775809ns"'),
        ("9" * 5000 + "s", 'time: invalid duration "' + "9" * 5000 + 's"'),
    ],
)
def test_a_text_that_is_no_duration_is_refused_in_gos_words(text, error):
    with pytest.raises(BadRequestError) as caught:
        parse_duration(text)
    assert caught.value.message == error


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1100, f"1.1{MICRO}s"),
        (2200 * MICROSECOND, "2.2ms"),
        (150 * MILLISECOND, "150ms"),
        (1500 * MILLISECOND, "1.5s"),
        (SECOND, "1s"),
        (5 * MINUTE, "5m0s"),
        (HOUR, "1h0m0s"),
        (HOUR + 30 * MINUTE, "1h30m0s"),
        (5 * MINUTE + 5001 * MILLISECOND, "5m5.001s"),
        (-SECOND, "-1s"),
        (-1, "-1ns"),
        (FOREVER, "2562047h47m16.854775807s"),
        (-(1 << 63), "-2562047h47m16.854775808s"),
    ],
)
def test_a_duration_is_printed_as_go_prints_it(nanoseconds, text):
    assert format_duration(nanoseconds) == text


@given(st.integers(-(1 << 63), FOREVER))
def test_what_is_printed_reads_back_as_the_same_duration(nanoseconds):
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@given(st.text() | st.text("0123456789.-hmsnu"))
def test_any_text_is_a_duration_of_64_bits_or_a_bad_request(text):
    try:
        duration = parse_duration(text)
    except BadRequestError:
        return
    assert -(1 << 63) <= duration <= FOREVER


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        (None, None),
        (0, 0),
        (42, 42 * SECOND),
        (42.5, 42500 * MILLISECOND),
        (0.5, 500 * MILLISECOND),
        (-1, FOREVER),
        (-0.1, FOREVER),
        (1 << 40, FOREVER),
        (float("inf"), FOREVER),
        ("42s", 42 * SECOND),
        ("5m", 5 * MINUTE),
        ("0", 0),
        ("-1s", FOREVER),
        ("-1m", FOREVER),
    ],
)
def test_keep_alive_is_seconds_or_a_duration_and_negative_means_forever(value, nanoseconds):
    assert parse_keep_alive(value) == nanoseconds


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
        (float("nan"), 'time: invalid duration "NaN"'),
        ("5", 'time: missing unit in duration "5"'),
        ("abc", 'time: invalid duration "abc"'),
        ("", 'time: invalid duration ""'),
    ],
)
def test_a_keep_alive_of_another_kind_is_a_bad_request_in_ollamas_words(value, error):
    with pytest.raises(BadRequestError) as caught:
        parse_keep_alive(value)
    assert (caught.value.status, caught.value.message) == (400, error)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (500 * MILLISECOND, "1970-01-01T00:00:00.5Z"),
        (1753869600 * SECOND + 123456789, "2025-07-30T10:00:00.123456789Z"),
        (1753869600 * SECOND + 120000000, "2025-07-30T10:00:00.12Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (-62135596800 * SECOND, "0001-01-01T00:00:00Z"),
        (1753869600 * SECOND + FOREVER, "2317-11-09T09:47:16.854775807Z"),
    ],
)
def test_a_moment_is_written_in_utc_with_no_more_digits_than_it_needs(nanoseconds, text):
    assert format_rfc3339(nanoseconds) == text


@pytest.fixture
def zone(monkeypatch):
    def use(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield use
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("UTC0", "2025-07-30T10:00:00.5Z"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "2025-07-30T12:00:00.5+02:00"),
        ("XXX-5:30", "2025-07-30T15:30:00.5+05:30"),
        ("XXX+3:30", "2025-07-30T06:30:00.5-03:30"),
    ],
)
def test_a_local_moment_carries_the_offset_of_its_zone(zone, name, text):
    zone(name)
    assert format_rfc3339(1753869600 * SECOND + 500 * MILLISECOND, local=True) == text


def test_a_local_moment_has_the_offset_of_its_own_season(zone):
    zone("CET-1CEST,M3.5.0,M10.5.0/3")
    assert format_rfc3339(1735689600 * SECOND, local=True) == "2025-01-01T01:00:00+01:00"


def test_a_moment_past_the_calendar_is_refused():
    with pytest.raises(OverflowError):
        format_rfc3339(1 << 80)
