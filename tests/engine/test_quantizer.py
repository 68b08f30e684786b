"""llama.cpp's quantization of small real files: every type loads again and answers, and what cannot be is told."""

from __future__ import annotations

import contextlib
import ctypes
from collections import Counter

import numpy as np
import pytest
import vision_files
from embedding_files import write_bert
from f16_files import write_f16
from gguf_files import gguf_bytes
from llama_cpp import llama_cpp as lib
from quantizable_files import shape, write_narrow, write_wide

from ollama_nb.convert.quantize import NEED_IMATRIX, QUANTIZATIONS
from ollama_nb.engine import quantizer
from ollama_nb.engine.model import write_log
from ollama_nb.engine.quantizer import Journal, quantize
from ollama_nb.gguf.reader import read_header
from ollama_nb.wire.errors import BadRequestError, OllamaError

TOKENS = (1, 5, 9, 12, 7)
NARROW = [name for name in QUANTIZATIONS if name not in {"Q1_0", "MXFP4"}]
WIDE = [name for name in QUANTIZATIONS if name != "MXFP4"]


@pytest.fixture(autouse=True)
def _as_in_a_model():
    """llama.cpp's words go where a model's process has them."""
    lib.llama_log_set(write_log, ctypes.c_void_p(0))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same models in F32, F16 and BF16."""
    folder = tmp_path_factory.mktemp("sources")
    files = {"narrow": write_narrow(folder / "narrow.gguf"), "wide": write_wide(folder / "wide.gguf")}
    for stored in ("F16", "BF16"):
        files[stored] = folder / f"{stored}.gguf"
        quantize(files["wide"], files[stored], stored, ignore)
    return files


def ignore(completed, total):
    pass


@contextlib.contextmanager
def context_of(path, *, embeddings=False):
    """A context with the model of a file."""
    parameters = lib.llama_context_default_params()
    parameters.n_ctx, parameters.n_threads, parameters.n_threads_batch = 64, 1, 1
    parameters.embeddings = embeddings
    model = lib.llama_model_load_from_file(bytes(path), lib.llama_model_default_params())
    assert model
    context = lib.llama_init_from_model(model, parameters)
    try:
        yield context
    finally:
        lib.llama_free(context)
        lib.llama_model_free(model)


def answer(path):
    """The logits after a few tokens."""
    with context_of(path) as context:
        tokens = (lib.llama_token * len(TOKENS))(*TOKENS)
        assert lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(TOKENS))) == 0
        count = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(lib.llama_get_model(context)))
        return np.ctypeslib.as_array(lib.llama_get_logits(context), (count,)).copy()


def likeness(one, other):
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def types(path):
    return {tensor.name: tensor.type for tensor in read_header(path).tensors}


@pytest.mark.parametrize("name", WIDE)
def test_every_type_loads_and_answers(sources, tmp_path, name):
    out = tmp_path / "out.gguf"
    assert quantize(sources["wide"], out, name, ignore) == []
    assert read_header(out).file_type == name
    logits = answer(out)
    assert np.isfinite(logits).all()
    # Types of five bits and more say nearly the same; those of ternary models are not for these weights.
    if name in {"F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M"}:
        assert likeness(logits, answer(sources["wide"])) > 0.98


@pytest.mark.parametrize("name", NARROW)
def test_every_type_falls_back_where_the_rows_do_not_fit(sources, tmp_path, name):
    out = tmp_path / "out.gguf"
    notes = quantize(sources["narrow"], out, name, ignore)
    assert np.isfinite(answer(out)).all()
    assert bool(notes) == (name not in {"F32", "F16", "BF16", "Q8_0"})


def test_what_fell_back_is_told_by_number_and_type(sources, tmp_path):
    assert quantize(sources["narrow"], tmp_path / "out.gguf", "Q4_K_M", ignore) == [
        "13 of 21 tensors have rows that are no multiple of 256 and became Q5_0 instead of Q4_K",
        "2 of 21 tensors have rows that are no multiple of 256 and became Q8_0 instead of Q6_K",
    ]


def test_rows_that_fit_nothing_stay_in_half_precision(tmp_path):
    out = tmp_path / "out.gguf"
    notes = quantize(write_narrow(tmp_path / "odd.gguf", width=40), out, "Q8_0", ignore)
    assert notes == ["16 of 21 tensors have rows that are no multiple of 32 and became F16 instead of Q8_0"]
    assert np.isfinite(answer(out)).all()


def test_a_type_without_a_way_out_is_refused(sources, tmp_path):
    with pytest.raises(BadRequestError, match="this model cannot be quantized: no tensor type fallback is defined"):
        quantize(sources["narrow"], tmp_path / "out.gguf", "Q1_0", ignore)


def test_the_mixture_is_that_of_the_documents(sources, tmp_path):
    quantize(sources["wide"], tmp_path / "m.gguf", "Q4_K_M", ignore)
    quantize(sources["wide"], tmp_path / "s.gguf", "Q4_K_S", ignore)
    medium, small = types(tmp_path / "m.gguf"), types(tmp_path / "s.gguf")
    assert Counter(medium.values()) == {"Q4_K": 13, "F32": 5, "Q6_K": 3}
    assert medium["output.weight"] == medium["blk.1.attn_v.weight"] == medium["blk.1.ffn_down.weight"] == "Q6_K"
    assert Counter(small.values()) == {"Q4_K": 13, "F32": 5, "Q5_K": 2, "Q6_K": 1}
    assert small["blk.0.attn_v.weight"] == small["blk.1.attn_v.weight"] == "Q5_K"


@pytest.mark.parametrize("source", ["wide", "F16", "BF16"])
@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0", "Q4_K_M"])
def test_any_float_type_becomes_any_other(sources, tmp_path, source, name):
    out = tmp_path / "out.gguf"
    quantize(sources[source], out, name, ignore)
    assert read_header(out).file_type == name
    assert read_header(out).metadata.keys() >= read_header(sources[source]).metadata.keys()
    # Four bits of weights by chance keep less than those of a model.
    assert likeness(answer(out), answer(sources["wide"])) > (0.9 if name == "Q4_K_M" else 0.999)


def test_progress_rises_from_nothing_to_all_bytes(sources, tmp_path):
    told = []
    quantize(sources["wide"], tmp_path / "out.gguf", "Q8_0", lambda *step: told.append(step))
    total = sum(tensor.size for tensor in read_header(sources["wide"]).tensors)
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    assert {step[1] for step in told} == {total}
    completed = [step[0] for step in told]
    assert completed == sorted(completed)
    assert len(set(completed)) == len(read_header(sources["wide"]).tensors) + 1


@pytest.mark.parametrize("name", sorted({*NEED_IMATRIX, "NVFP4"}))
def test_llama_cpp_itself_refuses_the_types_that_are_not_offered(sources, tmp_path, name):
    with pytest.raises(BadRequestError, match=r"requires an imatrix|invalid output file type"):
        quantize(sources["wide"], tmp_path / "out.gguf", name, ignore)


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K_M", "F16"])
def test_an_encoder_keeps_its_positions_and_goes_on_embedding(tmp_path, name):
    source, out = write_bert(tmp_path / "bert.gguf"), tmp_path / "out.gguf"
    quantize(source, out, name, ignore)
    found = types(out)
    assert found["position_embd.weight"] == found["token_types.weight"] == found["token_embd_norm.weight"] == "F32"
    assert found["blk.0.attn_q.weight"] != "F32"
    vectors = []
    for path in (source, out):
        with context_of(path, embeddings=True) as context:
            tokens = (lib.llama_token * len(TOKENS))(*TOKENS)
            assert lib.llama_encode(context, lib.llama_batch_get_one(tokens, len(TOKENS))) == 0
            vectors.append(np.ctypeslib.as_array(lib.llama_get_embeddings_seq(context, 0), (32,)).copy())
    assert likeness(*vectors) > 0.98


def test_the_language_part_of_a_model_that_sees_is_quantized(tmp_path):
    out = tmp_path / "out.gguf"
    quantize(vision_files.write_gemma3(tmp_path).model, out, "Q8_0", ignore)
    with context_of(out):
        assert Counter(types(out).values()) == {"Q8_0": 16, "F32": 13}


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
def test_a_tower_in_the_same_file_stays_as_it_is(tmp_path, stored):
    source, out = tmp_path / "model.gguf", tmp_path / "out.gguf"
    parsed = read_header(write_wide(tmp_path / "plain.gguf"))
    metadata = {key: value for key, value in parsed.metadata.items() if isinstance(value, str | int | float)}
    tensors = [(tensor.name, "F32", tensor.shape) for tensor in parsed.tensors]
    tensors += [("v.blk.0.attn_q.weight", stored, (256, 64)), ("mm.0.weight", stored, (256, 256))]
    source.write_bytes(gguf_bytes(metadata, [*tensors, ("mm.0.bias", "F32", (256,))]))
    quantize(source, out, "Q4_K_M", ignore)
    found = types(out)
    assert found["v.blk.0.attn_q.weight"] == found["mm.0.weight"] == stored
    assert found["mm.0.bias"] == "F32"
    assert found["blk.0.attn_q.weight"] == "Q4_K"


def test_mxfp4_is_given_to_experts_only(tmp_path):
    source, out = tmp_path / "model.gguf", tmp_path / "out.gguf"
    metadata = {**shape(64, 64, 1), "llama.expert_count": 4, "llama.expert_used_count": 2}
    tensors = [("blk.0.ffn_up_exps.weight", "F32", (64, 64, 4)), ("blk.0.attn_q.weight", "F32", (64, 64))]
    source.write_bytes(gguf_bytes(metadata, tensors))
    quantize(source, out, "MXFP4", ignore)
    assert types(out) == {"blk.0.ffn_up_exps.weight": "MXFP4", "blk.0.attn_q.weight": "Q8_0"}


def test_tensors_worked_on_in_pieces_are_the_same(sources, tmp_path, monkeypatch):
    whole, pieces = tmp_path / "whole.gguf", tmp_path / "pieces.gguf"
    quantize(sources["wide"], whole, "Q4_K_M", ignore)
    monkeypatch.setattr(quantizer, "BUFFER", 1 << 16)
    quantize(sources["wide"], pieces, "Q4_K_M", ignore)
    assert whole.read_bytes() == pieces.read_bytes()


def test_a_small_file_made_large_again_says_what_it_said(sources, tmp_path):
    """The tests' own way back, for models that exist in a small file only."""
    quantize(sources["wide"], tmp_path / "small.gguf", "Q8_0", ignore)
    again = write_f16(tmp_path / "small.gguf", tmp_path / "f16.gguf")
    assert read_header(again).file_type == "F16"
    assert likeness(answer(again), answer(tmp_path / "small.gguf")) > 0.999
    quantize(again, tmp_path / "smaller.gguf", "Q4_K_M", ignore)
    assert np.isfinite(answer(tmp_path / "smaller.gguf")).all()


