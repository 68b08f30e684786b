"""Go's fmt: verbs, flags and the texts that stand where a verb does not fit."""

from __future__ import annotations

import math

import pytest

from ollama_nb.prompt.gotemplate.format import sprint, sprintf, sprintln
from ollama_nb.prompt.gotemplate.jsontext import UnsupportedValueError, json_text
from ollama_nb.prompt.gotemplate.prompt_types import Message, PropertyType, ToolCall, Tools
from ollama_nb.prompt.gotemplate.values import Byte, GoMap
from ollama_nb.wire.gofloats import format_float
from ollama_nb.wire.gostrings import quote, quote_rune, unquote, unquote_char


@pytest.mark.parametrize(
    ("template", "values", "output"),
    [
        ("%v %d %s", (None, None, None), "<nil> %!d(<nil>) %!s(<nil>)"),
        ("%d%%|%5d|%-5d|%05d|%+d|% d", (1, 2, 3, 4, 5, 6), "1%|    2|3    |00004|+5| 6"),
        ("%x %X %#x %o %O %#o %b %#b", (255, 255, 255, 8, 8, 8, 5, 5), "ff FF 0xff 10 0o10 010 101 0b101"),
        ("%.3d|%8.3d|%.0d|", (7, 7, 0), "007|     007||"),
        ("%c%c %q %#U %U", (97, 0x4E16, 97, 97, -1), "a世 'a' U+0061 'a' U+FFFFFFFFFFFFFFFF"),
        ("%c %q", (0xD800, 1 << 40), "� '�'"),
        ("%s|%.2s|%5s|%-5s|%05s", ("abc", "日本語", "ab", "ab", "ab"), "abc|日本|   ab|ab   |000ab"),
        ("%q %+q %#q %#q", ("é\n", "é😀", "a", "`"), '"é\\n" "\\u00e9\\U0001f600" `a` "`"'),
        ("%x % x %#x %# X %.1x", ("é", "ab", "ab", "ab", "ab"), "c3a9 61 62 0x6162 0X61 0X62 61"),
        (
            "%v %g %e %f %.1f %8.2f|%-8.2f|",
            (1e6, 0.1, 1.0, 1.5, 0.25, 1.0, 1.0),
            "1e+06 0.1 1.000000e+00 1.500000 0.2     1.00|1.00    |",
        ),
        ("%v %v %v %v", (123456.0, 1234567.0, 1e-4, 1e-5), "123456 1.234567e+06 0.0001 1e-05"),
        ("%6.3v|%.3g|%G|%E", (3.14159, 1234567.0, 1e-10, 1.0), "  3.14|1.23e+06|1E-10|1.000000E+00"),
        ("%#v %#g %#.3x", (1.0, 1.0, 1.0), "1 1.00000 0x1.000p+00"),
        ("%08.2f|%+08.2f|% .1f", (-1.5, 1.5, 2.0), "-0001.50|+0001.50| 2.0"),
        ("%v %+v %6v|%06v", (math.inf, math.inf, -math.inf, math.nan), "+Inf +Inf   -Inf|   NaN"),
        ("%x %b %.1x %x", (1.0, 1.0, 1.95, 0.0), "0x1p+00 4503599627370496p-52 0x1.fp+00 0x0p+00"),
        ("%v %.1f %d", (1 + 2j, 1 - 2j, 1j), "(1+2i) (1.0-2.0i) %!d(complex128=(0+1i))"),
        ("%t %5t %d", (True, False, True), "true false %!d(bool=true)"),
        ("%v %d %x %s %q", (b"ab", b"ab", b"ab", b"ab", b"ab"), '[97 98] [97 98] 6162 ab "ab"'),
        ("%v %T %#v", (Byte(7), Byte(7), Byte(7)), "7 uint8 0x7"),
        ("%v %+v %d", ([1, None], {"b": 1, "a": [2]}, ["x", 2]), "[1 <nil>] map[a:[2] b:1] [%!d(string=x) 2]"),
        ("%#v", ({"a": [None, "x", 1.5]},), 'map[string]interface {}{"a":[]interface {}{interface {}(nil), "x", 1.5}}'),
        ("%#v", (GoMap(),), "map[string]interface {}(nil)"),
        ("%T %T %T %T", (None, "", [], {}), "<nil> string []interface {} map[string]interface {}"),
        ("%[2]d %[1]d %d", (1, 2), "2 1 2"),
        ("%[2]*[1]d|%-*d|", (1, 5), "    1|%!d(MISSING)|"),
        ("%[3]d %[x]d %[1", (1,), "%!d(BADINDEX) %!d(BADINDEX) %!(NOVERB)"),
        ("%d %d", (1,), "1 %!d(MISSING)"),
        ("%d", (1, "x", None), "1%!(EXTRA string=x, <nil>)"),
        ("%z %!", (1, 2), "%!z(int=1) %!!(int=2)"),
        ("%", (), "%!(NOVERB)"),
        ("%.*d|%.*d", (3, 7, "x", 7), "007|%!(BADPREC)7"),
        ("%-*d|%*d|", (-3, 1, -3, 1), "1  |1  |"),
        ("%99999999999d", (1,), "%!(NOVERB)%!(EXTRA int=1)"),
        ("%p", (1,), "%!p(int=1)"),
    ],
)
def test_sprintf(template: str, values: tuple, output: str) -> None:
    assert sprintf(template, *values) == output


