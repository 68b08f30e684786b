"""What kernels, scripts and the command line use to talk to a server: HTTP only, nothing of the server itself.

``discovery`` finds a server, ``local`` starts one, ``protocol`` knows the requests and replies without any I/O,
``http`` sends them, ``models``, ``vectors`` and ``results`` are what comes back. A new model is a ``recipe`` made of a
Modelfile and what ``modelfolder`` finds, and a ``creation`` while it is made.
"""

from __future__ import annotations

from ollama_nb.client.creation import AsyncCreation, Creation
from ollama_nb.client.discovery import Server, find_server
from ollama_nb.client.http import AsyncClient, Client
from ollama_nb.client.local import LocalServer, start_server
from ollama_nb.client.models import ModelCard, ModelSummary, Progress, RunningModel
from ollama_nb.client.results import ChatResult, Chunk, GenerateResult, Record, Timings, history
from ollama_nb.client.stream import AsyncStream, Stream
from ollama_nb.client.vectors import Embeddings

__all__ = [
    "AsyncClient",
    "AsyncCreation",
    "AsyncStream",
    "ChatResult",
    "Chunk",
    "Client",
    "Creation",
    "Embeddings",
    "GenerateResult",
    "LocalServer",
    "ModelCard",
    "ModelSummary",
    "Progress",
    "Record",
    "RunningModel",
    "Server",
    "Stream",
    "Timings",
    "find_server",
    "history",
    "start_server",
]
