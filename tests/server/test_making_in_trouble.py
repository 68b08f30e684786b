"""Models that do not come about, for whatever reason: the reason is told, nothing is left, and the server goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from gguf_files import gguf_bytes
from http_calls import MODEL, client, complaints, lines, received_lines, send, until
from quantizable_files import write_narrow, write_wide

from ollama_nb.client import Client
from ollama_nb.client.files import file_digest
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx2

    from ollama_nb.client import LocalServer

SPACE: Final = "the model store cannot be written: File too large"
HOLD: Final = """
import sys
from pathlib import Path
from ollama_nb.store.files import StoreLock
with StoreLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def upload(server: LocalServer, *paths: Path) -> dict[str, str]:
    files = {path.name: file_digest(path) for path in paths}
    with Client(server.url) as ours:
        for path in paths:
            if not ours.blob_exists(files[path.name]):
                ours.push_blob(path, files[path.name])
    return files


def files_of(store: Path) -> set[str]:
    return {path.name for path in store.rglob("*") if path.is_file() and path.suffix != ".names"}


def create(calls: httpx2.Client, **fields: Any) -> dict[str, Any]:
    """The last line of a create."""
    last: dict[str, Any] = lines(calls.post("/api/create", json={"model": "troubled", **fields}))[-1]
    return last


# -- what is refused late ------------------------------------------------------------------------------------------


def test_what_was_converted_for_a_model_that_is_refused_does_not_stay(
    bench: httpx2.Client, workshop: LocalServer, workshop_store: Path, smollm2_folder: Path, tmp_path: Path
) -> None:
    files = upload(workshop, *sorted(smollm2_folder.iterdir()))
    before = files_of(workshop_store)
    adapters = upload(workshop, write_narrow(tmp_path / "no-adapter.gguf"))
    refusal = create(bench, files=files, adapters=adapters)
    assert refusal["error"] == "no-adapter.gguf is no adapter but a model"
    assert files_of(workshop_store) == before


def test_a_projector_alone_is_no_model(bench: httpx2.Client, workshop: LocalServer, tmp_path: Path) -> None:
    keys = {"general.architecture": "clip", "general.type": "projector", "clip.vision.block_count": 1}
    (tmp_path / "mmproj.gguf").write_bytes(gguf_bytes(keys, [("v.patch_embd.weight", "F32", (32, 2))]))
    refusal = create(bench, files=upload(workshop, tmp_path / "mmproj.gguf"))
    assert (refusal["error"], refusal["status"]) == ("no base model was found", 400)


def test_an_upload_that_is_a_model_stays_when_it_cannot_be_made_smaller(
    bench: httpx2.Client, workshop: LocalServer, workshop_store: Path, tmp_path: Path
) -> None:
    files = upload(workshop, write_wide(tmp_path / "wide.gguf"))
    (digest,) = files.values()
    assert "MXFP4 is for models that are mixtures" in create(bench, files=files, quantize="mxfp4")["error"]
    assert digest.replace(":", "-") in files_of(workshop_store)


def test_a_text_that_is_too_long_is_refused_before_anything_is_done(
    bench: httpx2.Client, workshop: LocalServer, tmp_path: Path
) -> None:
    files = upload(workshop, write_narrow(tmp_path / "narrow.gguf"))
    response = bench.post("/api/create", json={"model": "troubled", "files": files, "system": "x" * (17 << 20)})
    assert response.status_code == 400
    assert response.json() == {"error": "system: 17825792 bytes are too many, 16777216 is the most"}


# -- what happens meanwhile ----------------------------------------------------------------------------------------


def test_a_base_may_be_deleted_while_a_smaller_one_is_made_of_it(
    bench: httpx2.Client, workshop: LocalServer, workshop_store: Path, smollm2_f16: Path
) -> None:
    files = upload(workshop, smollm2_f16)
    assert create(bench, model="base", files=files, license="Mine.") == {"status": "success"}
    with closing(send(workshop.url, "/api/create", {"model": "smaller", "from": "base", "quantize": "q4_0"})) as steps:
        told = received_lines(steps)
        assert next(step for step in told if step.get("completed"))
        assert bench.request("DELETE", "/api/delete", json={"model": "base"}).status_code == 200
        assert list(told)[-1] == {"status": "success"}
    assert bench.post("/api/show", json={"model": "smaller"}).json()["license"] == "Mine."
    assert files["f16.gguf"].replace(":", "-") not in files_of(workshop_store)
    bench.request("DELETE", "/api/delete", json={"model": "smaller"})


def test_files_that_one_request_finds_worthless_stay_for_another_that_uses_them(
    bench: httpx2.Client, workshop: LocalServer, smollm2_folder: Path
) -> None:
    files = upload(workshop, *sorted(smollm2_folder.iterdir()))
    rest = {name: digest for name, digest in files.items() if name != "config.json"}
    with closing(send(workshop.url, "/api/create", {"model": "converted", "files": files})) as steps:
        told = received_lines(steps)
        assert next(told)["status"] == "converting model"
        assert create(bench, files=rest)["error"] == "config.json is missing"
        assert list(told)[-1] == {"status": "success"}
    bench.request("DELETE", "/api/delete", json={"model": "converted"})


@contextmanager
def held(store: Path) -> Iterator[None]:
    """The lock of the store in the hands of another process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate()


def test_while_another_process_holds_the_store_only_those_who_change_it_wait(
    tmp_path: Path, start: Callable[..., LocalServer]
) -> None:
    digest = file_digest(write_narrow(tmp_path / "narrow.gguf"))
    with start(tmp_path) as server, Client(server.url) as ours, client(server.url) as calls, ExitStack() as later:
        with held(tmp_path / "models"):
            sending = threading.Thread(target=ours.push_blob, args=(tmp_path / "narrow.gguf", digest))
            sending.start()
            later.callback(sending.join)
            for _ in range(20):
                assert calls.get("/api/version").status_code == 200
            assert sending.is_alive()
        sending.join()
        assert ours.blob_exists(digest)


# -- a disk that is full -------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_whatever_meets_it_and_leaves_nothing(
    tmp_path: Path, start: Callable[..., LocalServer], smollm2_folder: Path
) -> None:
    """A limit on the size of files, set while the server runs, stands for the end of the disk."""
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux sets limits of other processes")
    wide = write_wide(tmp_path / "wide.gguf")
    with start(tmp_path) as server, client(server.url) as calls:
        store = tmp_path / "models"
        folder = upload(server, *sorted(smollm2_folder.iterdir()))
        files = upload(server, wide)
        before = files_of(store) | {next((store / ".ollama_nb-sessions").glob("*.lock")).name}
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        assert create(calls, files=folder)["error"] == SPACE
        assert create(calls, files=files, quantize="q8_0")["error"] == "the quantized model could not be written"
        assert create(calls, **{"from": MODEL}, system="x" * (2 << 20))["error"] == SPACE
        with pytest.raises(OllamaError, match="cannot store the blob: "):
            upload(server, write_narrow(tmp_path / "other.gguf", width=512))
        until(lambda: files_of(store) == before, "nothing is left")
        assert create(calls, **{"from": MODEL}, system="Short.") == {"status": "success"}
        assert calls.post("/api/show", json={"model": "troubled"}).json()["system"] == "Short."
        assert not complaints(server)
