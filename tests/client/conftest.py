from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from ollama_nb.client import history


def _load_standin():
    """Test folders are no packages, so the stand-in is loaded from its file."""
    path = Path(__file__).with_name("standin.py")
    spec = importlib.util.spec_from_file_location("ollama_nb_standin", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_standin = _load_standin()


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch, tmp_path):
    """No server of this machine's is found, and no history is left from other tests."""
    for name in ("OLLAMA_HOST", "OLLAMA_NB_ADDRESS", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    history.clear()


@pytest.fixture
def server():
    """A stand-in for the server."""
    with _standin.StandIn() as standin:
        yield standin


@pytest.fixture
def guarded():
    """A stand-in that asks for the token ``sesame``."""
    with _standin.StandIn(token="sesame") as standin:
        yield standin
