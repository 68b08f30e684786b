from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path

import pytest

from ollama_nb.gguf.ggml_types import FILE_TYPES, GGML_TYPES


def library(name: str) -> ctypes.CDLL:
    """A library of the llama-cpp-python that is installed, without importing its Python part."""
    package = find_spec("llama_cpp")
    folder = Path(package.origin).parent / "lib" if package and package.origin else Path()
    found = sorted(folder.glob(f"*{name}.*"))
    if not found:
        pytest.skip(f"llama-cpp-python has no {name} here")
    return ctypes.CDLL(str(found[0]))


def test_every_type_has_the_name_and_size_that_ggml_gives_it():
    ggml = library("ggml-base")
    ggml.ggml_type_name.restype = ctypes.c_char_p
    ggml.ggml_blck_size.restype = ctypes.c_int64
    ggml.ggml_type_size.restype = ctypes.c_size_t
    for code, stored in GGML_TYPES.items():
        name = ggml.ggml_type_name(code).decode().upper()
        assert (name, ggml.ggml_blck_size(code), ggml.ggml_type_size(code)) == (
            stored.name,
            stored.block_size,
            stored.type_size,
        )


def test_every_file_type_is_one_that_llama_cpp_names_alike():
    llama = library("llama")
    llama.llama_ftype_name.restype = ctypes.c_char_p
    sizes = {"_S": "Small", "_M": "Medium", "_L": "Large"}
    for code, name in FILE_TYPES.items():
        words = llama.llama_ftype_name(code).decode().removeprefix("all ").split(" ")
        stem = words[0]
        if "K" in stem and len(words) > 1:
            stem += next((short for short, long in sizes.items() if long == words[-1]), "")
        # The mixes: Q2_K is the medium one, and IQ3_M is called a mix of IQ3_S.
        assert name in {stem, stem.removesuffix("_M")} or (name, words[1:2]) == ("IQ3_M", ["mix"])


@pytest.mark.parametrize(
    ("code", "name", "block", "size"),
    [(0, "F32", 1, 4), (3, "Q4_1", 32, 20), (12, "Q4_K", 256, 144), (30, "BF16", 1, 2), (39, "MXFP4", 32, 17)],
)
def test_the_usual_types_have_their_sizes(code, name, block, size):
    stored = GGML_TYPES[code]
    assert (stored.name, stored.block_size, stored.type_size) == (name, block, size)
