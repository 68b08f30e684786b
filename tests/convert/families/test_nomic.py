"""Nomic's BERT: the same vectors as transformers' class for it, from both kinds of config.json."""

from __future__ import annotations

import json

import pytest
import transformers
from convert.encoders import SHAPE, assert_converts_alike, saved_encoder
from convert.reference import convert
from gguf import GGUFReader

from ollama_nb.convert.errors import ConvertError

TOLERANCE = 1e-4
"""Of the spread of the numbers; without gelu only the rounding of float32 is left."""

FIRST = {
    "architectures": ["NomicBertModel"],
    "model_type": "nomic_bert",
    "activation_function": "swiglu",
    "causal": False,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_embd": 64,
    "n_head": 4,
    "n_inner": 96,
    "n_layer": 2,
    "n_positions": 8192,
    "num_experts": 0,
    "moe_every_n_layers": 0,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "type_vocab_size": 2,
    "use_rms_norm": False,
    "vocab_size": 300,
}
"""The fields of nomic-embed-text-v1.5's own config.json, in a tiny shape."""


@pytest.fixture
def saved(tmp_path):
    """A tiny model as transformers saves it: new config.json, the tensors' first names."""
    return tmp_path, saved_encoder(tmp_path, transformers.NomicBertConfig(**SHAPE))


def rewrite(folder, config):
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("kind", [transformers.AutoModel, transformers.AutoModelForMaskedLM])
@pytest.mark.parametrize("theta", [1000.0, 10000.0])
def test_vectors_are_those_of_transformers(tmp_path, kind, theta):
    rope = {"rope_theta": theta, "rope_type": "default"}
    model = saved_encoder(tmp_path, transformers.NomicBertConfig(**SHAPE, rope_parameters=rope), kind)
    assert_converts_alike(tmp_path, model, TOLERANCE)


def test_the_first_kind_of_config_gives_the_same_model(saved):
    folder, model = saved
    new = GGUFReader(convert(folder, folder / "new.gguf"))
    rewrite(folder, FIRST)
    old = GGUFReader(assert_converts_alike(folder, model, TOLERANCE))
    assert old.fields.keys() == new.fields.keys()
    different = {name for name in old.fields if old.fields[name].contents() != new.fields[name].contents()}
    assert different == {"nomic-bert.context_length"}
    assert old.fields["nomic-bert.context_length"].contents() == 2048, "claimed are 8192, trained were 2048"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"moe_every_n_layers": 2}, "with experts cannot be converted"),
        ({"qkv_proj_bias": True}, '"qkv_proj_bias" cannot be converted'),
        ({"prenorm": True}, '"prenorm" cannot be converted'),
        ({"prenorm": "no"}, '"prenorm" must be true or false'),
        ({"rotary_emb_fraction": 0.5}, "rotary positions are none"),
        ({"rotary_emb_scale_base": 512}, "rotary positions are none"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2}}, "'dynamic' positions are none"),
        ({"activation_function": "geglu"}, "activation 'geglu' is none"),
        ({"head_dim": 8}, "heads together are not as wide"),
        ({"n_head": 7}, "64 numbers cannot be divided among 7 heads"),
        ({"n_embd": 0}, '"n_embd" must be a whole number'),
        ({"n_positions": [1]}, '"n_positions" must be a whole number'),
        ({"rotary_emb_base": {}}, '"rotary_emb_base" must be a number'),
    ],
    ids=repr,
)
def test_what_llama_cpp_has_in_one_form_only_is_refused_in_others(saved, changes, text):
    rewrite(saved[0], FIRST | changes)
    with pytest.raises(ConvertError, match=text):
        convert(saved[0], saved[0] / "model.gguf")
