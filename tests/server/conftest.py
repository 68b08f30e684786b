from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from http_calls import client, complaints, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx2

    from ollama_nb.client import LocalServer


@pytest.fixture(scope="session")
def api(server: LocalServer) -> Iterator[httpx2.Client]:
    """The shared server, which tests only ask."""
    with client(server.url) as calls:
        yield calls
    assert not complaints(server)


@pytest.fixture(scope="session")
def workshop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the workshop works."""
    return tmp_path_factory.mktemp("workshop")


@pytest.fixture(scope="session")
def workshop_store(workshop_folder: Path) -> Path:
    """The workshop's store."""
    return workshop_folder / "models"


@pytest.fixture(scope="session")
def workshop(workshop_folder: Path, start: Callable[..., LocalServer]) -> Iterator[LocalServer]:
    """A server whose models and blobs tests may change; each under names of its own."""
    with start(workshop_folder) as running:
        yield running
        assert not complaints(running)


@pytest.fixture(scope="session")
def unloaded(bench: httpx2.Client) -> Callable[[str], None]:
    """Lets a model of the workshop go, and what else is loaded: names of one file share its process, and later tests
    expect their own.
    """

    def loaded() -> list[str]:
        return [model["name"] for model in bench.get("/api/ps").json()["models"]]

    def unload(model: str) -> None:
        for name in {model, *loaded()}:
            bench.post("/api/generate", json={"model": name, "keep_alive": 0})
        until(lambda: not loaded(), f"{model} is unloaded")

    return unload


@pytest.fixture(scope="session")
def bench(workshop: LocalServer) -> Iterator[httpx2.Client]:
    """Calls to the workshop."""
    with client(workshop.url) as calls:
        yield calls
