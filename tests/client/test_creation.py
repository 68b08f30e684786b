"""Creating models from Modelfiles, against a stand-in that keeps what it is sent."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import threading
from pathlib import Path

import pytest

from ollama_nb import AsyncClient, Client, Modelfile
from ollama_nb.client import files as client_files
from ollama_nb.client.models import Progress
from ollama_nb.wire.errors import BadRequestError, NotFoundError, NotImplementedYetError, OllamaError
from ollama_nb.wire.modelfile import ModelfileError

SERVERS = ["parsing GGUF", "writing manifest", "success"]


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model's folder with a Modelfile beside it; the working folder is another one."""
    model = tmp_path / "model"
    (model / "1_Pooling").mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights" * 400_000)
    (model / "config.json").write_bytes(b"{}")
    (model / "1_Pooling" / "config.json").write_bytes(b"{}")
    (tmp_path / "Modelfile").write_text("FROM ./model\nSYSTEM Hi\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_a_modelfile_on_another_model_becomes_one_request(client, server):
    modelfile = (
        Modelfile("base")
        .system("S")
        .template("T")
        .license("L")
        .parameter("temperature", 0.5)
        .stop("a", "b")
        .message("user", "hi")
    )
    assert [step.status for step in client.create("new", modelfile)] == SERVERS
    assert server.last("/api/create") == {
        "model": "new",
        "stream": True,
        "from": "base",
        "system": "S",
        "template": "T",
        "license": ["L"],
        "parameters": {"temperature": 0.5, "stop": ["a", "b"]},
        "messages": [{"role": "user", "content": "hi"}],
    }


def test_text_value_and_file_are_the_same_modelfile(client, server, folder):
    (folder / "Modelfile").write_bytes("FROM base\nSYSTEM é".encode("utf-16"))
    for source in ("FROM base\nSYSTEM é", Modelfile("base").system("é"), folder / "Modelfile"):
        assert client.create("new", modelfile=source).result().status == "success"
        assert server.last("/api/create") == {"model": "new", "stream": True, "from": "base", "system": "é"}


def test_files_are_sent_once_and_named_relative_to_their_folder(client, server, folder):
    weights, config = b"weights" * 400_000, b"{}"
    steps = list(client.create("new", folder / "Modelfile", quantize="q8_0"))
    assert server.blobs == {digest_of(weights): weights, digest_of(config): config}
    assert server.last("/api/create") == {
        "model": "new",
        "stream": True,
        "system": "Hi",
        "quantize": "q8_0",
        "files": {
            "model.safetensors": digest_of(weights),
            "config.json": digest_of(config),
            "1_Pooling/config.json": digest_of(config),
        },
    }
    copied = [step for step in steps if step.status == f"copying file {digest_of(weights)}"]
    assert copied[-1] == Progress(
        status=copied[-1].status, digest=digest_of(weights), completed=len(weights), total=len(weights)
    )
    assert [step.completed for step in copied] == sorted(step.completed for step in copied)
    names = list(dict.fromkeys(step.status for step in steps))
    assert names == [
        "gathering model components",
        "reading model.safetensors",
        f"copying file {digest_of(weights)}",
        "reading config.json",
        f"copying file {digest_of(config)}",
        *SERVERS,
    ]
    again = [step.status for step in client.create("new", folder / "Modelfile")]
    assert not [status for status in again if status.startswith("copying")]


def test_an_adapter_is_sent_beside_the_model_it_is_for(client, server, folder):
    (folder / "here" / "lora.gguf").write_bytes(b"GGUF lora")
    client.create("new", Modelfile("base").adapter("lora.gguf")).result()
    assert server.last("/api/create") == {
        "model": "new",
        "stream": True,
        "from": "base",
        "adapters": {"lora.gguf": digest_of(b"GGUF lora")},
    }


def test_fields_go_before_the_modelfile_and_parameters_one_by_one(client, server):
    text = "FROM base\nSYSTEM S\nTEMPLATE T\nPARAMETER seed 1\nPARAMETER stop a\nPARAMETER top_k 5"
    client.create("new", text, system="other", parameters={"seed": 2, "stop": ["b"]}).result()
    asked = server.last("/api/create")
    assert (asked["system"], asked["template"]) == ("other", "T")
    assert asked["parameters"] == {"seed": 2, "stop": ["b"], "top_k": 5}


def test_warnings_are_the_first_steps(client, folder):
    (folder / "here" / "b.gguf").write_bytes(b"GGUF")
    text = "FROM base\nPARAMETER mirostat 1\nSYSTEM a\u200bb\nREQUIRES 0.14.0\nADAPTER a.gguf\nADAPTER b.gguf"
    steps = [step.status for step in client.create("new", text)]
    assert steps[:5] == [
        "warning: parameter mirostat is deprecated",
        "warning: line 3 loses what does not print: U+200B ZERO WIDTH SPACE",
        "warning: REQUIRES 0.14.0 is about Ollama's versions and is not checked",
        "warning: ADAPTER a.gguf is not used: only the last one counts",
        "gathering model components",
    ]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("source", "fields", "refusal"),
    [
        ("FROM base\nNOPE x", {}, (ModelfileError, "(line 2): command must be one of")),
        ("./Modelfile", {}, (ModelfileError, "(line 1): command must be one of")),
        ("Modelfile", {}, (ModelfileError, "unexpected EOF")),
        ("FROM ./absent.gguf", {}, (NotFoundError, "no such file: ./absent.gguf")),
        ("FROM .", {}, (NotFoundError, "no Modelfile or safetensors files found")),
        ("FROM ../model", {"model": "no name"}, (BadRequestError, "invalid model name")),
        ("FROM base\nRENDERER x", {}, (NotImplementedYetError, "RENDERER is of newer versions of Ollama")),
        ("FROM base\nPARSER x", {}, (NotImplementedYetError, "PARSER is of newer versions of Ollama")),
        ("FROM base\nDRAFT x", {}, (NotImplementedYetError, "DRAFT is of newer versions of Ollama")),
        ("FROM base", {"from_": "a"}, (BadRequestError, "from_: beside a Modelfile, its FROM and ADAPTER lines say")),
        ("FROM base", {"files": {}, "adapters": {}}, (BadRequestError, "adapters, files: beside a Modelfile")),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(client, server, source, fields, refusal):
    error, message = refusal
    with pytest.raises(error) as caught:
        client.create(**{"model": "new", "modelfile": source, **fields})
    assert caught.value.message.startswith(message)
    assert not server.asked
    assert not server.blobs


def test_a_path_given_as_text_is_told_apart(client, folder):
    with pytest.raises(ModelfileError) as caught:
        client.create("new", "../Modelfile")
    assert caught.value.hint == "A text is read as a Modelfile; for a file, give a path: Path('../Modelfile')."


@pytest.mark.parametrize("path", ["absent", "model"])
def test_a_modelfile_that_cannot_be_read_is_told(client, folder, path):
    with pytest.raises(BadRequestError, match=f"cannot read .*{path}: "):
        client.create("new", folder / path)


def test_a_modelfile_of_a_user_who_is_not_there_is_told(client):
    with pytest.raises(BadRequestError, match="failed to find user 'nobody-of-that-name'"):
        client.create("new", Path("~nobody-of-that-name/Modelfile"))


def test_a_file_that_goes_away_meanwhile_is_told(client, folder):
    creation = client.create("new", folder / "Modelfile")
    (folder / "model" / "config.json").unlink()
    with pytest.raises(BadRequestError, match=r"cannot read .*config\.json: No such file"):
        creation.result()


def test_the_servers_errors_come_as_they_are(client, server, folder):
    with pytest.raises(OllamaError, match="model 'missing' not found"):
        client.create("missing", "FROM base")
    with pytest.raises(OllamaError, match="model 'missing' not found"):
        client.create("missing", folder / "Modelfile").result()


def test_leaving_a_transfer_ends_it(client, server, folder, monkeypatch):
    monkeypatch.setattr(client_files, "PIECE", 1 << 10)
    with (folder / "model" / "model.safetensors").open("wb") as file:
        file.truncate(16 << 20)
    with client.create("new", folder / "Modelfile") as steps:
        step = next(step for step in steps if step.status.startswith("copying"))
        assert steps.partial() == step
    for thread in transfers():
        thread.join(10)
    assert not transfers()
    assert not server.blobs
    assert list(steps) == []
    assert not any(path == "/api/create" for _, path, _ in server.asked)


def transfers():
    """The threads that still read a file."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_an_interrupt_ends_a_transfer_at_once(client, server, folder):
    with (folder / "model" / "model.safetensors").open("wb") as file:
        file.truncate(64 << 30)  # takes no room on the disk, and minutes to read
    main = threading.main_thread().ident
    with client.create("new", folder / "Modelfile") as steps:
        next(step for step in steps if step.status.startswith("reading"))
        threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            steps.result()
    for thread in transfers():
        thread.join(10)
    assert not transfers()
    assert not server.asked


def test_asyncio_does_the_same(server, folder):
    async def use():
        async with AsyncClient(server.url) as client:
            steps = [step.status async for step in await client.create("new", folder / "Modelfile")]
            asked = server.last("/api/create")
            plain = await (await client.create("plain", "FROM base\nPARAMETER mirostat 1")).result()
            with pytest.raises(ModelfileError):
                await client.create("new", "FROM base\nNOPE x")
            (folder / "model" / "config.json").write_bytes(b'{"other": 1}')
            async with await client.create("new", folder / "Modelfile") as creation:
                async for step in creation:
                    if step.status.startswith("copying"):
                        break
            again = [step async for step in creation]
            creation = await client.create("new", folder / "Modelfile")
            (folder / "model" / "config.json").unlink()
            with pytest.raises(BadRequestError, match=r"cannot read .*config\.json"):
                await creation.result()
            return steps, asked, plain.status, again

    steps, asked, plain, again = asyncio.run(use())
    copied = digest_of(b"weights" * 400_000)
    assert list(dict.fromkeys(steps))[:3] == [
        "gathering model components",
        "reading model.safetensors",
        f"copying file {copied}",
    ]
    assert steps[-3:] == SERVERS
    assert asked["files"]["1_Pooling/config.json"] == digest_of(b"{}")
    assert copied in server.blobs
    assert (plain, again) == ("success", [])
