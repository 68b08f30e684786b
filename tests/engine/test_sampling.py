"""Choosing tokens: the same ones that llama.cpp's own chain of samplers chooses from the whole vocabulary."""

import ctypes
from contextlib import closing, contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_cpp import llama_cpp as lib

from ollama_nb.engine.sampling import RecentTokens, Sampler, largest
from ollama_nb.runner.messages import Sampling

SIZE = 2000
CONTEXT = 512


def logits_of(seed: int, size: int = SIZE) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(size) * 4).astype(np.float32)


@contextmanager
def llama_chain(options: Sampling, recent: list[int]):
    """llama.cpp's samplers in Ollama's order, over every token; ``recent`` is what the penalties have seen."""
    window = CONTEXT if options.repeat_last_n < 0 else options.repeat_last_n
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for sampler in (
        lib.llama_sampler_init_penalties(
            SIZE, window, options.repeat_penalty, options.frequency_penalty, options.presence_penalty
        ),
        lib.llama_sampler_init_top_k(options.top_k),
        lib.llama_sampler_init_typical(options.typical_p, 1),
        lib.llama_sampler_init_top_p(options.top_p, 1),
        lib.llama_sampler_init_min_p(options.min_p, 1),
        lib.llama_sampler_init_temp(options.temperature),
        lib.llama_sampler_init_dist(options.seed),
    ):
        lib.llama_sampler_chain_add(chain, sampler)
    for token in recent:
        lib.llama_sampler_accept(chain, token)
    yield chain
    lib.llama_sampler_free(chain)


def apply(sampler, logits: np.ndarray) -> tuple[lib.llama_token_data_array, ctypes.Array]:
    data = (lib.llama_token_data * len(logits))()
    for index, logit in enumerate(logits):
        data[index].id, data[index].logit = index, logit
    array = lib.llama_token_data_array(data=data, size=len(logits), selected=-1, sorted=False)
    lib.llama_sampler_apply(sampler, ctypes.byref(array))
    return array, data


def draw(options: Sampling, logits: list[np.ndarray], prompt: list[int] | None = None, constraint=None) -> list[int]:
    with closing(Sampler(options, prompt or [], CONTEXT, constraint)) as sampler:
        return [sampler.sample(row.copy()) for row in logits]


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 1.5, "seed": 3}], ids=["greedy", "drawn"])
@pytest.mark.parametrize("bias", [{7: -100}, {7: 100}, {7: 2.5, 9: -1.0}, {7: 1e300}, {}], ids=repr)
def test_a_bias_is_added_before_everything(options, bias):
    rows = [logits_of(seed) for seed in range(20)]
    changed = [row.copy() for row in rows]
    for row in changed:
        for token, value in bias.items():
            row[token] += np.float32(min(value, 100))
    expected = draw(Sampling(**options), changed, [7, 8])
    assert draw(Sampling(logit_bias=bias, **options), rows, [7, 8]) == expected


@given(st.integers(1, 4000), st.integers(-1, 4100), st.integers(1, 1000), st.integers(0, 2**32 - 1))
def test_the_largest_values_are_those_that_sorting_finds(size, count, distinct, seed):
    values = np.random.default_rng(seed).integers(0, distinct, size).astype(np.float32)
    found = largest(values, count)
    wanted = size if count <= 0 else min(count, size)
    assert len(set(found.tolist())) == len(found) == wanted
    assert sorted(values[found], reverse=True) == sorted(values, reverse=True)[:wanted]


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(-1, 12))
def test_the_window_holds_the_last_tokens_and_no_others(tokens, window):
    logits = np.ones(10, dtype=np.float32)
    RecentTokens(window, tokens).penalise(logits, repeat=1.0, frequency=1.0, presence=0.0)
    last = tokens[-window:] if window > 0 else []
    assert logits.tolist() == [1 - last.count(token) for token in range(10)]


@pytest.mark.parametrize("repeat", [1.0, 1.1, 0.5, 2.0])
@pytest.mark.parametrize(("frequency", "presence"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.7), (-0.3, 1.5)])
@pytest.mark.parametrize("window", [0, 8, 64])
def test_penalties_are_those_of_llama_cpp(repeat, frequency, presence, window):
    recent = np.random.default_rng(window).integers(0, 40, 30).tolist()
    logits = logits_of(5, 60)
    sampler = lib.llama_sampler_init_penalties(60, window, repeat, frequency, presence)
    for token in recent:
        lib.llama_sampler_accept(sampler, token)
    array, data = apply(sampler, logits)
    reference = np.array([data[index].logit for index in range(array.size)], dtype=np.float32)
    lib.llama_sampler_free(sampler)
    RecentTokens(window, recent).penalise(logits, repeat=repeat, frequency=frequency, presence=presence)
    np.testing.assert_allclose(logits, reference, rtol=1e-6)


