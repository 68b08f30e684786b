"""One server for all clients, and the models that they ask: SmolLM2 under several names, in one process.

Clients that can say nothing of threads or temperature ask models whose parameters say it; clients that cannot demand
a tool call ask one whose own messages are a few calls, which even a small model goes on with.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from http_calls import client, complaints
from samples import SMOLLM2
from templates import INSERT, THINKING, TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ollama_nb.client import LocalServer

# Read when litellm is imported: prices from its own file, not from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

SMALL = {"num_thread": 1, "temperature": 0, "num_predict": 8, "repeat_penalty": 1}
"""The parameters of ``small``: a short answer, always the same, and of the likeliest tokens."""

CALLING = {"num_thread": 1, "temperature": 0, "num_predict": 80, "repeat_penalty": 1}
"""The parameters of those that call: room for a call, and nothing against saying the same again."""

WEATHER = ("Paris", "Oslo", "Cairo")
"""The cities that ``caller`` has called ``get_weather`` for before anyone asks it."""


def earlier_calls() -> list[dict[str, str]]:
    """A conversation in which every question is answered by a call, as the template ``TOOLS`` writes one."""
    return [
        message
        for city in WEATHER
        for message in (
            {"role": "user", "content": f"What is the weather in {city}?"},
            {
                "role": "assistant",
                "content": f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>',
            },
        )
    ]


MODELS: dict[str, dict[str, Any]] = {
    "small": {"parameters": SMALL},
    "tools": {"parameters": CALLING, "template": TOOLS},
    "caller": {"parameters": CALLING, "template": TOOLS, "messages": earlier_calls()},
    "thinker": {"parameters": SMALL, "template": THINKING},
    "filler": {"parameters": SMALL, "template": INSERT},
}


@pytest.fixture(scope="session")
def compat(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., LocalServer]) -> Iterator[LocalServer]:
    """The server; a test that makes a model takes it away again."""
    folder = tmp_path_factory.mktemp("compat")
    with start(folder, OLLAMA_CONTEXT_LENGTH="1024", OLLAMA_NUM_PARALLEL="4") as server:
        with client(server.url) as calls:
            for name, fields in MODELS.items():
                made = calls.post("/api/create", json={"model": name, "from": SMOLLM2, "stream": False, **fields})
                assert made.json() == {"status": "success"}, made.text
        yield server
        assert not complaints(server)


@pytest.fixture(scope="session")
def url(compat: LocalServer) -> str:
    """Where clients of Ollama's own API go."""
    return compat.url


@pytest.fixture(scope="session")
def v1(url: str) -> str:
    """Where clients of OpenAI's API go."""
    return f"{url}/v1"


@pytest.fixture(scope="session")
def kill_model(compat: LocalServer) -> Callable[[], None]:
    """Kills the process of the loaded model; the server starts another for the next request."""

    def is_model(process: psutil.Process) -> bool:
        try:
            return "ollama_nb.runner.worker" in process.cmdline()
        except psutil.NoSuchProcess:  # it has ended meanwhile
            return False

    def kill() -> None:
        models = [child for child in psutil.Process(compat.pid).children(recursive=True) if is_model(child)]
        assert models
        for model in models:
            os.kill(model.pid, signal.SIGKILL)

    return kill
