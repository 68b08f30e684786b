"""Modelfiles as values: built in Python, read from text, printed and read again."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb import Modelfile
from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.modelfile import ModelfileError, parse
from ollama_nb.wire.modelfile.syntax import quote, unprintable
from ollama_nb.wire.parameters import PARAMETERS, Kind

BUILT = (
    Modelfile("smollm2:135m")
    .system("You are Mario.")
    .parameter("temperature", 0.7)
    .parameter("num_ctx", 4096)
    .parameter("use_mmap", value=True)
    .stop("<|a|>", "b ")
    .message("user", "hi")
    .message("assistant", "It's me!")
    .template("{{ .Prompt }}\n")
    .license("MIT")
    .license("Two\nlines")
    .adapter(Path("lora.gguf"))
)
WRITTEN = """\
FROM smollm2:135m
ADAPTER lora.gguf
TEMPLATE "{{ .Prompt }}
"
SYSTEM You are Mario.
PARAMETER num_ctx 4096
PARAMETER stop <|a|>
PARAMETER stop "b "
PARAMETER temperature 0.7
PARAMETER use_mmap true
LICENSE MIT
LICENSE "Two
lines"
MESSAGE user hi
MESSAGE assistant It's me!
"""


def test_what_is_built_is_printed_as_a_modelfile_and_read_back():
    assert str(BUILT) == WRITTEN
    assert parse(WRITTEN) == BUILT
    assert hash(parse(WRITTEN)) == hash(BUILT)


def test_every_instruction_has_its_field():
    assert BUILT.from_ == ("smollm2:135m",)
    assert BUILT.adapters == ("lora.gguf",)
    assert (BUILT.template_text, BUILT.system_text) == ("{{ .Prompt }}\n", "You are Mario.")
    assert BUILT.licenses == ("MIT", "Two\nlines")
    assert BUILT.parameters == {"num_ctx": 4096, "stop": ("<|a|>", "b "), "temperature": 0.7, "use_mmap": True}
    assert [tuple(message) for message in BUILT.messages] == [("user", "hi"), ("assistant", "It's me!")]


def test_the_instructions_of_newer_versions_are_kept():
    modelfile = parse("FROM x\nRENDERER qwen3\nPARSER qwen3-coder\nREQUIRES v0.14.0\nDRAFT ./a b\nDRAFT c")
    assert (modelfile.renderer_name, modelfile.parser_name) == ("qwen3", "qwen3-coder")
    assert (modelfile.required_version, modelfile.drafts) == ("v0.14.0", ("./a b", "c"))
    assert parse(str(modelfile)) == modelfile


def test_a_step_gives_a_new_value_and_leaves_the_old_one():
    base = Modelfile("x")
    assert base.system("a") != base
    assert base.system_text is None
    with pytest.raises(AttributeError):
        base.system_text = "b"


def test_a_value_can_be_copied_and_sent_to_other_processes():
    assert pickle.loads(pickle.dumps(BUILT)) == BUILT  # noqa: S301 - our own
    assert copy.deepcopy(BUILT) == BUILT


def test_the_last_template_system_and_number_count_and_lists_grow():
    modelfile = parse(
        "FROM a.gguf\nSYSTEM one\nSYSTEM two\nTEMPLATE one\nTEMPLATE two\nPARAMETER seed 1\nPARAMETER seed 2\n"
        "PARAMETER stop a\nPARAMETER stop b\nLICENSE 1\nLICENSE 2\nADAPTER c\nADAPTER d\nFROM b.gguf"
    )
    assert modelfile.from_ == ("a.gguf", "b.gguf")
    assert (modelfile.system_text, modelfile.template_text) == ("two", "two")
    assert modelfile.parameters == {"seed": 2, "stop": ("a", "b")}
    assert (modelfile.licenses, modelfile.adapters) == (("1", "2"), ("c", "d"))


TEXT_OF = {Kind.INT: ("7", 7), Kind.FLOAT: ("0.25", 0.25), Kind.BOOL: ("false", False), Kind.STRINGS: ("7", ("7",))}


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_every_parameter_has_its_type(name):
    text, typed = TEXT_OF[PARAMETERS[name]]
    modelfile = parse(f"FROM x\nPARAMETER {name} {text}")
    assert modelfile.parameters == {name: typed}
    assert type(modelfile.parameters[name]) is type(typed)
    assert modelfile == Modelfile("x").parameter(name, typed)


@pytest.mark.parametrize(
    ("value", "written"), [(1e-7, "1e-7"), (1e-5, "0.00001"), (1, "1"), (1.0, "1"), ("1.50", "1.5"), (1e22, "1e+22")]
)
def test_numbers_are_written_as_short_as_they_can_be(value, written):
    assert f"PARAMETER temperature {written}\n" in str(Modelfile("x").parameter("temperature", value))


def test_a_parameter_that_ollama_has_given_up_is_dropped_with_a_warning():
    modelfile = parse("FROM x\nPARAMETER mirostat 1\nPARAMETER seed 1")
    assert modelfile.parameters == {"seed": 1}
    assert modelfile.warnings == ("warning: parameter mirostat is deprecated",)
    assert modelfile == Modelfile("x").parameter("seed", 1)


def test_what_reading_leaves_out_is_a_warning():
    modelfile = parse("FROM x\n\nSYSTEM a\u200bb")
    assert modelfile.system_text == "ab"
    assert modelfile.warnings == ("warning: line 3 loses what does not print: U+200B ZERO WIDTH SPACE",)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("", "no FROM line", None),
        ("SYSTEM a\n", "no FROM line", None),
        ("FROM x\nPARAMETER heat 1", "unknown parameter 'heat'", 2),
        ("FROM x\nPARAMETER temperature hot", "invalid float value [hot]", 2),
        ("FROM x\nPARAMETER num_ctx 1.5", "invalid int value [1.5]", 2),
        ("FROM x\nPARAMETER use_mmap maybe", "invalid bool value [maybe]", 2),
        ("FROM x\nREQUIRES latest", "requires must be a valid semver (e.g. 0.14.0)", 2),
        ("FROM \n", "FROM needs a path or a model's name, not ''", 1),
        ('FROM x\nADAPTER ""', "ADAPTER needs a path or a model's name, not ''", 2),
    ],
)
def test_what_a_modelfile_cannot_say_is_refused_with_its_line(text, message, line):
    with pytest.raises(ModelfileError) as caught:
        parse(text)
    assert (caught.value.message, caught.value.line) == (message, line)
    assert caught.value.hint is None or line is None or caught.value.hint.startswith(f"In line {line}.")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Modelfile, "no FROM line"),
        (lambda: Modelfile(""), "FROM needs a path or a model's name, not ''"),
        (lambda: Modelfile(3), "FROM needs a path or a model's name, not 3"),
        (lambda: BUILT.adapter(None), "ADAPTER needs a path or a model's name, not None"),
        (lambda: BUILT.parameter("heat", 1), "unknown parameter 'heat'"),
        (lambda: BUILT.parameter("num_ctx", 4096.0), "invalid int value [4096.0]"),
        (lambda: BUILT.parameter("num_ctx", value=True), "invalid int value [True]"),
        (lambda: BUILT.parameter("seed", [1, 2]), "invalid int value [[1, 2]]"),
        (lambda: BUILT.parameter("temperature", float("nan")), "invalid float value [nan]"),
        (lambda: BUILT.parameter("temperature", None), "invalid float value [None]"),
        (lambda: BUILT.parameter("use_mmap", "yes"), "invalid bool value [yes]"),
        (lambda: BUILT.parameter("stop", []), "PARAMETER stop needs a text"),
        (lambda: BUILT.stop(1), "PARAMETER stop takes text, not 1"),
        (lambda: BUILT.message("User", "x"), 'message role must be one of "system", "user", or "assistant"'),
        (lambda: BUILT.system(None), "SYSTEM takes text, not None"),
        (lambda: BUILT.requires("soon"), "requires must be a valid semver (e.g. 0.14.0)"),
        (
            lambda: BUILT.system("a\u200db"),
            "SYSTEM cannot hold U+200D ZERO WIDTH JOINER: Modelfiles leave out what does not print",
        ),
        (
            lambda: BUILT.template('print("""\n""")\n'),
            'TEMPLATE cannot hold a line that ends with """ before the last: Modelfiles end a text there',
        ),
    ],
)
def test_wrong_values_are_refused_where_they_are_given(build, message):
    with pytest.raises(BadRequestError) as caught:
        build()
    assert caught.value.message == message


