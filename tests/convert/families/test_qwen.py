"""Qwen 2 and 3: the same logits and vectors from llama.cpp as from transformers."""

from __future__ import annotations

import json
import re
from typing import Any

import llama_cpp
import numpy as np
import pytest
import torch
import transformers
from convert.decoders import (
    HOSTILE,
    SHAPE,
    TOLERANCE,
    WINDOW,
    as_transformers_4,
    assert_all_tensors_needed,
    assert_converts_alike,
    converted,
    fields_of,
    notes_of,
    refusal,
    rewrite,
    saved_decoder,
    stored_tensors,
    tokens_of,
)
from convert.encoders import LAST, MEAN
from convert.halves import HALVES, assert_halves_agree, bits
from convert.reference import (
    assert_same_logits,
    gguf_logits,
    random_model,
    reference_logits,
    save_model,
    tiny_tokenizer,
)
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen3Config

ORIGINAL = 32
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": ORIGINAL, "rope_theta": 1e6}
PLAIN = {"rope_type": "default", "rope_theta": 1e6}


def qwen2(**fields: Any) -> Qwen2Config:
    return Qwen2Config(**{**SHAPE, "num_hidden_layers": 2, **fields})


def qwen3(**fields: Any) -> Qwen3Config:
    return Qwen3Config(**{**SHAPE, "num_hidden_layers": 2, "head_dim": 32, **fields})


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(qwen2, id="Qwen 2"),
        pytest.param(qwen3, id="Qwen 3"),
    ],
)
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="grouped queries"),
        pytest.param({"num_key_value_heads": 4}, id="as many heads of keys as of queries"),
        pytest.param({"num_key_value_heads": 1}, id="one head of keys"),
        pytest.param({"rope_parameters": PLAIN}, id="a base of a million"),
        pytest.param({"rope_parameters": LINEAR}, id="linear"),
        pytest.param({"rope_parameters": YARN}, id="yarn"),
        pytest.param({"rope_parameters": {**YARN, "attention_factor": 1.7}}, id="yarn with its own strength"),
    ],
)
def test_logits_are_those_of_transformers(tmp_path, config, fields, tied):
    if config is qwen2 and fields.get("rope_parameters", {}).get("rope_type") == "yarn":
        # transformers asks the config for a width of heads, which Qwen 2 does not say.
        fields = {**fields, "head_dim": 16}
    path = assert_converts_alike(tmp_path, saved_decoder(tmp_path, config(**fields, tie_word_embeddings=tied)))
    assert ("output.weight" in stored_tensors(path)) != tied


@pytest.mark.parametrize("make", [qwen2, qwen3])
@pytest.mark.parametrize("scaling", [LINEAR, YARN])
def test_scaling_shows_in_what_is_compared(tmp_path, make, scaling):
    model = saved_decoder(tmp_path, make(rope_parameters=scaling, head_dim=16))
    theirs = reference_logits(model, tokens_of(tmp_path))
    rewrite(tmp_path, rope_parameters={**PLAIN, "rope_theta": scaling["rope_theta"]})
    ours = gguf_logits(converted(tmp_path), tokens_of(tmp_path))
    assert (abs(ours - theirs).max(axis=1)[ORIGINAL + 1 :] > 10 * TOLERANCE * theirs.std()).all()


