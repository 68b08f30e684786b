"""PyPI's ``ollama`` against a real server: models, plain answers and errors as its users know them."""

from __future__ import annotations

import hashlib

import ollama
import pytest
from http_calls import OPTIONS, until
from samples import SMOLLM2, SMOLLM2_SHA256

ASKED = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def client(url):
    with ollama.Client(host=url) as client:
        yield client


def names(client):
    return {model.model for model in client.list().models}


def test_list(client):
    (model,) = [model for model in client.list().models if model.model == SMOLLM2]
    assert model.details.parameter_size == "134.52M"
    assert model.size > 98_000_000
    assert model.modified_at.tzinfo is not None


def test_show(client):
    shown = client.show(SMOLLM2)
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.details.quantization_level == "Q4_1"


def test_ps_from_unloaded_to_loaded(client):
    for running in client.ps().models:
        assert client.generate(model=running.model, keep_alive=0).done_reason == "unload"
    until(lambda: not client.ps().models, "nothing is loaded")
    assert client.generate(model=SMOLLM2, keep_alive="5m", options=OPTIONS).done_reason == "load"
    (model,) = client.ps().models
    assert model.name == model.model == SMOLLM2
    assert model.context_length == 1024
    assert model.size > 98_000_000
    assert model.size_vram == 0
    assert model.expires_at.tzinfo is not None


def test_keep_alive_says_when_a_model_goes(client):
    ends = []
    for keep_alive in ("1h", 60):
        client.generate(model=SMOLLM2, keep_alive=keep_alive, options=OPTIONS)
        ends.append(client.ps().models[0].expires_at)
    assert ends[0] > ends[1]


def test_chat(client):
    answer = client.chat(model=SMOLLM2, messages=ASKED, options=OPTIONS)
    assert answer.message.role == "assistant"
    assert answer.message.content
    assert answer.done
    assert answer.done_reason in ("stop", "length")
    assert 0 < answer.eval_count <= 8


def test_chat_in_pieces(client):
    whole = client.chat(model=SMOLLM2, messages=ASKED, options=OPTIONS)
    *pieces, last = client.chat(model=SMOLLM2, messages=ASKED, options=OPTIONS, stream=True)
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert (last.done, last.eval_count) == (True, whole.eval_count)


def test_generate_and_its_context(client):
    first = client.generate(model=SMOLLM2, prompt="My name is Ada.", options=OPTIONS)
    assert first.response
    second = client.generate(model=SMOLLM2, prompt="And yours?", context=first.context, options=OPTIONS)
    assert second.prompt_eval_count > len(first.context)


def test_generate_in_pieces(client):
    whole = client.generate(model=SMOLLM2, prompt="Say hello.", options=OPTIONS)
    *pieces, last = client.generate(model=SMOLLM2, prompt="Say hello.", options=OPTIONS, stream=True)
    assert "".join(piece.response for piece in pieces) == whole.response
    assert last.done_reason == whole.done_reason


def test_raw(client):
    assert client.generate(model=SMOLLM2, prompt="Once upon", raw=True, options=OPTIONS).eval_count == 8


def test_typed_options(client):
    options = ollama.Options(temperature=0, num_predict=3, stop=["\0"], seed=1, num_thread=1)
    assert client.chat(model=SMOLLM2, messages=ASKED, options=options).eval_count == 3


def test_create_from_a_model(client):
    progress = client.create(
        model="ada", from_=SMOLLM2, system="Your name is Ada.", parameters={"num_predict": 4, "num_thread": 1},
        license=["MIT"], messages=ASKED,
    )  # fmt: skip
    assert progress.status == "success"
    shown = client.show("ada")
    assert shown.license == "MIT"
    assert [line.split() for line in shown.parameters.split("\n")] == [["num_predict", "4"], ["num_thread", "1"]]
    assert client.chat(model="ada", messages=ASKED).eval_count <= 4
    assert client.delete("ada").status == "success"


def test_create_in_steps_from_an_uploaded_file(client, sample_gguf):
    digest = client.create_blob(sample_gguf)
    assert digest == f"sha256:{SMOLLM2_SHA256}"
    steps = [step.status for step in client.create(model="file", files={"m.gguf": digest}, stream=True)]
    assert steps[0] == "parsing GGUF"
    assert steps[-1] == "success"
    assert client.delete("file").status == "success"


def test_create_blob(client, tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(b"a blob of the client's")
    assert client.create_blob(path) == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_copy_and_delete(client):
    before = names(client)
    assert client.copy(SMOLLM2, "ns/twin").status == "success"
    assert names(client) == before | {"ns/twin:latest"}
    assert client.delete("ns/twin").status == "success"
    assert names(client) == before


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        (lambda client: client.chat(model="nope", messages=ASKED), 404, 'model "nope" not found, try pulling it first'),
        (lambda client: list(client.chat(model="nope", messages=ASKED, stream=True)), 404, "not found"),
        (lambda client: client.generate(model="nope", prompt="x"), 404, "model 'nope' not found"),
        (lambda client: client.show("nope"), 404, "model 'nope' not found"),
        (lambda client: client.copy("nope", "x"), 404, 'model "nope" not found'),
        (lambda client: client.create(model="x", from_="a b"), 400, "invalid model name"),
        (lambda client: client.chat(model=SMOLLM2, messages=ASKED, think=True), 400, "does not support thinking"),
        (lambda client: client.generate(model=SMOLLM2, prompt="x", keep_alive="5"), 400, "missing unit in duration"),
        (lambda client: client.chat(model=SMOLLM2, messages=ASKED, options={"top_k": "x"}), 400, "of type integer"),
    ],
)
def test_errors_have_a_status_and_a_text(client, call, status, text):
    with pytest.raises(ollama.ResponseError) as caught:
        call(client)
    assert caught.value.status_code == status
    assert text in caught.value.error


def test_an_error_in_mid_stream_is_raised(client, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    digest = client.create_blob(broken)
    steps = client.create(model="broken", files={"m.gguf": digest}, stream=True)
    assert next(steps).status == "parsing GGUF"
    with pytest.raises(ollama.ResponseError):
        next(steps)
