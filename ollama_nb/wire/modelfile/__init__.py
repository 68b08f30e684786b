"""Modelfiles: the value that one is, read from text, built step by step in Python, and printed as text again.

``syntax`` knows instructions and quotes, ``value`` what the instructions mean together. Whether a FROM is a file or a
model's name depends on a disk, so it is left to ``client.modelfolder``.
"""

from __future__ import annotations

from ollama_nb.wire.modelfile.syntax import ModelfileError, quote
from ollama_nb.wire.modelfile.value import Message, Modelfile, parse

__all__ = ["Message", "Modelfile", "ModelfileError", "parse", "quote"]
