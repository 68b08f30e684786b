"""Ollama for people who live in notebooks: a complete model server inside Jupyter.

Importing this module is cheap: it loads neither numpy nor pandas nor llama_cpp. What is heavy is loaded by the
process that needs it: the server, the model's own process, the function that makes a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ollama_nb.client import AsyncClient, Client
    from ollama_nb.wire.modelfile import Modelfile

__version__ = "0.1.0"

__all__ = ["AsyncClient", "Client", "Modelfile", "__version__", "load_ipython_extension"]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """``%load_ext ollama_nb``: the magics ``%ollama`` and ``%%ollama``."""
    from ollama_nb.notebook.magics import load_ipython_extension as load  # noqa: PLC0415 - IPython is loaded by now

    load(shell)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """How Jupyter Server finds the extension."""
    from ollama_nb.extension import OllamaExtension  # noqa: PLC0415 - only a server needs it

    return [{"module": "ollama_nb.extension", "app": OllamaExtension}]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute
    if name in ("AsyncClient", "Client"):
        from ollama_nb import client  # noqa: PLC0415 - httpx2 is loaded when a client is asked for

        return getattr(client, name)
    if name == "Modelfile":
        from ollama_nb.wire.modelfile import Modelfile  # noqa: PLC0415 - the same for what it loads

        return Modelfile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
