"""Numbers and texts of config.json with their types."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.convert.config import Config
from ollama_nb.convert.errors import ConvertError

DEEP = json.loads("[" * 500 + "]" * 500)
WRONG_NUMBERS = [None, True, "5", [], {}, 1.0, 0.5, -1, 1 << 31, 10**400, -(10**400), float("nan"), DEEP, {"a": DEEP}]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("value", WRONG_NUMBERS)
def test_a_whole_number_is_nothing_else(value):
    with pytest.raises(ConvertError, match=r"config\.json: \"a\"") as caught:
        Config({"a": value}).whole("a")
    assert len(caught.value.message) < 200


def test_a_whole_number_has_limits():
    assert Config({"a": 5}).whole("a", least=5, most=5) == 5
    assert Config({"a": (1 << 31) - 1}).whole("a") == (1 << 31) - 1
    for value in (4, 6):
        with pytest.raises(ConvertError, match="must be a whole number from 5 to 5, not"):
            Config({"a": value}).whole("a", least=5, most=5)
    with pytest.raises(ConvertError, match="must be a whole number from 1 on, not 0"):
        Config({"a": 0}).whole("a", least=1)


@pytest.mark.parametrize("value", [True, "1", [], {}, float("nan"), float("inf"), -float("inf"), 1e39, 10**400, DEEP])
def test_a_number_is_finite_also_in_32_bits(value):
    with pytest.raises(ConvertError, match="must be a number") as caught:
        Config({"a": value}).number("a")
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("value", [0, -1, 1 << 31, 3.4028234663852886e38, -3.4028234663852886e38, 1e-320, -0.0])
def test_other_numbers_are_numbers(value):
    found = Config({"a": value}).number("a")
    assert isinstance(found, float)
    assert found == value


def test_the_first_name_that_is_there_counts_and_null_is_not_there():
    config = Config({"a": None, "b": 2, "c": 3})
    assert config.whole("a", "b", "c") == 2
    assert config.whole("a", default=7) == 7
    assert "a" not in config
    assert "b" in config
    with pytest.raises(ConvertError, match='"a" is missing'):
        config.whole("a")


def test_texts_flags_and_lists_have_their_types():
    config = Config({"t": "x", "f": False, "l": [1, 2.5]})
    assert (config.text("t"), config.flag("f"), config.floats("l", 2)) == ("x", False, [1.0, 2.5])
    for call in (
        lambda: config.text("f"),
        lambda: config.flag("t"),
        lambda: config.floats("l", 3),
        lambda: config.floats("t", 1),
        lambda: Config({"l": [1, None]}).floats("l", 2),
        lambda: Config({"l": [1, "2"]}).floats("l", 2),
        lambda: Config({"l": [1, float("inf")]}).floats("l", 2),
    ):
        with pytest.raises(ConvertError):
            call()


@pytest.mark.parametrize("value", [None, [], {}, "Llama", [None], [1], [[]], ["a\nb"], ["x" * 200], ["\x1b[31m"]])
def test_an_architecture_is_a_short_text(value):
    with pytest.raises(ConvertError, match="architecture") as caught:
        Config({"architectures": value}).architecture()
    assert caught.value.message.isprintable()


def test_the_language_model_of_a_model_that_sees_is_inside():
    config = Config({"vocab_size": 1, "tie": True, "text_config": {"vocab_size": 2}}).language()
    assert (config.whole("vocab_size"), config.flag("tie")) == (2, True)
    with pytest.raises(ConvertError, match='"text_config" must be an object'):
        Config({"text_config": 5}).language()


def test_the_base_of_positions_is_where_either_version_has_it():
    assert Config({}).rope_theta() == 10000
    assert Config({"rope_theta": 5}).rope_theta() == 5
    assert Config({"rope_theta": 5, "rope_parameters": {"rope_theta": 6}}).rope_theta() == 6
    for value in (0, -1, "x", float("inf")):
        with pytest.raises(ConvertError, match="rope_theta"):
            Config({"rope_theta": value}).rope_theta()


@given(st.dictionaries(st.sampled_from(["a", "architectures", "text_config", "rope_scaling", "rope_theta"]), anything))
def test_whatever_stands_there_every_getter_gives_its_type_or_a_clear_error(values):
    config = Config(values)
    for get, kind in (
        (lambda: config.whole("a"), int),
        (lambda: config.number("a"), float),
        (lambda: config.text("a"), str),
        (lambda: config.flag("a"), bool),
        (lambda: config.floats("a", 1), list),
        (lambda: config.sub("a"), Config),
        (config.architecture, str),
        (config.language, Config),
        (config.rope_theta, float),
    ):
        try:
            found = get()
        except ConvertError as error:
            assert len(error.message) < 300  # noqa: PT017 - either is right
        else:
            assert isinstance(found, kind)
