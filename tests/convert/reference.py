"""Tiny models with weights by chance, saved by transformers, and what transformers and llama.cpp make of them.

transformers with torch is the reference; llama.cpp reads the GGUF that the conversion has made. The same tokens must
give the same logits in both, but for the rounding of float32.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import llama_cpp
import numpy as np
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from ollama_nb.convert.model import convert_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

torch.set_num_threads(1)

TEXT = (
    "The harbour lights went out one after the other, and the boats came home in the dark. 1984, 2048 and 65536 are "
    "numbers; def f(x): return x + 1 is code. Ein Käfer läuft über die Brücke, un garçon mange une pêche. "
)
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
VOCABULARY = 320
"""Tokens of the tiny tokenizer: all bytes, a few words, and the marks of beginning and end."""


def tiny_tokenizer(folder: Path, **special: str) -> transformers.PreTrainedTokenizerFast:
    """A byte-level BPE of ``VOCABULARY`` tokens, split as Llama 3's, saved to ``folder``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    marks = ["<|begin_of_text|>", "<|end_of_text|>", *special.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=marks,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=marks[0], eos_token=marks[1], **special
    )
    wrapped.save_pretrained(folder)
    return wrapped


def save_model(model: transformers.PreTrainedModel, folder: Path, *, shard: str | None = None) -> None:
    """Save a model's config and weights; ``shard`` such as ``20KB`` cuts the weights into files of that size."""
    model.save_pretrained(folder, **({} if shard is None else {"max_shard_size": shard}))


def random_model(config: transformers.PretrainedConfig, seed: int = 0) -> transformers.PreTrainedModel:
    """The causal language model of ``config``, in float32, with weights by chance, norms and biases included."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().to(torch.float32)
    scramble(model)
    return model


def scramble(model: torch.nn.Module) -> None:
    """Norms that are one and biases that are nought hide mistakes: every parameter gets numbers by chance."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                around = 0.0 if name.endswith("bias") else parameter.mean()
                parameter.copy_(around + 0.2 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)


def model_files(folder: Path) -> dict[str, Path]:
    """The files of a saved model as a create request names them."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def convert(folder: Path, out: Path, type_name: str = "F32") -> Path:
    """The GGUF of a saved model."""
    convert_model(model_files(folder), out, type_name, lambda _done, _total: None)
    return out


def reference_logits(model: transformers.PreTrainedModel, tokens: list[int]) -> NDArray[np.float32]:
    """transformers' logits, of shape (tokens, vocabulary)."""
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float().numpy()


@contextlib.contextmanager
def loaded(path: Path, **options: Any) -> Iterator[llama_cpp.Llama]:
    """The GGUF in llama.cpp, on one thread."""
    model = llama_cpp.Llama(
        str(path),
        n_ctx=256,
        n_threads=1,
        n_threads_batch=1,
        logits_all=True,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        verbose=False,
        **options,
    )
    try:
        yield model
    finally:
        model.close()


def gguf_logits(path: Path, tokens: list[int], **options: Any) -> NDArray[np.float32]:
    """llama.cpp's logits for the same tokens, of the same shape."""
    with loaded(path, **options) as model:
        model.eval(tokens)
        return np.array(model.scores[: len(tokens)])


def assert_same_logits(ours: NDArray[np.float32], theirs: NDArray[np.float32], tolerance: float = 2e-3) -> None:
    """The same ranking of the likeliest tokens at every position, and numbers that differ by rounding only.

    ``tolerance`` is relative to the spread of the logits; the ranking is compared where neighbours are further apart
    than that.
    """
    assert ours.shape == theirs.shape
    spread = float(theirs.std())
    worst = float(np.abs(ours - theirs).max()) / spread
    assert worst <= tolerance, f"logits differ by {worst:.2g} of their spread"
    np.testing.assert_array_equal(ours.argmax(axis=1), theirs.argmax(axis=1))
    for mine, reference in zip(ours, theirs, strict=True):
        order = np.argsort(-reference)[:10]
        apart = -np.diff(reference[order]) > 2 * tolerance * spread
        assert (np.diff(mine[order])[apart] < 0).all()
