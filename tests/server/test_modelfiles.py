"""Modelfiles all the way to a real server: files sent by the client, and what show prints read back."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from http_calls import MODEL
from safetensors.numpy import save_file
from samples import SMOLLM2_SHA256
from tokenizers import Tokenizer, models, pre_tokenizers

from ollama_nb import AsyncClient, Client, Modelfile
from ollama_nb.cli.main import run
from ollama_nb.wire.errors import BadRequestError, OllamaError
from ollama_nb.wire.modelfile import parse

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 258,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": 256,
    "eos_token_id": 257,
}
NAMES = ("mf-named", "mf-file", "mf-again", "mf-async", "mf-cli", "mf-strange", "mf-folder")


@pytest.fixture(scope="module")
def client(workshop):
    with Client(workshop.url) as client:
        yield client
        for model in client.list():
            if model.name.partition(":")[0] in NAMES:
                client.delete(model.name)


def test_a_modelfile_on_a_model_that_is_there(client):
    modelfile = (
        Modelfile(MODEL)
        .system('You say "yes".\n')
        .parameter("temperature", 0.7)
        .parameter("use_mmap", value=True)
        .stop('"x', "###")
        .message("user", "hi")
        .message("assistant", " hello")
        .license("MIT")
    )
    assert client.create("mf-named", modelfile).result().status == "success"
    card = client.show("mf-named")
    assert (card.system, card.license) == ('You say "yes".\n', "MIT")
    assert list(card.messages) == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": " hello"}]
    printed = parse(card.modelfile)
    assert printed.system_text == modelfile.system_text
    assert printed.parameters == modelfile.parameters
    assert (printed.messages, printed.licenses, printed.warnings) == (modelfile.messages, modelfile.licenses, ())


def test_what_show_prints_makes_the_same_model_again(client):
    client.create("mf-named", Modelfile(MODEL).system(" blanks ").stop('"', '"""', "a\nb", '\t"x" ')).result()
    # FROM is the path of a blob, which this test and the server have in common.
    client.create("mf-again", client.show("mf-named").modelfile).result()
    first, again = client.show("mf-named"), client.show("mf-again")
    assert (again.system, again.parameters, again.template) == (first.system, first.parameters, first.template)


@pytest.mark.parametrize("value", ["a\u200db", 'print("""\n""")\nx'])
def test_what_only_the_api_can_store_is_still_printed(client, value):
    client.create("mf-strange", from_=MODEL, system=value).result()
    assert f"SYSTEM {value}" in (text := client.show("mf-strange").modelfile) or f'SYSTEM """{value}"""' in text


def test_a_file_beside_the_modelfile_is_sent_where_the_server_lacks_it(client, tmp_path, sample_gguf):
    (tmp_path / "small.gguf").symlink_to(sample_gguf)
    (tmp_path / "Modelfile").write_text("FROM ./small.gguf\nPARAMETER num_ctx 512\n")
    steps = [step.status for step in client.create("mf-file", tmp_path / "Modelfile")]
    digest = f"sha256:{SMOLLM2_SHA256}"
    assert steps[0] == "gathering model components"
    assert f"copying file {digest}" not in steps
    assert f"using existing layer {digest}" in steps
    assert steps[-1] == "success"
    assert client.show("mf-file").details.parameter_size == "134.52M"


def _shapes(prefix):
    """The tensors of one layer, as torch has them: (out, in)."""
    return {
        **{f"{prefix}self_attn.{name}_proj.weight": (64, 64) for name in "qkvo"},
        **{f"{prefix}mlp.{name}_proj.weight": (128, 64) for name in ("gate", "up")},
        f"{prefix}mlp.down_proj.weight": (64, 128),
        **{f"{prefix}{name}_layernorm.weight": (64,) for name in ("input", "post_attention")},
    }


@pytest.fixture
def revision(tmp_path):
    """A tiny Llama of chance numbers in a cache of Hugging Face's: the folder of a revision, all of it links."""
    blobs = tmp_path / "models--me--tiny" / "blobs"
    revision = tmp_path / "models--me--tiny" / "snapshots" / "0123abc"
    for folder in (blobs, revision):
        folder.mkdir(parents=True)
    characters = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE({char: at for at, char in enumerate(sorted(characters))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(blobs / "tokenizer"))
    (blobs / "config").write_text(json.dumps(CONFIG))
    chance = np.random.default_rng(0)
    shapes = {name: shape for layer in range(2) for name, shape in _shapes(f"model.layers.{layer}.").items()}
    shapes |= {"model.embed_tokens.weight": (258, 64), "model.norm.weight": (64,)}
    tensors = {name: chance.normal(size=shape).astype(np.float16) for name, shape in shapes.items()}
    save_file(tensors, blobs / "weights", metadata={"format": "pt"})
    for name, blob in {"config.json": "config", "tokenizer.json": "tokenizer", "model.safetensors": "weights"}.items():
        (revision / name).symlink_to(f"../../blobs/{blob}")
    return revision


def test_a_folder_of_safetensors_becomes_a_model_through_the_links_of_a_cache(client, revision):
    steps = [step.status for step in client.create("mf-folder", Modelfile(revision).system("S"))]
    sent = [status for status in steps if status.startswith("copying file sha256:")]
    assert len(set(sent)) == 3
    assert steps[-1] == "success"
    card = client.show("mf-folder")
    assert (card.details.family, card.details.quantization_level, card.system) == ("llama", "F16", "S")
    assert parse(card.modelfile).system_text == "S"


def test_a_folder_that_lacks_a_file_is_the_servers_to_refuse(client, revision):
    (revision / "config.json").unlink()
    with pytest.raises(OllamaError, match=r"config\.json"):
        client.create("mf-folder", Modelfile(revision)).result()


def test_asyncio_sends_files_too(workshop, client, tmp_path, gguf_bytes):
    (tmp_path / "tiny.gguf").write_bytes(gguf_bytes({"general.architecture": "llama", "general.name": "async"}))

    async def use():
        async with AsyncClient(workshop.url) as calls:
            return [step.status async for step in await calls.create("mf-async", Modelfile(tmp_path / "tiny.gguf"))]

    steps = asyncio.run(use())
    assert steps[-1] == "success"
    assert any(status.startswith("copying file sha256:") for status in steps)


def test_the_command_line_makes_a_model_of_the_folder_it_stands_in(workshop, client, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Modelfile").write_text(f"# mine\nFROM {MODEL}\nSYSTEM You are Mario.\n")
    assert run(["create", "mf-cli"], connect=lambda: Client(workshop.url)) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "success"
    assert client.show("mf-cli").system == "You are Mario."


def test_a_template_that_does_not_parse_is_the_servers_to_refuse(client):
    with pytest.raises(BadRequestError, match="template error"):
        client.create("mf-named", f"FROM {MODEL}\nTEMPLATE {{{{ .Prompt").result()
