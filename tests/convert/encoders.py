"""Tiny encoders with weights by chance, and their vectors by llama.cpp and by transformers.

Tokens are given by their ids, so that the tokenizer, which is tested elsewhere, has no part in what is compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import llama_cpp
import numpy as np
import torch
import transformers
from convert.reference import TEXT, convert, save_model, scramble
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NONE, MEAN, CLS, LAST = 0, 1, 2, 3
"""How the vectors of tokens become one, by llama.cpp's numbers."""

POSITIONS = 64
SHAPE = {
    "vocab_size": 300,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": POSITIONS,
}
GELU_TOLERANCE = 5e-3
"""Of the spread of the numbers: llama.cpp looks gelu up in a table of float16, for the tanh form of it."""

LENGTHS = (1, 2, 17, 48)


def word_pieces(folder: Path) -> transformers.PreTrainedTokenizerFast:
    """A WordPiece tokenizer of at most 300 tokens, saved to ``folder``."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=[*marks.values()], show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    ends = [(mark, tokenizer.token_to_id(mark)) for mark in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": mark for name, mark in marks.items()}
    )
    wrapped.save_pretrained(folder)
    return wrapped


def saved_encoder(
    folder: Path, config: transformers.PretrainedConfig, kind: type = transformers.AutoModel
) -> transformers.PreTrainedModel:
    """A model of ``config``, saved to ``folder`` with a tokenizer; ``kind`` may be a class that puts a head on top."""
    torch.manual_seed(0)
    model = kind.from_config(config).eval().to(torch.float32)
    scramble(model)
    word_pieces(folder)
    save_model(model, folder)
    return model


def token_ids(length: int) -> list[int]:
    """Ids of words, none of which is a mark."""
    return [int(number) for number in np.random.default_rng(length).integers(5, 300, length)]


def reference_vectors(
    model: transformers.PreTrainedModel, tokens: list[int], pooling: int = NONE
) -> NDArray[np.float32]:
    """transformers' vectors, of shape (tokens, width), or pooled to (width,)."""
    base = getattr(model, model.base_model_prefix, model)
    with torch.no_grad():
        hidden = base(torch.tensor([tokens])).last_hidden_state[0].numpy()
    return {NONE: hidden, MEAN: hidden.mean(axis=0), CLS: hidden[0], LAST: hidden[-1]}[pooling]


def gguf_vectors(path: Path, tokens: list[int], pooling: int = NONE) -> NDArray[np.float32]:
    """llama.cpp's vectors for the same tokens, of the same shape."""
    model = llama_cpp.Llama(
        str(path),
        embedding=True,
        n_ctx=POSITIONS,
        n_batch=POSITIONS,
        n_ubatch=POSITIONS,
        n_threads=1,
        n_threads_batch=1,
        pooling_type=pooling,
        verbose=False,
    )
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, 1
        context, width = model._ctx.ctx, model.n_embd()
        assert llama_cpp.llama_encode(context, batch) == 0
        if pooling == NONE:
            rows = (llama_cpp.llama_get_embeddings_ith(context, place) for place in range(len(tokens)))
            return np.array([np.ctypeslib.as_array(row, (width,)) for row in rows])
        return np.array(np.ctypeslib.as_array(llama_cpp.llama_get_embeddings_seq(context, 0), (width,)))
    finally:
        llama_cpp.llama_batch_free(batch)
        model.close()


def assert_same_vectors(path: Path, model: transformers.PreTrainedModel, tolerance: float) -> None:
    """Equal for texts of several lengths, for every token and however they are pooled.

    ``tolerance`` is relative to the spread of the numbers.
    """
    for length in LENGTHS:
        tokens = token_ids(length)
        spread = float(reference_vectors(model, tokens).std())
        for pooling in (NONE, MEAN, CLS):
            ours, theirs = gguf_vectors(path, tokens, pooling), reference_vectors(model, tokens, pooling)
            assert ours.shape == theirs.shape
            worst = float(np.abs(ours - theirs).max()) / spread
            assert worst <= tolerance, f"{length} tokens, pooling {pooling}: {worst:.2g} of the spread"


def assert_converts_alike(folder: Path, model: transformers.PreTrainedModel, tolerance: float) -> Path:
    """Convert a saved model and compare; the GGUF."""
    path = convert(folder, folder / "model.gguf")
    assert_same_vectors(path, model, tolerance)
    return path