@pytest.mark.parametrize("make", [qwen2, qwen3])
@pytest.mark.parametrize("fields", [{}, {"rope_parameters": YARN, "head_dim": 16}, {"tie_word_embeddings": True}])
def test_shards_and_old_config_files_give_the_same_gguf(tmp_path, make, fields):
    saved_decoder(tmp_path / "one", make(**fields))
    saved_decoder(tmp_path / "many", make(**fields), shard="60KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 1
    gguf = converted(tmp_path / "one").read_bytes()
    assert converted(tmp_path / "many").read_bytes() == gguf
    as_transformers_4(tmp_path / "one", layer_types=None)
    assert converted(tmp_path / "one").read_bytes() == gguf


@pytest.mark.parametrize(("dtype", "kind", "tolerance"), HALVES)
@pytest.mark.parametrize("make", [qwen2, qwen3])
def test_sixteen_bits_are_kept_bit_by_bit(tmp_path, make, dtype, kind, tolerance):
    model, tensors = assert_halves_agree(tmp_path, make(), dtype, kind, tolerance)
    attention = model.model.layers[1].self_attn
    # Rows stay in their order.
    assert tensors["blk.1.attn_q.weight"].data.tobytes() == bits(attention.q_proj.weight, dtype).tobytes()
    one, name = (
        (attention.q_proj.bias, "attn_q.bias") if make is qwen2 else (attention.q_norm.weight, "attn_q_norm.weight")
    )
    np.testing.assert_array_equal(tensors[f"blk.1.{name}"].data, one.detach().numpy())


@pytest.mark.parametrize("make", [qwen2, qwen3])
def test_a_window_that_is_turned_on_is_not_kept_and_that_is_said(tmp_path, make):
    model = saved_decoder(tmp_path, make(use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1))
    (note,) = notes_of(tmp_path)
    assert f"after {WINDOW} tokens" in note
    tokens = tokens_of(tmp_path)
    ours, theirs = gguf_logits(converted(tmp_path), tokens), reference_logits(model, tokens)
    assert_same_logits(ours[:WINDOW], theirs[:WINDOW], TOLERANCE)
    assert abs(ours[WINDOW + 1 :] - theirs[WINDOW + 1 :]).max() > 0.1 * theirs.std()


@pytest.mark.parametrize(
    "fields",
    [
        {"use_sliding_window": False, "sliding_window": WINDOW},
        {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2},
        {"use_sliding_window": True, "sliding_window": 512, "max_window_layers": 0},
    ],
)
def test_a_window_that_no_layer_has_is_not_spoken_of(tmp_path, fields):
    model = saved_decoder(tmp_path, qwen2(**fields))
    assert notes_of(tmp_path) == []
    assert_converts_alike(tmp_path, model)


def saved_embedder(
    folder, config, *, mode: str = "lasttoken", normalized: bool = True, headless: bool = True
) -> transformers.PreTrainedModel:
    """A model as sentence-transformers saves it; the one with a head on top, in float32."""
    config._attn_implementation = "eager"
    tiny_tokenizer(folder)
    model = random_model(config)
    save_model(model.model if headless else model, folder)
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalized else [])]
    steps = [
        {"idx": number, "name": str(number), "path": f"{number}_{kind}" if number else "",
         "type": f"sentence_transformers.models.{kind}"}
        for number, kind in enumerate(kinds)
    ]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(steps))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    return model


def gguf_vector(path, tokens) -> tuple[int, np.ndarray]:
    """How llama.cpp pools by the header alone, and the vector of a text of tokens."""
    model = llama_cpp.Llama(
        str(path), embedding=True, n_ctx=128, n_batch=128, n_ubatch=128, n_threads=1, n_threads_batch=1,
        type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32, verbose=False,
    )  # fmt: skip
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, 1
        context = model._ctx.ctx
        assert llama_cpp.llama_decode(context, batch) == 0
        vector = llama_cpp.llama_get_embeddings_seq(context, 0)
        return llama_cpp.llama_pooling_type(context), np.array(np.ctypeslib.as_array(vector, (model.n_embd(),)))
    finally:
        llama_cpp.llama_batch_free(batch)
        model.close()


def hidden_states(model, tokens, mask: torch.Tensor | None = None) -> np.ndarray:
    with torch.no_grad():
        return model.model(torch.tensor([tokens]), attention_mask=mask).last_hidden_state[0].numpy()


@pytest.mark.parametrize("make", [qwen2, qwen3])
@pytest.mark.parametrize(("mode", "number"), [("lasttoken", LAST), ("mean", MEAN)])
@pytest.mark.parametrize("headless", [True, False])
def test_an_embedding_model_pools_as_its_folder_says(tmp_path, make, mode, number, headless):
    model = saved_embedder(tmp_path, make(), mode=mode, headless=headless)
    path, tokens = converted(tmp_path), tokens_of(tmp_path)
    hidden = hidden_states(model, tokens)
    kind, ours = gguf_vector(path, tokens)
    assert kind == number
    np.testing.assert_allclose(
        ours, hidden[-1] if number == LAST else hidden.mean(axis=0), atol=TOLERANCE * hidden.std()
    )
    assert ("output.weight" in stored_tensors(path)) != headless


@pytest.mark.parametrize("normalized", [True, False])
def test_the_header_says_whether_vectors_have_length_one(tmp_path, normalized):
    saved_embedder(tmp_path, qwen3(), normalized=normalized)
    fields = fields_of(converted(tmp_path))
    assert (fields["pooling_type"], fields["normalize_embeddings"]) == (LAST, normalized)
    assert "attention.causal" not in fields


