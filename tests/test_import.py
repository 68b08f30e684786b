"""Importing the package is cheap, and its public names are what they are meant to be."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ollama_nb

HEAVY = ("numpy", "pandas", "llama_cpp", "tornado", "IPython", "httpx2", "matplotlib")


def test_importing_loads_nothing_heavy():
    code = f"import sys, ollama_nb; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_loading_the_magics_loads_neither_numpy_nor_pandas_nor_llama_cpp():
    code = (
        "import sys, ollama_nb.notebook.magics\n"
        "print([name for name in ('numpy', 'pandas', 'llama_cpp') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names():
    assert sorted(ollama_nb.__all__) == ["AsyncClient", "Client", "Modelfile", "__version__", "load_ipython_extension"]
    assert all(getattr(ollama_nb, name) is not None for name in ollama_nb.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        _ = ollama_nb.nothing
