"""Modelfiles as text: the grammar, its errors, and the quotes that values need."""

from __future__ import annotations

import codecs
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.wire.gostrings import is_printable
from ollama_nb.wire.modelfile import ModelfileError, quote, syntax
from ollama_nb.wire.modelfile.syntax import read_commands, unprintable

COMMANDS = 'command must be one of "from", "license", "template", "system", "adapter", "parameter", or "message"'
ROLES = 'message role must be one of "system", "user", or "assistant"'


def read(data):
    """The instructions as pairs, with a parameter's name or a role before the value."""
    return [
        (command.name, f"{command.key}: {command.value}" if command.key else command.value)
        for command in read_commands(data)
    ]


def value(text):
    """The value of the one instruction that is not FROM."""
    return read(f"FROM x\n{text}")[1][1]


def refused(data):
    with pytest.raises(ModelfileError) as caught:
        list(read_commands(data))
    return caught.value


def test_a_modelfile_is_read_in_order():
    text = '''
FROM model1
ADAPTER adapter1
LICENSE MIT
PARAMETER num_ctx 4096
PARAMETER stop <|eot_id|>
TEMPLATE """{{ if .System }}<|system|>

{{ .System }}{{ end }}
{{ .Response }}"""   \t
MESSAGE user Hey: there!
RENDERER qwen3
PARSER qwen3
REQUIRES 0.14.0
DRAFT ./small
'''
    assert read(text) == [
        ("from", "model1"),
        ("adapter", "adapter1"),
        ("license", "MIT"),
        ("parameter", "num_ctx: 4096"),
        ("parameter", "stop: <|eot_id|>"),
        ("template", "{{ if .System }}<|system|>\n\n{{ .System }}{{ end }}\n{{ .Response }}"),
        ("message", "user: Hey: there!"),
        ("renderer", "qwen3"),
        ("parser", "qwen3"),
        ("requires", "0.14.0"),
        ("draft", "./small"),
    ]


@pytest.mark.parametrize("name", ["FROM", "from", "From", "fRoM"])
def test_instructions_are_in_any_case(name):
    assert read(f"{name} x") == [("from", "x")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("FROM foo", "foo"),
        ("FROM     FOOO BAR    ", "FOOO BAR"),
        ("FROM\tfoo\t", "foo"),
        ('FROM "FOO  BAR  "', "FOO  BAR  "),
        ('FROM "     model 1"', "     model 1"),
        ("FROM /what/is/the path ", "/what/is/the path"),
        ("FROM llama3:7b-instruct-q4_K_M", "llama3:7b-instruct-q4_K_M"),
        ("   \t FROM foo", "foo"),
        ("FROM ", ""),
        ("FROM foo # no comment", "foo # no comment"),
    ],
)
def test_a_value_ends_with_its_line_and_blanks_around_it_do_not_count(line, expected):
    assert read(line) == [("from", expected)]
    assert read(f"{line}\n") == [("from", expected)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('SYSTEM """\nThis is a\nmultiline system.\n"""\n\t\t\t', "\nThis is a\nmultiline system.\n"),
        ('SYSTEM """This is a\nmultiline system."""', "This is a\nmultiline system."),
        ('SYSTEM """one line"""', "one line"),
        ('SYSTEM """\nwith "quotes".\n"""', '\nwith "quotes".\n'),
        ('SYSTEM """"""', ""),
        ('SYSTEM ""', ""),
        ('SYSTEM "\'"', "'"),
        ("SYSTEM 'plain'", "'plain'"),
        ("""SYSTEM \"\"\"''"'""'""'"'''''""'""'\"\"\"""", """''"'""'""'"'''''""'""'"""),
        ('SYSTEM "a\n b "', "a\n b "),
        ('SYSTEM "a" b"', 'a" b'),
        ('SYSTEM "a" b\nc"', 'a" b\nc'),
        ('SYSTEM "a"  \t\nLICENSE MIT', "a"),
        ('SYSTEM "\na"', "\na"),
        ('SYSTEM """"a""""', '"a"'),
        ('SYSTEM """""\nx"""', '""\nx'),
        ('SYSTEM a "quoted" word', 'a "quoted" word'),
        ('SYSTEM ends"', 'ends"'),
        ("SYSTEM a\tb", "a\tb"),
        ('SYSTEM """a\r\nb\r"""', "a\r\nb\r"),
        ("SYSTEM # is a sign", "# is a sign"),
        ('SYSTEM "\n# is no comment\n"', "\n# is no comment\n"),
        ("SYSTEM 你好👋", "你好👋"),
    ],
)
def test_quotes_carry_lines_and_blanks_and_only_their_end_counts(text, expected):
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PARAMETER stop ### User:", "stop: ### User:"),
        ("PARAMETER stop ### User: ", "stop: ### User:"),
        ('PARAMETER stop "### User: "', "stop: ### User: "),
        ('PARAMETER stop """### User:\n"""', "stop: ### User:\n"),
        ("PARAMETER stop </s>", "stop: </s>"),
        ("PARAMETER   temperature   1.0", "temperature: 1.0"),
        ("parameter use_mmap true", "use_mmap: true"),
        ("MESSAGE system You are. Always.", "system: You are. Always."),
        ("MESSAGE \t user   hi", "user: hi"),
        ('MESSAGE assistant """\nlines\n"""', "assistant: \nlines\n"),
        ("MESSAGE user ", "user: "),
    ],
)
def test_parameters_and_messages_have_a_name_before_their_value(text, expected):
    assert value(text) == expected


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_end_with_any_newline_and_count_once(newline):
    lines = ["# comment", "FROM x", "", "  # another", "SYSTEM s", "NOPE y"]
    assert read(newline.join(lines[:-1])) == [("from", "x"), ("system", "s")]
    assert refused(newline.join(lines)).message == f"(line 6): {COMMANDS}"


