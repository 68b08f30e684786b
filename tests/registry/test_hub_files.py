"""Which files of a repository make a model, by names as publishers write them."""

from __future__ import annotations

import pytest

from ollama_nb.registry.hub_files import HubFile, OnlySafetensorsError, choose_folder, choose_model, quantization
from ollama_nb.wire.errors import BadRequestError, NotFoundError

PLACE = "hf.co/someone/Model"
BARTOWSKI = (
    "Llama-3.2-1B-Instruct-IQ3_M.gguf",
    "Llama-3.2-1B-Instruct-IQ4_XS.gguf",
    "Llama-3.2-1B-Instruct-Q4_0.gguf",
    "Llama-3.2-1B-Instruct-Q4_K_L.gguf",
    "Llama-3.2-1B-Instruct-Q4_K_M.gguf",
    "Llama-3.2-1B-Instruct-Q8_0.gguf",
    "Llama-3.2-1B-Instruct-f16.gguf",
    "Llama-3.2-1B-Instruct.imatrix",
    "README.md",
)
UNSLOTH = (
    "BF16/Qwen3-8B-BF16-00001-of-00002.gguf",
    "BF16/Qwen3-8B-BF16-00002-of-00002.gguf",
    "Qwen3-8B-IQ4_XS.gguf",
    "Qwen3-8B-Q4_K_M.gguf",
    "Qwen3-8B-UD-Q4_K_XL.gguf",
    "config.json",
    "imatrix_unsloth.gguf",
    "mmproj-BF16.gguf",
    "mmproj-F16.gguf",
    "mmproj-F32.gguf",
)
TRANSFORMERS = (
    "config.json",
    "generation_config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def files(*paths: str) -> list[HubFile]:
    return [HubFile(path, f"https://hub/{path}", 10) for path in paths]


def chosen(paths: tuple[str, ...], tag: str) -> str:
    return choose_model(PLACE, files(*paths), tag).weights.path


@pytest.mark.parametrize(
    ("path", "quant"),
    [
        ("Model-Name.Q4_K_M.gguf", "Q4_K_M"),
        ("model-q4_k_m.gguf", "Q4_K_M"),
        ("Model_Name_Q5_K_S.gguf", "Q5_K_S"),
        ("Q4_K_M/model.gguf", "Q4_K_M"),
        ("UD-Q4_K_XL/Model-UD-Q4_K_XL-00001-of-00002.gguf", "UD-Q4_K_XL"),
        ("Model.i1-IQ2_XXS.gguf", "IQ2_XXS"),
        ("Model-IQ4_NL.gguf", "IQ4_NL"),
        ("Model-IQ3_S-imat.gguf", "IQ3_S"),
        ("Model-Q4_0_4_8.gguf", "Q4_0_4_8"),
        ("Model-TQ1_0.gguf", "TQ1_0"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("Model-bf16.gguf", "BF16"),
        ("model-fp16.gguf", "F16"),
        ("ggml-model-f32.gguf", "F32"),
        ("model.q8.gguf", "Q8"),
        ("Qwen2.5-7B.gguf", ""),
        ("FAQ4_U.gguf", ""),
        ("model.gguf", ""),
    ],
)
def test_a_quantization_is_read_off_a_name(path: str, quant: str) -> None:
    assert quantization(path) == quant


@pytest.mark.parametrize(
    ("paths", "tag", "expected"),
    [
        (BARTOWSKI, "latest", "Llama-3.2-1B-Instruct-Q4_K_M.gguf"),
        (BARTOWSKI, "Q8_0", "Llama-3.2-1B-Instruct-Q8_0.gguf"),
        (BARTOWSKI, "q4_k_m", "Llama-3.2-1B-Instruct-Q4_K_M.gguf"),
        (BARTOWSKI, "iq4_xs", "Llama-3.2-1B-Instruct-IQ4_XS.gguf"),
        (BARTOWSKI, "F16", "Llama-3.2-1B-Instruct-f16.gguf"),
        (BARTOWSKI, "Llama-3.2-1B-Instruct-IQ3_M.gguf", "Llama-3.2-1B-Instruct-IQ3_M.gguf"),
        (BARTOWSKI, "llama-3.2-1b-instruct-iq3_m", "Llama-3.2-1B-Instruct-IQ3_M.gguf"),
        (UNSLOTH, "latest", "Qwen3-8B-Q4_K_M.gguf"),
        (UNSLOTH, "UD-Q4_K_XL", "Qwen3-8B-UD-Q4_K_XL.gguf"),
        (UNSLOTH, "Q4_K_XL", "Qwen3-8B-UD-Q4_K_XL.gguf"),
        (("M-Q8_0.gguf", "M-Q4_0.gguf", "M-Q2_K.gguf"), "latest", "M-Q4_0.gguf"),
        (("M-Q8_0.gguf", "M-Q2_K.gguf", "M-F16.gguf"), "latest", "M-Q8_0.gguf"),
        (("M-F16.gguf", "M-Q3_K_M.gguf"), "latest", "M-Q3_K_M.gguf"),
        (("M-F16.gguf", "M-Q2_K.gguf"), "latest", "M-F16.gguf"),
        (("Q8_0/model.gguf", "Q4_K_M/model.gguf"), "latest", "Q4_K_M/model.gguf"),
        (("Q8_0/model.gguf", "Q4_K_M/model.gguf"), "q8_0", "Q8_0/model.gguf"),
        (("Old/M-Q4_K_M.gguf", "M-Q4_K_M.gguf"), "Q4_K_M", "M-Q4_K_M.gguf"),
        (("M-Q4_K_M-00001-of-00003.gguf", "M-Q2_K.gguf"), "latest", "M-Q2_K.gguf"),
        (("M-Q4_K_M-00001-of-00001.gguf",), "latest", "M-Q4_K_M-00001-of-00001.gguf"),
        (("M-IQ3_S-imat.gguf", "M-IQ3_S-other.gguf"), "IQ3_S-imat", "M-IQ3_S-imat.gguf"),
        (("M-imatrix-Q4_K_M.gguf", "M-imatrix.gguf"), "latest", "M-imatrix-Q4_K_M.gguf"),
        (("b.gguf", "a.gguf"), "latest", "a.gguf"),
        (("model.gguf",), "latest", "model.gguf"),
    ],
)
def test_a_tag_chooses_one_file(paths: tuple[str, ...], tag: str, expected: str) -> None:
    assert chosen(paths, tag) == expected
    assert chosen(tuple(reversed(paths)), tag) == expected


@pytest.mark.parametrize(
    ("paths", "tag", "kind", "told", "advice"),
    [
        (BARTOWSKI, "Q9_X", NotFoundError, f"{PLACE} has no Q9_X", "There are: F16, IQ3_M, IQ4_XS, Q4_0, Q4_K_L"),
        (("a.gguf", "b.gguf"), "Q4_K_M", NotFoundError, f"{PLACE} has no Q4_K_M", "There are: a.gguf, b.gguf."),
        (tuple(f"{n}.gguf" for n in range(100, 140)), "F16", NotFoundError, "has no F16", "129.gguf and 10 more."),
        (UNSLOTH, "BF16", BadRequestError, "parts of a model", "or choose one of IQ4_XS, Q4_K_M, UD-Q4_K_XL"),
        (("M-Q4_0-00001-of-00002.gguf",), "latest", BadRequestError, "parts of a model", "gguf-split --merge."),
        (("a-1B-Q4_0.gguf", "a-7B-Q4_0.gguf"), "Q4_0", BadRequestError, "several models in Q4_0", "a-7B-Q4_0.gguf"),
        (("a-1B-Q4_0.gguf", "a-7B-Q4_0.gguf"), "latest", BadRequestError, "several models in Q4_0", "a-1B-Q4_0"),
        (TRANSFORMERS, "latest", OnlySafetensorsError, "has no GGUF file, but safetensors", f"FROM {PLACE}"),
        (("pytorch_model.bin", "config.json"), "latest", BadRequestError, "pickle files", "safetensors or GGUF"),
        (("README.md",), "latest", NotFoundError, "has no GGUF and no safetensors", "a model's repository"),
        ((), "latest", NotFoundError, "has no GGUF and no safetensors", "a model's repository"),
        (("mmproj-F16.gguf",), "latest", BadRequestError, "has no model, only a projector", "mmproj-F16.gguf"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_what_there_is(
    paths: tuple[str, ...], tag: str, kind: type[BadRequestError], told: str, advice: str
) -> None:
    with pytest.raises(kind) as refused:
        chosen(paths, tag)
    assert told in refused.value.message
    assert advice in str(refused.value.hint)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (UNSLOTH, "mmproj-F16.gguf"),
        (("M-Q4_0.gguf", "mmproj-M-Q8_0.gguf", "mmproj-M-BF16.gguf"), "mmproj-M-BF16.gguf"),
        (("M-Q4_0.gguf", "M-mmproj-f16.gguf"), "M-mmproj-f16.gguf"),
        (("M-Q4_0.gguf", "mmproj.gguf"), "mmproj.gguf"),
        (("a/M-Q4_0.gguf", "a/mmproj-F32.gguf", "mmproj-F16.gguf"), "a/mmproj-F32.gguf"),
        (("M-Q4_0.gguf",), None),
    ],
)
def test_a_projector_goes_with_the_weights(paths: tuple[str, ...], expected: str | None) -> None:
    projector = choose_model(PLACE, files(*paths), "latest").projector
    assert (projector and projector.path) == expected


def test_the_texts_of_a_repository_go_with_the_weights() -> None:
    model = choose_model(
        PLACE, files("M.gguf", "template", "system", "params", "LICENSE", "docs/template", "README.md"), "latest"
    )
    texts = (model.template, model.system, model.params, model.license)
    assert [file and file.path for file in texts] == ["template", "system", "params", "LICENSE"]
    assert choose_model(PLACE, files("M.gguf", "docs/system"), "latest").system is None


@pytest.mark.parametrize(
    ("paths", "left_out"),
    [
        (TRANSFORMERS, ()),
        (
            (*TRANSFORMERS, "consolidated.safetensors", "original/params.json", "original/consolidated.00.pth",
             "onnx/config.json", "onnx/model.onnx", "pytorch_model.bin", "README.md", ".gitattributes", ".cache.json"),
            ("consolidated.safetensors", "original/params.json", "original/consolidated.00.pth", "onnx/config.json",
             "onnx/model.onnx", "pytorch_model.bin", "README.md", ".gitattributes", ".cache.json"),
        ),
        (("model.safetensors", "model.fp16.safetensors", "config.json"), ("model.fp16.safetensors",)),
        (("consolidated.safetensors", "params.json", "config.json"), ()),
        (("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "model.safetensors"), ("merges.txt", "vocab.txt")),
        (("vocab.json", "merges.txt", "vocab.txt", "model.safetensors"), ()),
        (("tokenizer.model", "tokenizer.json", "model.safetensors"), ()),
        (("modules.json", "1_Pooling/config.json", "2_Dense/config.json", "model.safetensors"), ()),
        (("chat_template.jinja", "additional_chat_templates/tool_use.jinja", "model.safetensors"), ()),
        (("model.safetensors", *TRANSFORMERS), TRANSFORMERS[2:5]),
    ],
)  # fmt: skip
def test_of_a_folder_what_a_conversion_reads_is_taken(paths: tuple[str, ...], left_out: tuple[str, ...]) -> None:
    folder = choose_folder(PLACE, files(*paths))
    assert [file.path for file in folder.files] == sorted(set(paths) - set(left_out))


@pytest.mark.parametrize(
    ("paths", "kind", "told"),
    [
        (("pytorch_model.bin", "config.json"), BadRequestError, "pickle files"),
        (("adapter_model.safetensors", "adapter_config.json"), BadRequestError, "is an adapter, not a model"),
        (("M-Q4_0.gguf",), BadRequestError, "has GGUF files and no safetensors"),
        (("README.md",), NotFoundError, "has no GGUF and no safetensors"),
    ],
)
def test_what_is_no_folder_of_safetensors_is_refused(
    paths: tuple[str, ...], kind: type[BadRequestError], told: str
) -> None:
    with pytest.raises(kind, match=told):
        choose_folder(PLACE, files(*paths))
