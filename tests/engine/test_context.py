"""What a model is for, and the context that it gets for it."""

from __future__ import annotations

import pytest

from ollama_nb.engine.context import EMBEDDING_SEQUENCES, ContextShape, Purpose, context_shape, purpose
from ollama_nb.runner.messages import Load


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"general.architecture": "llama"}, Purpose.GENERATE),
        ({"general.architecture": "llama", "llama.pooling_type": "0"}, Purpose.GENERATE),
        ({"general.architecture": "qwen3", "qwen3.pooling_type": "3"}, Purpose.EMBED_LAST),
        ({"general.architecture": "bert", "bert.pooling_type": "1"}, Purpose.EMBED_WHOLE),
        ({"general.architecture": "bert", "bert.pooling_type": "2"}, Purpose.EMBED_WHOLE),
        ({"general.architecture": "bert", "bert.attention.causal": "false"}, Purpose.EMBED_WHOLE),
        ({"general.architecture": "x", "x.attention.causal": "false", "x.pooling_type": "3"}, Purpose.EMBED_WHOLE),
        ({"general.architecture": "x", "x.attention.causal": "true", "y.pooling_type": "1"}, Purpose.GENERATE),
        ({"general.architecture": "x", "x.pooling_type": "strange"}, Purpose.GENERATE),
        ({}, Purpose.GENERATE),
    ],
)
def test_the_header_says_what_a_model_is_for(metadata, expected):
    assert purpose(metadata.get) is expected


@pytest.mark.parametrize(
    ("load", "num_ctx_train", "purpose", "expected"),
    [
        ({"num_ctx": 100, "num_seq": 4}, 0, Purpose.GENERATE, ContextShape(100, 4, 400, unified=False)),
        ({"num_ctx": 4096}, 2048, Purpose.GENERATE, ContextShape(2048, 1, 512, unified=False)),
        ({"num_ctx": 4, "num_seq": 4, "num_batch": 2}, 0, Purpose.GENERATE, ContextShape(4, 4, 4, unified=False)),
        # A whole text stands in a batch, whatever size was asked for; and no position beyond the trained ones is had.
        ({"num_ctx": 4096}, 512, Purpose.EMBED_WHOLE, ContextShape(512, EMBEDDING_SEQUENCES, 512, unified=True)),
        ({"num_ctx": 4096}, 8192, Purpose.EMBED_WHOLE, ContextShape(4096, EMBEDDING_SEQUENCES, 4096, unified=True)),
        ({"num_ctx": 4096}, 8192, Purpose.EMBED_LAST, ContextShape(4096, EMBEDDING_SEQUENCES, 512, unified=True)),
        ({"num_ctx": 8, "num_batch": 4}, 0, Purpose.EMBED_LAST, ContextShape(8, 4, 4, unified=True)),
        ({"num_ctx": 8}, 0, Purpose.EMBED_WHOLE, ContextShape(8, 8, 8, unified=True)),
    ],
)
def test_a_context_fits_the_purpose(load, num_ctx_train, purpose, expected):
    assert context_shape(Load(model="/m", **load), num_ctx_train, purpose) == expected