def test_an_embedding_model_may_see_the_words_to_come(tmp_path):
    model = saved_embedder(tmp_path, qwen2())
    rewrite(tmp_path, is_causal=False)
    tokens = tokens_of(tmp_path)
    everything = torch.zeros(1, 1, len(tokens), len(tokens))
    theirs = hidden_states(model, tokens, everything)[-1]
    before = hidden_states(model, tokens)[-1]
    _, ours = gguf_vector(converted(tmp_path), tokens)
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE * theirs.std())
    assert abs(before - theirs).max() > 0.1 * theirs.std()


@pytest.mark.parametrize("make", [qwen2, qwen3])
def test_a_text_model_without_its_output_is_refused(tmp_path, make):
    saved_embedder(tmp_path, make())
    (tmp_path / "modules.json").unlink()
    assert "no output.weight" in refusal(tmp_path)
    rewrite(tmp_path, tie_word_embeddings=True)
    converted(tmp_path)


def test_a_step_that_llama_cpp_does_not_have_is_refused(tmp_path):
    saved_embedder(tmp_path, qwen3(), mode="max")
    assert "'max'" in refusal(tmp_path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with a Qwen 2, and one with a Qwen 3."""
    folders = {}
    for make in (qwen2, qwen3):
        folders[make] = tmp_path_factory.mktemp(make.__name__)
        saved_decoder(folders[make], make())
    return folders


@pytest.fixture(params=[qwen2, qwen3])
def folder(request, folders):
    """Each of them, with the files that it had before."""
    folder = folders[request.param]
    before = {path: path.read_bytes() for path in (folder / "config.json", folder / "model.safetensors")}
    yield folder
    for path, content in before.items():
        path.write_bytes(content)


def test_no_tensor_may_be_missing_or_misshapen(folder):
    assert_all_tensors_needed(folder)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("model.layers.2.input_layernorm.weight", (64,), "there is a layer 2|does not belong"),
        ("model.layers.0.self_attn.o_proj.bias", (64,), "attn_output.bias"),
        ("model.layers.0.mlp.up_proj.bias", (96,), "ffn_up.bias"),
        ("model.layers.0.mlp.experts.0.up_proj.weight", (96, 64), "does not belong"),
        ("lm_head.bias", (320,), "does not belong"),
        ("visual.patch_embed.proj.weight", (8, 8), "does not belong"),
    ],
)
def test_a_tensor_too_many_is_refused(folder, name, shape, reason):
    path = folder / "model.safetensors"
    save_file({**load_file(path), name: torch.ones(shape)}, path)
    assert re.search(reason, refusal(folder))


def test_biases_belong_to_qwen_2_and_norms_of_queries_to_qwen_3(folders):
    for make, name, shape in ((qwen3, "q_proj.bias", 128), (qwen2, "q_norm.weight", 16)):
        path = folders[make] / "model.safetensors"
        before = path.read_bytes()
        save_file({**load_file(path), f"model.layers.0.self_attn.{name}": torch.ones(shape)}, path)
        assert re.search(r"attn_q\.bias|does not belong", refusal(folders[make]))
        path.write_bytes(before)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *[case for case in HOSTILE if "dynamic" not in case[2]],
        ("head_dim", 0, "a whole number from 1"),
        ("head_dim", 8, "shape|not as wide"),
        ("rms_norm_eps", None, "missing"),
        ("use_sliding_window", "yes", "true or false"),
        ("max_window_layers", -1, "a whole number from 0"),
        ("is_causal", False, "cannot write text"),
        ("rope_parameters", {"rope_type": "mrope"}, "'mrope' positions"),
        ("rope_parameters", {"rope_type": "llama3", "factor": 8.0}, "for Llama only"),
        ("rope_parameters", {"rope_type": "yarn", "factor": 4.0, "beta_fast": 64}, "beta_fast"),
        ("rope_parameters", {"rope_type": "yarn", "factor": -4.0}, "1 at least"),
    ],
)
def test_config_files_that_cannot_be_right_are_refused(folder, name, value, reason):
    rewrite(folder, **{name: value})
    assert re.search(reason, refusal(folder))


def test_a_qwen_3_with_biases_is_refused(tmp_path):
    saved_decoder(tmp_path, qwen3(attention_bias=True))
    assert "without biases" in refusal(tmp_path)
