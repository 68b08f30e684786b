"""Folders as makers of models published them: tokens, numbers and ends as in transformers, or the reason why not."""

# Letters that look like others are the subject here.
# ruff: noqa: RUF001

from __future__ import annotations

import json
import unicodedata
from typing import Any, NamedTuple

import llama_cpp
import numpy as np
import pytest
import torch
from convert.handmade import LLAMA, llama_tensors, safetensors_bytes, written
from convert.hard_strings import HARD_STRINGS
from convert.published import Folder, Model, build
from convert.published_decoders import COMMANDS, PHIS, QWENS
from convert.published_encoders import ENCODERS
from convert.published_gemmas import GEMMAS
from convert.published_llamas import LLAMAS, MISTRALS
from convert.reference import assert_same_logits, reference_logits
from tokenizers import Tokenizer

from ollama_nb.client.modelfolder import model_files
from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.model import convert_model
from ollama_nb.gguf.reader import Header, read_header
from ollama_nb.prompt.known import recognise
from ollama_nb.service.resolve import token_text

DECODERS = LLAMAS | MISTRALS | GEMMAS | PHIS | QWENS | COMMANDS
TOLERANCE = 1e-3
GELU_TOLERANCE = 6e-3
"""Of the spread of the numbers: llama.cpp looks gelu up in a table of float16."""

# What tokenizers do with other scripts is tested with each kind of them.
TEXTS = (
    *(text for text in HARD_STRINGS if text.isascii()),
    "Ein Käfer läuft über die Straße: ÄÖÜ äöü ß.",
    "Привет, мир! Съешь ещё этих мягких булок",
    "你好，世界！我想在apple工作1314151天～",
)