def test_a_comment_ends_with_its_line_and_may_be_the_last():
    assert read("#FROM a\nFROM b#c\n# end") == [("from", "b#c")]


@pytest.mark.parametrize("text", ["FROM bob\nSYSTEM 你好👋 ü\n", "FROM bob"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_bytes_are_utf8_or_say_by_their_first_bytes_what_else(text, mark, encoding):
    assert read(mark + text.encode(encoding)) == read(text)


def test_a_byte_order_mark_in_a_text_does_not_count():
    assert read("\ufeffFROM x") == [("from", "x")]


@pytest.mark.parametrize(
    "data", [b"FROM \xff\xff", b"GGUF\x03\x00\xb1\x00", codecs.BOM_UTF16_LE + b"F\x00R", "é".encode("latin-1")]
)
def test_bytes_that_are_no_text_are_refused_or_no_modelfile(data):
    with pytest.raises(ModelfileError):
        list(read_commands(data))


@pytest.mark.parametrize("char", ["\0", "\x07", "\u200b", "\u200d", "\u00a0", "\u3000", "\ue000", "\ud800"])
def test_what_does_not_print_is_left_out_of_values_and_told(char):
    (command,) = read_commands(f"FROM a{char}b")
    assert (command.value, command.lost) == ("ab", char)
    (command,) = read_commands(f'SYSTEM {char}"a\n{char}b"{char}')
    assert (command.value, command.lost) == ("a\nb", char)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("FROM foo\nBADCOMMAND param1 value1\n", f"(line 2): {COMMANDS}", 2),
        ("\n\nFRM foo", f"(line 3): {COMMANDS}", 3),
        ("FROM foo\nSYSTEM\nLICENSE x", f"(line 2): {COMMANDS}", 2),
        ("FROM#foo", f"(line 1): {COMMANDS}", 1),
        ("FROM2 foo", f"(line 1): {COMMANDS}", 1),
        ('"FROM foo"', f"(line 1): {COMMANDS}", 1),
        ('FROM foo\nSYSTEM "a\nb\n"\nNOPE x', f"(line 5): {COMMANDS}", 5),
        ("FROM foo\nMESSAGE badguy I'm bad\n", f"(line 2): {ROLES}", 2),
        ("FROM foo\nMESSAGE User hi\n", f"(line 2): {ROLES}", 2),
        ("FROM foo\nMESSAGE system\n", "unexpected EOF: system", 2),
        ("FROM foo\nMESSAGE system", "unexpected EOF", 2),
        ("FROM foo\nMESSAGE us-er hi", "unexpected EOF: us", 2),
        ("FROM foo\nPARAMETER param1\n", "unexpected EOF: param1", 2),
        ("FROM foo\nPARAMETER param1", "unexpected EOF", 2),
        ("FROM foo\nPARAMETER top-k 1", "unexpected EOF: top", 2),
        ("FROM foo\nPARAMETER \n", "unexpected EOF: ", 2),
        ("FROM foo\nSYSTEM", "unexpected EOF", 2),
        ('FROM foo\nSYSTEM """This is one.""\n', "unexpected EOF", 2),
        ('FROM foo\nSYSTEM "\n', "unexpected EOF", 2),
        ('FROM foo\nSYSTEM """""\n', "unexpected EOF", 2),
        ('FROM foo\n\nSYSTEM "a" b\nLICENSE MIT', "unexpected EOF", 3),
    ],
)
def test_errors_have_ollamas_words_and_know_their_line(text, message, line):
    error = refused(text)
    assert (error.message, error.line, error.status) == (message, line, 400)
    assert error.hint