def test_a_quantized_model_is_refused(sample_gguf, tmp_path):
    with pytest.raises(BadRequestError, match="only supported for F16 and F32 models") as caught:
        quantize(sample_gguf, tmp_path / "out.gguf", "Q8_0", ignore)
    assert "Q4_1" in caught.value.hint


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda data: data[:4], "GGUF"),
        (lambda data: data[: len(data) // 2], "ends at byte"),
        (lambda data: b"PK\3\4" + data[4:], "not in GGUF format"),
        (lambda data: data.replace(b"llama", b"lamma"), "this model cannot be quantized: unknown model architecture"),
        (lambda data: data[:-4] + b"\xff\xff\xff\x7f", "this model cannot be quantized: .* has invalid data"),
        (lambda data: data.replace(b"context_length", b"context_breite"), "key not found in model"),
    ],
    ids=["four bytes", "half a file", "another format", "unknown architecture", "not a number", "a key is missing"],
)
def test_a_broken_file_is_refused_with_the_reason(sources, tmp_path, damage, text):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(damage(sources["wide"].read_bytes()))
    with pytest.raises(BadRequestError, match=text) as caught:
        quantize(broken, tmp_path / "out.gguf", "Q8_0", ignore)
    assert str(tmp_path) not in caught.value.message


def test_what_the_reader_of_files_says_is_the_reason(tmp_path):
    source = tmp_path / "model.gguf"
    source.write_bytes(gguf_bytes(shape(32, 64, 1), [(f"{'a' * 100}.weight", "F32", (32, 32))]))
    with pytest.raises(BadRequestError, match="this model cannot be quantized: tensor name 0 is too long"):
        quantize(source, tmp_path / "out.gguf", "Q8_0", ignore)


