from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from ipython_cells import plain_shell

_path = Path(__file__).parents[1] / "client" / "conftest.py"
_spec = importlib.util.spec_from_file_location("client_conftest", _path)
_client = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_client)

# The same stand-in and the same empty surroundings as the client's tests have.
nothing_around = _client.nothing_around
server = _client.server


@pytest.fixture
def shell(server, monkeypatch):
    """A plain IPython that knows the stand-in."""
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    with plain_shell() as shell:
        yield shell