def test_hints_say_what_the_short_texts_do_not():
    assert refused("FROM x\nSYSTEM").hint == "The Modelfile ends with: SYSTEM"
    assert refused("FROM x\nSYSTEM\n").hint == "SYSTEM needs a value on its line."
    assert refused("FROM x\nPARAMETR a 1").hint == "Line 2 reads: PARAMETR a 1"
    assert refused('FROM x\nSYSTEM "a').hint == "The quotes that open at SYSTEM in line 2 never close."
    assert len(refused(f"NOPE {'x' * 1000}").hint) < 120


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", "plain"),
        ("", ""),
        ('in"side', 'in"side'),
        ('"begins', '""""begins"""'),
        ('"', '"""""""'),
        (" blank", '" blank"'),
        ("tab\t", '"tab\t"'),
        ("two\nlines", '"two\nlines"'),
        ("old\rlines", '"old\rlines"'),
        ('two "\nlines', '"""two "\nlines"""'),
        ('ends"""', 'ends"""'),
        ('a\nb"""', '"""a\nb""""""'),
        ('""\na', '"""""\na"""'),
        ('a"""\nb', None),
        ('a""" \t\r\nb', None),
        ('"""\n', None),
    ],
)
def test_values_are_quoted_only_where_they_must_be(text, quoted):
    assert quote(text) == quoted


TEXTS = st.text(alphabet=st.sampled_from('""" \t\n\r#ab\'é👋'), max_size=24)


@given(TEXTS)
def test_a_quoted_value_reads_back_whatever_stands_around_it(text):
    quoted = quote(text)
    if quoted is not None:
        assert read(f"SYSTEM {quoted}\nFROM x") == [("system", text), ("from", "x")]
        assert read(f"SYSTEM {quoted}") == [("system", text)]


@given(TEXTS)
def test_no_quotes_are_given_only_where_none_would_do(text):
    def survives(written):
        try:
            return read(f"SYSTEM {written}\n") == [("system", text)]
        except ModelfileError:
            return False

    forms = (text, f'"{text}"', f'"""{text}"""')
    assert any(map(survives, forms)) == (quote(text) is not None)


@given(st.text() | st.binary() | TEXTS.map(lambda text: f"FROM x\nSYSTEM {text}"))
def test_anything_is_read_or_refused_in_words(data):
    try:
        commands = list(read_commands(data))
    except ModelfileError as error:
        assert str(error)  # noqa: PT017 - whether there is one depends on the text
    else:
        assert not any(unprintable(command.value) for command in commands)


def test_of_a_long_text_each_character_is_looked_at_and_not_each_place(monkeypatch):
    looked_at = Counter()

    def look(char):
        looked_at[char] += 1
        return is_printable(char)

    monkeypatch.setattr(syntax, "is_printable", look)
    text = "Sch\u00f6ne Gr\u00fc\u00dfe\u200b." * 1000
    (command,) = read_commands(f'SYSTEM """{text}"""')
    assert (command.value, command.lost) == (text.replace("\u200b", ""), "\u200b")
    assert max(looked_at.values()) < 10
