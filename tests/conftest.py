"""What all tests share: the sample model, a store that holds it, and one real server for those who only ask."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import hypothesis
import pytest
from f16_files import write_f16
from gguf_files import gguf_bytes as write_gguf
from no_way_out import no_way_out
from samples import SMOLLM2, SMOLLM2_SHA256, default_cache, smollm2_gguf
from smollm2_folder import write_smollm2

from ollama_nb.client import LocalServer, start_server
from ollama_nb.store.drafts import ModelDraft
from ollama_nb.store.models import ModelStore
from ollama_nb.wire.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# The same examples at every run, so that what passes once passes again; `--hypothesis-profile=explore` looks for more.
# No example has a time limit: machines are slow and shared.
hypothesis.settings.register_profile("explore", print_blob=True, deadline=None)
hypothesis.settings.register_profile("repeat", derandomize=True, print_blob=True, deadline=None)
hypothesis.settings.load_profile("repeat")


@pytest.fixture(scope="session", autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No server, store or setting of this machine is seen or touched by a test, and none goes beyond the machine."""
    folder = tmp_path_factory.mktemp("surroundings")
    with no_way_out() as proxies, pytest.MonkeyPatch.context() as patch:
        for name, value in proxies.items():
            patch.delenv(name.lower(), raising=False)
            patch.setenv(name, value)
        for name in ("OLLAMA_HOST", "OLLAMA_NB_ADDRESS", "OLLAMA_API_KEY", "OLLAMA_DEBUG", "OLLAMA_ORIGINS"):
            patch.delenv(name, raising=False)
        patch.setenv("OLLAMA_MODELS", str(folder / "models"))
        patch.setenv("OLLAMA_NB_HOME", str(folder / "home"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        patch.setenv("JUPYTER_CONFIG_DIR", str(folder / "config"))
        patch.setenv("JUPYTER_DATA_DIR", str(folder / "data"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        yield


@pytest.fixture(scope="session")
def gguf_bytes() -> Callable[..., bytes]:
    """The writer of small GGUF files: ``gguf_bytes(metadata, tensors, version=3)``."""
    return write_gguf


@pytest.fixture(scope="session")
def sample_gguf() -> Path:
    """SmolLM2-135M-Instruct, a real model of 98 MB."""
    return smollm2_gguf(default_cache())


@pytest.fixture(scope="session")
def smollm2_folder(sample_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as transformers would save it, 270 MB in two shards of safetensors."""
    return write_smollm2(sample_gguf, tmp_path_factory.mktemp("transformers") / "SmolLM2-135M-Instruct")


@pytest.fixture(scope="session")
def smollm2_f16(sample_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a GGUF in F16, 270 MB."""
    return write_f16(sample_gguf, tmp_path_factory.mktemp("f16") / "f16.gguf")


@pytest.fixture(scope="session")
def make_store(sample_gguf: Path) -> Callable[[Path], Path]:
    """Makes a store with ``smollm2:135m`` in it; the weights are linked, not copied, where the disk allows."""

    def make(folder: Path) -> Path:
        store = ModelStore(folder)
        store.open()
        digest = f"sha256:{SMOLLM2_SHA256}"
        try:
            store.blobs.path(digest).hardlink_to(sample_gguf)
        except OSError:
            shutil.copyfile(sample_gguf, store.blobs.path(digest))
        draft = ModelDraft.from_gguf({"model.gguf": digest}, store.blobs, lambda _: None).apply()
        store.create(parse_name(SMOLLM2), draft, lambda _: None)
        return folder

    return make


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory: pytest.TempPathFactory, make_store: Callable[[Path], Path]) -> Path:
    """A store for tests that do not change it."""
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def start(make_store: Callable[[Path], Path]) -> Callable[..., LocalServer]:
    """Starts a real ``ollama-nb serve``: ``with start(folder, OLLAMA_NUM_PARALLEL="8") as server``."""

    def run(folder: Path, **env: str) -> LocalServer:
        store = folder / "models"
        if not store.exists():
            make_store(store)
        return start_server({"OLLAMA_MODELS": str(store), "OLLAMA_CONTEXT_LENGTH": "512", **env})

    return run


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., LocalServer]) -> Iterator[LocalServer]:
    """A server that all tests ask and none ends or reconfigures; it answers four requests at once."""
    with start(tmp_path_factory.mktemp("server"), OLLAMA_NUM_PARALLEL="4") as running:
        yield running