def test_a_missing_file_is_the_servers_fault(tmp_path):
    with pytest.raises(FileNotFoundError):
        quantize(tmp_path / "nothing.gguf", tmp_path / "out.gguf", "Q8_0", ignore)


def test_a_result_that_cannot_be_written_is_the_servers_fault(sources, tmp_path):
    (tmp_path / "out.gguf").mkdir()
    with pytest.raises(OllamaError, match="the quantized model could not be written") as caught:
        quantize(sources["wide"], tmp_path / "out.gguf", "Q8_0", ignore)
    assert caught.value.status == 500
    assert "MiB are free" in caught.value.hint


def test_a_listener_that_fails_is_not_lost_in_llama_cpp(sources, tmp_path):
    def fail(completed, total):
        if completed:
            raise BrokenPipeError("nobody listens")

    with pytest.raises(BrokenPipeError):
        quantize(sources["wide"], tmp_path / "out.gguf", "Q8_0", fail)


def test_the_log_goes_back_to_whom_it_belonged(sources, tmp_path):
    def ears():
        callback, context = lib.llama_log_callback(), ctypes.c_void_p()
        lib.llama_log_get(ctypes.byref(callback), ctypes.byref(context))
        return ctypes.cast(callback, ctypes.c_void_p).value, context.value

    before = ears()
    quantize(sources["wide"], tmp_path / "out.gguf", "Q8_0", ignore)
    assert ears() == before


def test_the_journal_counts_a_tensor_once_the_next_one_begins():
    told = []
    journal = Journal({"a.weight": 10, "b.weight": 20}, lambda *step: told.append(step))
    for text in (
        "llama_model_loader: loaded meta data\n",
        "[   1/   2] a.weight                             - [   256,     94,      1,      1], type =    f32, ",
        "converting to q6_K .. ",
        "size =     0.09 MiB ->     0.02 MiB\n",
        "[   2/   2] b.weight                             - [   256,     94,      1,      1], type =    f32, ",
        "[   3/   2] unheard of                           - [   256,     94,      1,      1], type =    f32, ",
    ):
        journal.feed(text)
    assert told == [(0, 30), (10, 30), (30, 30)]
    journal.feed("llama_model_quantize: failed to quantize: the reason\n")
    assert (journal.failure, journal.notes()) == ("the reason", [])
