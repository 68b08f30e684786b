from __future__ import annotations

import pytest

from ollama_nb.wire.errors import OllamaError
from ollama_nb.wire.options import Options, merge_options
from ollama_nb.wire.parameters import OPTIONS, PARAMETERS, Kind

INTEGERS = sorted(name for name, kind in PARAMETERS.items() if kind is Kind.INT)
FLOATS = sorted(name for name, kind in PARAMETERS.items() if kind is Kind.FLOAT)


def one(name, value):
    return getattr(merge_options(4096, {name: value}), name)


def refusal(name, value):
    with pytest.raises(OllamaError) as caught:
        one(name, value)
    return caught.value.status, caught.value.message


def test_every_parameter_is_an_option_and_all_options_but_one_are_parameters():
    assert set(OPTIONS) == set(Options.__struct_fields__)
    assert set(OPTIONS) - set(PARAMETERS) == {"logit_bias"}


@pytest.mark.parametrize("bias", [{}, {"15043": -100}, {"0": 1.5, "2": 7}, {3: 1}])
def test_a_bias_has_tokens_as_json_writes_them(bias):
    assert one("logit_bias", bias) == {int(token): float(value) for token, value in bias.items()}


@pytest.mark.parametrize(
    "value",
    [[], "x", 1, True, {"a": 1}, {"1.5": 1}, {"1_0": 1}, {" 1": 1}, {chr(0x661): 1}, {"9" * 20: 1}, {"": 1}]
    + [{"1": value} for value in ("1", None, True, [], float("nan"), float("inf"))],
    ids=repr,
)
def test_a_bias_of_another_type_is_refused(value):
    assert refusal("logit_bias", value) == (400, 'option "logit_bias" must be a map of token ids to numbers')


def test_the_defaults_are_ollamas_and_the_context_is_the_servers():
    assert merge_options(2048) == Options(
        num_ctx=2048, num_batch=512, num_keep=4, num_predict=-1, seed=-1, top_k=40, top_p=0.9, min_p=0.0,
        typical_p=1.0, temperature=0.8, repeat_last_n=64, repeat_penalty=1.1, presence_penalty=0.0,
        frequency_penalty=0.0, stop=(), num_gpu=-1, main_gpu=0, num_thread=0, use_mmap=None,
    )  # fmt: skip


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", ["1", True, [1], {}, 1e300, float("nan"), float("inf")], ids=repr)
def test_an_integer_option_of_another_type_is_refused(name, value):
    assert refusal(name, value) == (400, f'option "{name}" must be of type integer')


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", ["1", False, [1.0], {}, float("nan"), float("-inf")], ids=repr)
def test_a_float_option_of_another_type_is_refused(name, value):
    assert refusal(name, value) == (400, f'option "{name}" must be of type float32')


@pytest.mark.parametrize("value", ["true", 1, 0, []], ids=repr)
def test_a_boolean_option_of_another_type_is_refused(value):
    assert refusal("use_mmap", value) == (400, 'option "use_mmap" must be of type boolean')


@pytest.mark.parametrize("value", ["x", 1, {"a": "b"}, True], ids=repr)
def test_stop_must_be_a_list(value):
    assert refusal("stop", value) == (400, 'option "stop" must be of type array')


@pytest.mark.parametrize("value", [[1], ["a", None], [["a"]]], ids=repr)
def test_stop_must_be_a_list_of_strings(value):
    assert refusal("stop", value) == (400, 'option "stop" must be of an array of strings')


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize(("value", "number"), [(7.9, 7), (-7.9, -7), (7, 7), (0.5, 0)])
def test_integers_are_cut_toward_zero(name, value, number):
    assert one(name, value) == number


@pytest.mark.parametrize("name", FLOATS)
def test_floats_take_whole_numbers(name):
    value = one(name, 1)
    assert value == 1.0
    assert type(value) is float


def test_lists_and_switches_are_taken_as_they_are():
    assert one("stop", ["a", "b"]) == ("a", "b")
    assert merge_options(4096, {"use_mmap": False}).use_mmap is False


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_a_null_leaves_what_was_said_before(name):
    before = {"stop": ["a"], "use_mmap": True}.get(name, 3)
    merged = merge_options(4096, {name: before}, {name: None})
    assert merged == merge_options(4096, {name: before})


@pytest.mark.parametrize("name", ["tempature", "mirostat", "low_vram", "", "Temperature"])
def test_unknown_names_are_passed_over(name):
    assert merge_options(4096, {name: "anything"}) == merge_options(4096)


def test_the_request_wins_over_the_model_and_lists_replace():
    model = {"temperature": 0.1, "top_k": 5, "stop": ["a", "b"], "num_ctx": 100}
    merged = merge_options(4096, model, {"temperature": 0.2, "stop": ["c"]})
    assert (merged.temperature, merged.top_k, merged.stop, merged.num_ctx) == (0.2, 5, ("c",), 100)


def test_a_models_own_parameter_of_the_wrong_type_is_no_fault_of_the_request():
    with pytest.raises(OllamaError, match='option "top_k" must be of type integer') as caught:
        merge_options(4096, {"top_k": "many"}, {})
    assert caught.value.status == 500
