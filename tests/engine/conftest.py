"""The sample model inside the tests' own process, one context for each shape that the tests ask for."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest
from engine.bench import Bench, Watched

from ollama_nb.engine.model import Model
from ollama_nb.runner.messages import Load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def _loaded(sample_gguf: Path) -> Callable[..., Model]:
    @cache
    def load(num_ctx: int, num_seq: int, num_batch: int) -> Model:
        # One thread: beside other busy processes llama.cpp's threads wait for each other more than they compute.
        frame = Load(model=str(sample_gguf), num_ctx=num_ctx, num_seq=num_seq, num_batch=num_batch, num_thread=1)
        return Model(frame, lambda _: None)

    return load


@pytest.fixture
def load(_loaded: Callable[..., Model]) -> Callable[..., Model]:
    """``load(num_ctx, num_seq, num_batch)``: SmolLM2 with an empty cache; the weights are read once a shape."""

    def empty(num_ctx: int = 256, num_seq: int = 4, num_batch: int = 64) -> Model:
        model = _loaded(num_ctx, num_seq, num_batch)
        for sequence in range(num_seq):
            model.forget(sequence, 0)
        model.clear_abort()
        return model

    return empty


@pytest.fixture
def bench(load):
    """``bench(num_ctx, num_seq, num_batch)``: a batcher on an empty cache."""

    def make(num_ctx=256, num_seq=4, num_batch=64, *, wrapper=Watched, **changed) -> Bench:
        return Bench(wrapper(load(num_ctx, num_seq, num_batch), **changed), num_seq)

    return make
