"""What quantizing costs a model in quality, and what it saves: its size and its perplexity over a page of prose.

Run as ``python tests/benchmarks/perplexity.py MODEL.gguf [--types q8_0 q4_K_M]``. A model that is quantized already is
first written in F16 again, and that file is what the others are compared with. The files are made by the same processes
that ``create`` uses. Perplexity is the exponential of the mean negative log likelihood of the tokens of a page
(``page.txt``, written for this), in windows of 512 tokens, each token given all those before it in its window.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import sys
import tempfile
from pathlib import Path

import numpy as np
from llama_cpp import llama_cpp as lib
from rich.console import Console
from rich.table import Table

from ollama_nb.convert.jobs import Done, Quantize
from ollama_nb.convert.process import run
from ollama_nb.convert.quantize import FLOAT_TYPES, quantization
from ollama_nb.gguf.reader import read_header

sys.path.insert(0, str(Path(__file__).parents[1]))
from f16_files import write_f16

PAGE = Path(__file__).with_name("page.txt")
NUM_CTX = 512
NO_MARKS = (False, False)
"""Of ``llama_tokenize``: no special tokens are put around the text, and none are looked for in it."""
DATA_TOO = True
TYPES = ("q8_0", "q4_K_M", "q4_K_S")


@lib.llama_log_callback
def _silent(*_: object) -> None:
    """llama.cpp's words are of no interest here."""


def perplexity(path: Path, text: str) -> float:
    """The perplexity of a model over a text."""
    model = lib.llama_model_load_from_file(bytes(path), lib.llama_model_default_params())
    if not model:
        raise SystemExit(f"{path} cannot be loaded")
    parameters = lib.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = NUM_CTX
    context = lib.llama_init_from_model(model, parameters)
    try:
        losses = np.concatenate([_losses(context, window) for window in _windows(model, text)])
    finally:
        lib.llama_free(context)
        lib.llama_model_free(model)
    return float(np.exp(losses.mean()))


def _windows(model: object, text: str) -> list[np.ndarray]:
    """The text's tokens, cut so that each window fits with the mark of a beginning where the model has one."""
    vocabulary, raw = lib.llama_model_get_vocab(model), text.encode()
    found = (lib.llama_token * (len(raw) + 8))()
    count = lib.llama_tokenize(vocabulary, raw, len(raw), found, len(found), *NO_MARKS)
    tokens = np.array(found[:count], dtype=np.int32)
    start = lib.llama_vocab_bos(vocabulary)
    head = np.array([start] if start >= 0 else [], dtype=np.int32)
    size = NUM_CTX - len(head)
    return [np.concatenate([head, tokens[first : first + size]]) for first in range(0, len(tokens), size)]


def _losses(context: object, tokens: np.ndarray) -> np.ndarray:
    """Negative log likelihoods of all tokens but the first, shape (tokens - 1,)."""
    lib.llama_memory_clear(lib.llama_get_memory(context), DATA_TOO)
    count = len(tokens)
    batch = lib.llama_batch_init(count, 0, 1)
    batch.n_tokens = count
    for row, token in enumerate(tokens):
        batch.token[row], batch.pos[row] = int(token), row
        batch.n_seq_id[row], batch.seq_id[row][0] = 1, 0
        batch.logits[row] = True
    status = lib.llama_decode(context, batch)
    lib.llama_batch_free(batch)
    if status:
        raise SystemExit(f"llama_decode failed with status {status}")
    num_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(lib.llama_get_model(context)))
    logits = np.ctypeslib.as_array(lib.llama_get_logits(context), (count, num_vocab))[:-1].astype(np.float64)
    highest = logits.max(axis=1)
    normaliser = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return normaliser - logits[np.arange(count - 1), tokens[1:]]


async def quantized(source: Path, folder: Path, name: str) -> Path:
    """The model as the type ``name``, a new file in the folder."""
    out = folder / f"{name}.gguf"
    job = Quantize(source=str(source), out=str(out), type=quantization(name))
    async with contextlib.aclosing(run(job)) as events:
        async for event in events:
            if isinstance(event, Done):
                for note in event.notes:
                    print(f"{name}: {note}")
    return out


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--types", nargs="+", default=TYPES)
    arguments = parser.parse_args()
    lib.llama_log_set(_silent, ctypes.c_void_p(0))
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = arguments.model
        if read_header(source).file_type not in FLOAT_TYPES:
            print("The model is quantized; writing it in F16 first.")
            source = write_f16(source, folder / "f16.gguf")
        files = {read_header(source).file_type: source}
        for wanted in arguments.types:
            files[wanted] = asyncio.run(quantized(source, folder, wanted))
        table = Table("type", "MB", "perplexity", "to the first")
        first = 0.0
        for label, path in files.items():
            value = perplexity(path, text)
            first = first or value
            table.add_row(label, f"{path.stat().st_size / 1e6:.1f}", f"{value:.3f}", f"{value / first:.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