class Converted(NamedTuple):
    """A published model, its folder, what was told, and the GGUF in llama.cpp with its header."""

    model: Model
    folder: Folder
    notes: list[str]
    loaded: llama_cpp.Llama
    header: Header

    @property
    def tokenizer(self) -> Tokenizer:
        """The folder's own, which may cut texts and fill them up for training."""
        tokenizer = Tokenizer.from_file(str(self.folder.path / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @property
    def prompt(self) -> list[int]:
        """The tokens of the model's prompt, nothing put around them."""
        return self.tokenizer.encode(self.model.prompt, add_special_tokens=False).ids


def _converted(model: Model, folder: Any, **options: Any) -> Converted:
    """The model made of the files that the client sends, in float32."""
    made = build(model, folder / "model")
    out = folder / "model.gguf"
    notes = convert_model(model_files(made.path), out, "F32", lambda _done, _total: None)
    f32 = llama_cpp.GGML_TYPE_F32
    loaded = llama_cpp.Llama(
        str(out), n_ctx=64, n_batch=64, n_ubatch=64, n_threads=1, n_threads_batch=1, type_k=f32, type_v=f32,
        verbose=False, **options,
    )  # fmt: skip
    return Converted(model, made, notes, loaded, read_header(out))


@pytest.fixture(scope="module", params=DECODERS)
def decoder(request, tmp_path_factory):
    converted = _converted(DECODERS[request.param], tmp_path_factory.mktemp("decoder"), logits_all=True)
    yield converted
    converted.loaded.close()


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request, tmp_path_factory):
    converted = _converted(ENCODERS[request.param], tmp_path_factory.mktemp("encoder"), embedding=True)
    yield converted
    converted.loaded.close()


def _differing(converted: Converted, *texts: str) -> dict[str, tuple[list[int], list[int]]]:
    """Texts that become other tokens in llama.cpp than by the folder's tokenizer, with both."""
    tokenizer, begins = converted.tokenizer, converted.model.begins
    found = {}
    for text in [begins + text for text in TEXTS] + list(texts):
        given = unicodedata.normalize("NFC", text) if converted.model.normalizes else text
        for special in (False,) if begins else (True, False):
            ours = converted.loaded.tokenize(given.encode(), add_bos=special, special=True)
            theirs = tokenizer.encode(text, add_special_tokens=special).ids
            if ours != theirs:
                found[text] = (theirs, ours)
    return found


def test_a_decoders_texts_become_the_same_tokens(decoder):
    assert not _differing(decoder)
    # A prompt that has its BOS already gets no second one.
    assert decoder.loaded.tokenize(decoder.model.prompt.encode(), add_bos=False, special=True) == decoder.prompt


def test_a_decoder_goes_on_as_in_transformers(decoder):
    tokens = decoder.prompt
    decoder.loaded.reset()
    decoder.loaded.eval(tokens)
    ours = np.array(decoder.loaded.scores[: len(tokens)])
    tolerance = GELU_TOLERANCE if decoder.header.architecture.startswith("gemma") else TOLERANCE
    assert_same_logits(ours, reference_logits(decoder.folder.model, tokens), tolerance)


def test_an_answer_ends_at_every_token_that_the_files_name(decoder):
    vocab = llama_cpp.llama_model_get_vocab(decoder.loaded.model)
    for text in decoder.model.ends:
        assert llama_cpp.llama_vocab_is_eog(vocab, decoder.folder.ids[text]), text


def test_a_decoder_is_known_for_what_it_does(decoder):
    assert decoder.header.get("pooling_type") is None
    template = decoder.header.metadata.get("tokenizer.chat_template")
    assert (template is not None) == ("chat_template" in decoder.model.settings)
    if template is not None:
        bos, eos = (token_text(decoder.header, kind) for kind in ("bos", "eos"))
        known = recognise(template, bos=bos, eos=eos)
        assert (known.name if known else "") == decoder.model.known_as


def test_an_encoders_texts_become_the_same_tokens(encoder):
    assert not _differing(encoder, encoder.model.prompt)


def test_a_text_gets_the_vector_that_it_has_in_transformers(encoder):
    tokens = encoder.tokenizer.encode(encoder.model.prompt).ids
    with torch.no_grad():
        hidden = encoder.folder.model(torch.tensor([tokens])).last_hidden_state[0].numpy()
    pooled = {1: hidden.mean(axis=0), 2: hidden[0], 3: hidden[-1]}
    modules = encoder.model.files.get("modules.json", [])
    pooling = encoder.model.files.get("1_Pooling/config.json", {})
    expected = 2 if pooling.get("pooling_mode_cls_token") else 3 if pooling.get("pooling_mode_lasttoken") else 1
    assert encoder.header.get("pooling_type") == expected
    assert encoder.header.get("normalize_embeddings") is any("Normalize" in step["type"] for step in modules)
    ours = np.array(encoder.loaded.embed(encoder.model.prompt, normalize=False))
    assert np.abs(ours - pooled[expected]).max() <= GELU_TOLERANCE * pooled[expected].std()


# Models that cannot be converted: what is published of them, and what is said.
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "all-mpnet-base-v2": ({"architectures": ["MPNetForMaskedLM"]}, 'unsupported architecture "MPNetForMaskedLM"'),
    "OLMo-7B-hf": ({"architectures": ["OlmoForCausalLM"]}, 'unsupported architecture "OlmoForCausalLM"'),
    "gte-large-en-v1.5": ({"architectures": ["NewModel"]}, 'unsupported architecture "NewModel"'),
    "snowflake-arctic-embed-m-v2.0": ({"architectures": ["GteModel"]}, 'unsupported architecture "GteModel"'),
    "jina-embeddings-v2-base-en": ({"architectures": ["JinaBertForMaskedLM"]}, "unsupported architecture"),
    "ModernBERT-base": ({"architectures": ["ModernBertForMaskedLM"]}, "unsupported architecture"),
    "bge-reranker-v2-m3": ({"architectures": ["XLMRobertaForSequenceClassification"]}, "unsupported architecture"),
    "Qwen2.5-VL-7B-Instruct": ({"architectures": ["Qwen2_5_VLForConditionalGeneration"]}, "unsupported architecture"),
    "embeddinggemma-300m": ({"architectures": ["Gemma3TextModel"]}, "unsupported architecture"),
    "Llama-2-7B-Chat-AWQ": (
        {**LLAMA, "quantization_config": {"quant_method": "awq", "bits": 4, "zero_point": True}},
        "quantized already, by 'awq'",
    ),
    "params.json alone": ({"dim": 4096, "n_layers": 32}, "names no architecture"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_that_cannot_be_converted_is_refused_by_name(name, tmp_path):
    config, reason = OTHERS[name]
    weights = safetensors_bytes(llama_tensors(LLAMA))
    files = written(tmp_path, {"config.json": json.dumps(config).encode(), "model.safetensors": weights})
    with pytest.raises(ConvertError) as caught:
        convert_model(files, tmp_path / "out.gguf", "", lambda _done, _total: None)
    assert reason in caught.value.message
    assert caught.value.hint or "names no" in reason


# Published folders of architectures that are known, with something that llama.cpp cannot compute.
STRANGE: dict[str, tuple[Model, dict[str, Any], str]] = {
    "LaBSE, with a layer behind the pooling": (
        ENCODERS["e5-base-v2"],
        {
            "modules.json": [
                {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
            ],
        },
        "'Dense' module, which llama.cpp cannot compute",
    ),
    "jina-embeddings-v3, with other positions": (
        ENCODERS["bge-m3"],
        {"config.json": {"position_embedding_type": "rotary", "lora_adaptations": ["retrieval.query"]}},
        "'rotary' positions are none that llama.cpp has",
    ),
    "nomic-embed-text-v2-moe, with experts": (
        ENCODERS["nomic-embed-text-v1.5"],
        {"config.json": {"moe_every_n_layers": 2, "num_experts": 8, "mlp_fc1_bias": True}},
        "with experts cannot be converted",
    ),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_llama_cpp_cannot_compute_is_said(name, tmp_path):
    model, changes, reason = STRANGE[name]
    folder = build(model, tmp_path / "model").path
    for file, content in changes.items():
        path = folder / file
        whole = {**json.loads(path.read_text()), **content} if isinstance(content, dict) else content
        path.write_text(json.dumps(whole))
    with pytest.raises(ConvertError) as caught:
        convert_model(model_files(folder), tmp_path / "out.gguf", "", lambda _done, _total: None)
    assert reason in caught.value.message


WITH_SENTENCEPIECE = [name for name, model in DECODERS.items() if "tokenizer.model" in model.tokenizer().files]


@pytest.mark.parametrize("name", WITH_SENTENCEPIECE)
def test_without_the_older_file_the_tokens_are_the_same(name, tmp_path):
    model = DECODERS[name]
    folder = build(model, tmp_path / "model").path
    (folder / "tokenizer.model").unlink()
    convert_model(model_files(folder), tmp_path / "model.gguf", "F32", lambda _done, _total: None)
    loaded = llama_cpp.Llama(str(tmp_path / "model.gguf"), vocab_only=True, verbose=False)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in (*(model.begins + text for text in TEXTS), model.prompt):
        ours = loaded.tokenize(text.encode(), add_bos=False, special=True)
        assert ours == tokenizer.encode(text, add_special_tokens=False).ids, text
    loaded.close()


OLDER = {
    **{name: ENCODERS[name] for name in ("bert-base-cased", "bge-m3", "multilingual-e5-large", "all-distilroberta-v1")},
    "Qwen2-0.5B-Instruct": QWENS["Qwen2-0.5B-Instruct"],
}


@pytest.mark.parametrize("name", OLDER)
def test_without_tokenizer_json_the_older_files_give_the_same_tokens(name, tmp_path):
    model = OLDER[name]
    folder = build(model, tmp_path / "model").path
    document = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    if document["model"]["type"] == "BPE":
        (folder / "vocab.json").write_text(json.dumps(document["model"]["vocab"]))
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *document["model"]["merges"], ""]))
        added = {token["content"]: token["id"] for token in document["added_tokens"]}
        (folder / "added_tokens.json").write_text(json.dumps(added))
    if name != "Qwen2-0.5B-Instruct":
        # The oldest have neither marks nor a class in their settings.
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    convert_model(model_files(folder), tmp_path / "model.gguf", "F32", lambda _done, _total: None)
    loaded = llama_cpp.Llama(str(tmp_path / "model.gguf"), vocab_only=True, verbose=False)
    tokenizer = Tokenizer.from_str(json.dumps(document))
    for text in (*TEXTS, model.prompt):
        given = unicodedata.normalize("NFC", text) if model.normalizes else text
        assert loaded.tokenize(given.encode(), special=True) == tokenizer.encode(text).ids, text
    loaded.close()


def test_a_camembert_needs_its_tokenizer_json(tmp_path):
    folder = build(ENCODERS["bge-m3"], tmp_path / "model").path
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    path = folder / "config.json"
    changed = {**json.loads(path.read_text()), "architectures": ["CamembertModel"], "model_type": "camembert"}
    path.write_text(json.dumps(changed))
    with pytest.raises(ConvertError, match="a CamembertTokenizer has other ids than"):
        convert_model(model_files(folder), tmp_path / "out.gguf", "", lambda _done, _total: None)