@pytest.mark.parametrize(
    ("values", "printed", "line"),
    [
        ((), "", "\n"),
        ((1, 2, "a", 3, None, None), "1 2a3 <nil> <nil>", "1 2 a 3 <nil> <nil>\n"),
        (("a", "b"), "ab", "a b\n"),
        ((True, 1.0, [1]), "true 1 [1]", "true 1 [1]\n"),
    ],
)
def test_print_parts_what_is_no_string(values: tuple, printed: str, line: str) -> None:
    assert sprint(*values) == printed
    assert sprintln(*values) == line


def test_a_struct_prints_its_fields_and_a_pointer_its_mark() -> None:
    message = Message(Role="user", Content="hi")
    assert sprintf("%v", message) == "&{user hi  [] [] }"
    assert sprintf("%+v", ToolCall()) == "{Function:{Index:0 Name: Arguments:map[]}}"
    assert sprintf("%T %T", message, ToolCall()) == "*api.Message api.ToolCall"
    assert sprintf("%v", [message]) == "[0xc000000000]"


def test_a_type_of_its_own_says_itself() -> None:
    assert sprintf("%s %v %d", Tools(), PropertyType(["string"]), PropertyType(["a", "b"])) == (
        "null string [%!d(string=a) %!d(string=b)]"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e21, "1e+21"),
        (1e20, "100000000000000000000"),
        (1e-6, "0.000001"),
        (1.5e-7, "1.5e-7"),
        (-0.0, "-0"),
        (12.5, "12.5"),
        ("<\u2028\b\x7f/é", '"\\u003c\\u2028\\b\x7f/é"'),
        ({"b": None, "a": [True, {}, []]}, '{"a":[true,{},[]],"b":null}'),
        (b"ab", '"YWI="'),
    ],
)
def test_json_is_go_s(value: object, text: str) -> None:
    assert json_text(value) == text


@pytest.mark.parametrize("value", [1j, math.inf, math.nan, object()])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(UnsupportedValueError):
        json_text(value)


def test_quotes_are_go_s() -> None:
    assert quote('a"\\\x00\x7f\u200b\U0001f600') == '"a\\"\\\\\\x00\\x7f\\u200b\U0001f600"'
    assert quote_rune(39) == "'\\''"
    assert unquote('"\\xe9\\303\\251\\u00e9"') == "\udce9éé"
    assert unquote("`a\r\\n`") == "a\\n"
    assert unquote('"\\\'"') is None
    assert [unquote_char(text) for text in ("'a'", "'\\''", "'\\xff'", "'\\U00110000'", "'ab'")] == [
        97,
        39,
        255,
        None,
        None,
    ]


def test_floats_as_short_as_possible() -> None:
    assert [format_float(value, "f") for value in (1.0, 0.1, 1e7)] == ["1", "0.1", "10000000"]
    assert [format_float(value, "e") for value in (1.0, 1.25e-9)] == ["1e+00", "1.25e-09"]