ANY_TEXT = st.text(alphabet=st.sampled_from('""\' \t\n\r#:ab{é👋'), max_size=20) | st.text(max_size=20)
TEXTS = ANY_TEXT.filter(lambda text: quote(text) is not None and not unprintable(text))
PLACES = TEXTS.filter(bool)
ROLES = st.sampled_from(["system", "user", "assistant"])
VALUES = {
    Kind.INT: st.integers(-(1 << 63), (1 << 63) - 1),
    Kind.FLOAT: st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats(-1e6, 1e6),
    Kind.BOOL: st.booleans(),
    Kind.STRINGS: TEXTS | st.lists(TEXTS, min_size=1, max_size=3),
}


@st.composite
def modelfiles(draw):
    """Modelfiles with any instructions and any values that one can hold."""
    built = Modelfile(*draw(st.lists(PLACES, min_size=1, max_size=3)))
    for name in draw(st.lists(st.sampled_from(["system", "template", "license", "renderer", "parser"]), max_size=4)):
        built = getattr(built, name)(draw(TEXTS))
    for name in draw(st.lists(st.sampled_from(["adapter", "draft"]), max_size=2)):
        built = getattr(built, name)(draw(PLACES))
    for name in draw(st.lists(st.sampled_from(sorted(PARAMETERS)), max_size=4)):
        built = built.parameter(name, draw(VALUES[PARAMETERS[name]]))
    for role in draw(st.lists(ROLES, max_size=3)):
        built = built.message(role, draw(TEXTS))
    return built


@given(modelfiles())
def test_every_value_is_read_back_as_it_was_printed(modelfile):
    again = parse(str(modelfile))
    assert again == modelfile
    assert (again.warnings, str(again)) == ((), str(modelfile))


@given(ANY_TEXT)
def test_a_text_is_carried_unchanged_or_refused(text):
    try:
        modelfile = Modelfile("x").message("user", text).stop(text)
    except ModelfileError:
        assert unprintable(text) or quote(text) is None
    else:
        assert parse(str(modelfile)).messages[0].content == text
