"""RoBERTa and its relatives: positions begin behind the padding token's."""

from __future__ import annotations

import json

import pytest
import transformers
from convert.encoders import GELU_TOLERANCE, SHAPE, assert_converts_alike, saved_encoder
from convert.reference import convert
from gguf import GGUFReader

from ollama_nb.convert.errors import ConvertError

HEADLESS, MASKED = transformers.AutoModel, transformers.AutoModelForMaskedLM


@pytest.mark.parametrize("kind", [HEADLESS, MASKED])
@pytest.mark.parametrize(
    "config_type", [transformers.RobertaConfig, transformers.XLMRobertaConfig, transformers.CamembertConfig]
)
@pytest.mark.parametrize("pad", [0, 1, 4])
def test_vectors_are_those_of_transformers_wherever_padding_stands(tmp_path, config_type, kind, pad):
    config = config_type(**SHAPE, pad_token_id=pad, type_vocab_size=1)
    path = assert_converts_alike(tmp_path, saved_encoder(tmp_path, config, kind), GELU_TOLERANCE)
    reader = GGUFReader(path)
    assert reader.fields["bert.context_length"].contents() == 64 - pad - 1
    assert reader.fields["tokenizer.ggml.token_type_count"].contents() == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"pad_token_id": 63}, "leaves 0 positions"),
        ({"pad_token_id": 2**31 - 1}, "leaves -2147483584 positions"),
        ({"pad_token_id": -1}, '"pad_token_id" must be a whole number'),
        ({"pad_token_id": "<pad>"}, '"pad_token_id" must be a whole number'),
    ],
)
def test_a_padding_token_that_leaves_no_positions_is_refused(tmp_path, changes, text):
    saved_encoder(tmp_path, transformers.RobertaConfig(**SHAPE))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ConvertError, match=text):
        convert(tmp_path, tmp_path / "model.gguf")