CHAINS = {
    "the defaults": {},
    "everything at once": {"typical_p": 0.7, "min_p": 0.05, "presence_penalty": 0.5, "frequency_penalty": 0.2},
    "top_k alone": {"top_p": 1.0, "repeat_penalty": 1.0},
    "no top_k": {"top_k": 0},
    "no top_k and nothing else": {"top_k": 0, "top_p": 1.0, "repeat_penalty": 1.0},
    "a top_k past the vocabulary": {"top_k": SIZE + 1},
    "a huge top_k and nothing else": {"top_k": 2**31 - 1, "top_p": 1.0},
    "top_k 1": {"top_k": 1},
    "top_k 64 and hot": {"top_k": 64, "temperature": 3.0, "top_p": 1.0},
    "min_p": {"min_p": 0.1, "top_p": 1.0},
    "typical_p": {"typical_p": 0.3, "top_p": 1.0},
    "a tiny top_p": {"top_p": 0.0},
    "cold": {"temperature": 0.05},
    "no window": {"repeat_last_n": 0},
    "the whole context as window": {"repeat_last_n": -1, "repeat_penalty": 1.5},
    "a short window": {"repeat_last_n": 3, "repeat_penalty": 2.0},
}


@pytest.mark.parametrize("fields", CHAINS.values(), ids=CHAINS.keys())
def test_the_cheap_cut_draws_what_llama_cpp_draws_from_the_whole_vocabulary(fields):
    rng = np.random.default_rng(11)
    for case in range(8):
        options = Sampling(seed=case, **fields)
        prompt = rng.integers(0, SIZE, 100).tolist()
        rows = [logits_of(1000 * case + step) for step in range(6)]
        reference = []
        with llama_chain(options, prompt) as chain:
            for row in rows:
                array, data = apply(chain, row)
                reference.append(int(array.data[array.selected].id))
                lib.llama_sampler_accept(chain, reference[-1])
                del data
        assert draw(options, rows, prompt) == reference


def test_at_temperature_zero_the_likeliest_token_is_taken():
    rows = [logits_of(step) for step in range(5)]
    options = Sampling(temperature=0, repeat_penalty=1.0)
    assert draw(options, rows) == [int(row.argmax()) for row in rows]


def test_the_likeliest_token_is_the_one_after_the_penalties():
    row = np.array([1.0, 3.0, 2.9], dtype=np.float32)
    assert draw(Sampling(temperature=0, repeat_penalty=1.1), [row, row, row]) == [1, 2, 1]


def test_the_prompt_counts_for_the_penalties():
    row = np.array([1.0, 3.0, 2.9], dtype=np.float32)
    assert draw(Sampling(temperature=0, repeat_penalty=1.1), [row], prompt=[1]) == [2]
    assert draw(Sampling(temperature=0, repeat_penalty=1.1, repeat_last_n=1), [row], prompt=[1, 0]) == [1]


def test_a_penalty_of_zero_is_no_end():
    assert 0 <= draw(Sampling(seed=1, repeat_penalty=0.0), [logits_of(1)], prompt=[1, 2])[0] < SIZE


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31, 2**40 + 5, -7])
def test_a_seed_repeats(seed):
    rows = [logits_of(step) for step in range(10)]
    options = Sampling(seed=seed, temperature=2.0, top_p=1.0)
    assert draw(options, rows) == draw(options, rows)


def test_different_seeds_and_no_seed_differ():
    rows = [np.zeros(SIZE, dtype=np.float32) for _ in range(10)]
    draws = [draw(Sampling(seed=seed, top_k=0, top_p=1.0), rows) for seed in (1, 2, -1, -1)]
    assert len({tuple(tokens) for tokens in draws}) == 4


class Only:
    """A constraint to the same tokens at each step."""

    is_complete = False

    def __init__(self, allowed: list[int]) -> None:
        self.allowed = np.array(sorted(allowed), dtype=np.intp)
        self.accepted: list[int] = []

    def accept(self, token: int) -> None:
        self.accepted.append(token)


@pytest.mark.parametrize("fields", [*CHAINS.values(), {"temperature": 0}], ids=[*CHAINS.keys(), "greedy"])
def test_what_a_constraint_allows_is_drawn_as_if_there_were_nothing_else(fields):
    rows = [logits_of(step) for step in range(8)]
    allowed = list(range(3, SIZE, 7))
    only = Only(allowed)
    drawn = draw(Sampling(seed=5, **fields), rows, constraint=only)
    assert drawn == [allowed[place] for place in draw(Sampling(seed=5, **fields), [row[allowed] for row in rows])]
    assert only.accepted == drawn


@pytest.mark.parametrize(
    "fields",
    [
        {"repeat_penalty": 0.0},
        {"repeat_penalty": -1.0},
        {"presence_penalty": 3.4e38, "frequency_penalty": 3.4e38},
        {"presence_penalty": -3.4e38},
    ],
)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("top_k", [0, 1, 40])
def test_no_penalty_makes_a_forbidden_token_possible(fields, temperature, top_k):
    options = Sampling(seed=1, temperature=temperature, top_k=top_k, **fields)
    rows = [logits_of(step) for step in range(4)]
    assert set(draw(options, rows, list(range(SIZE))[-60:], Only([7, SIZE - 1]))) <= {7, SIZE - 1}


def test_a_single_allowed_token_is_drawn_however_unlikely_it_is():
    row = np.zeros(SIZE, dtype=np.float32)
    row[9] = -1e30
    assert draw(Sampling(seed=1), [row], constraint=Only([9])) == [9]
    assert draw(Sampling(temperature=0), [row], constraint=Only([9])) == [9]


def test_a_closed_sampler_can_be_closed_again():
    sampler = Sampler(Sampling(seed=1), [], CONTEXT)
    sampler.close()
    sampler.close()
