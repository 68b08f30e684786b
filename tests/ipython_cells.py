"""Cells run in a plain IPython, as in a terminal, that knows the magics."""

from __future__ import annotations

import atexit
import contextlib
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from ollama_nb.notebook.magics import load_ipython_extension

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["plain_shell", "run"]


@contextlib.contextmanager
def plain_shell() -> Iterator[InteractiveShell]:
    """An IPython of one's own, without a history; it talks to the server that ``OLLAMA_HOST`` names."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    load_ipython_extension(shell)
    yield shell
    shell.atexit_operations()
    atexit.unregister(shell.atexit_operations)


def run(shell: InteractiveShell, source: str) -> Any:
    """Run a cell as a user would; the value of its last line."""
    done = shell.run_cell(source)
    done.raise_error()
    return done.result
