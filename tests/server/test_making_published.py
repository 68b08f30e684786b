"""Published folders on their way from ``ollama-nb create`` to an answer: what is sent, what is told, what it can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from convert.published import build
from convert.published_decoders import PHIS
from convert.published_encoders import ENCODERS
from convert.published_gemmas import GEMMAS
from convert.published_llamas import LLAMAS, MISTRALS
from samples import create

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx2

    from ollama_nb.client import LocalServer

QUESTION = {"role": "user", "content": "Where are the boats?"}
WRITERS = {
    "TinyLlama-1.1B-Chat-v1.0": LLAMAS,  # a pickle of the same weights
    "Llama-3.2-1B-Instruct": LLAMAS,  # a pickle and another tokenizer in a folder below
    "Mistral-7B-Instruct-v0.3": MISTRALS,  # the same weights in a second file
    "gemma-3-1b-it": GEMMAS,  # a token without a row
    "Phi-3-mini-4k-instruct": PHIS,
}
EMBEDDERS = ("bert-base-uncased", "bge-m3", "nomic-embed-text-v1.5", "Qwen3-Embedding-0.6B")


@pytest.fixture
def made(
    workshop: LocalServer, bench: httpx2.Client, unloaded: Callable[[str], None], tmp_path: Path
) -> Iterator[Callable[[str, Any], dict[str, Any]]]:
    """Makes a model of a folder as a user does; what ``show`` says of it. It is gone after the test."""
    names = []

    def make(name: str, models: Any) -> dict[str, Any]:
        folder = build(models[name], tmp_path / name).path
        create(name, f"FROM {folder}\n", workshop.url)
        names.append(name)
        return bench.post("/api/show", json={"model": name}).json()

    yield make
    for name in names:
        unloaded(name)
        bench.request("DELETE", "/api/delete", json={"model": name})


@pytest.mark.parametrize("name", WRITERS)
def test_a_published_folder_becomes_a_model_that_chats(
    name: str, bench: httpx2.Client, made: Callable[[str, Any], dict[str, Any]]
) -> None:
    model = WRITERS[name][name]
    shown = made(name, WRITERS[name])
    assert shown["capabilities"][0] == "completion"
    request = {"model": name, "messages": [QUESTION], "stream": False, "options": {"num_predict": 3, "num_thread": 1}}
    answer = bench.post("/api/chat", json=request).json()
    # Its own words and marks for that question are the prompt, whether by a known template or by its own.
    bare = model.prompt.removeprefix(model.config["bos_token_id"])
    assert answer["prompt_eval_count"] == _count(bench, name, bare)
    assert answer["done"]


@pytest.mark.parametrize("name", EMBEDDERS)
def test_a_published_folder_becomes_a_model_that_embeds(
    name: str, bench: httpx2.Client, made: Callable[[str, Any], dict[str, Any]]
) -> None:
    assert made(name, ENCODERS)["capabilities"] == ["embedding"]
    response = bench.post("/api/embed", json={"model": name, "input": ["boats", "x"], "options": {"num_thread": 1}})
    vectors = response.json()["embeddings"]
    assert [len(vector) for vector in vectors] == [64, 64]
    assert vectors[0] != vectors[1]


def _count(bench: httpx2.Client, name: str, text: str) -> int:
    """The tokens of a text, as the model reads it."""
    options = {"num_predict": 1, "num_thread": 1}
    request = {"model": name, "prompt": text, "raw": True, "stream": False, "options": options}
    return int(bench.post("/api/generate", json=request).json()["prompt_eval_count"])
