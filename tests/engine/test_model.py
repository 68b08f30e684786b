"""The real model behind its few methods: text, batches, cache, and what it refuses.

Files that could end the process are loaded by children only, in the tests of the supervisor.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_cpp import llama_cpp as lib
from vision_files import write_gemma3

from ollama_nb.engine.batch import Batch
from ollama_nb.engine.model import AbortedError, DecodeError, Model, ModelLoadError, NoCacheSpaceError
from ollama_nb.runner.messages import Load

PROMPT = "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n"
WIDTH, LAYERS = 576, 30
"""Of SmolLM2-135M: its embedding and its blocks."""


@pytest.fixture(scope="module")
def text_model(sample_gguf):
    """A model whose vocabulary is asked and that computes nothing."""
    return Model(Load(model=str(sample_gguf), num_ctx=4, num_thread=1), lambda _: None)


def compute(model: Model, tokens: list[int], sequence: int = 0, *, chunk: int = 64) -> np.ndarray:
    """The logits behind the last token, computed in chunks on top of what the sequence holds."""
    batch = Batch(model.num_batch)
    row = 0
    for start in range(0, len(tokens), chunk):
        batch.clear()
        row = batch.add(tokens[start : start + chunk], model.cached_end(sequence), sequence, logits=True)
        model.decode(batch)
    return model.logits(row).copy()


# -- text ---------------------------------------------------------------------------------------------------------


def test_a_model_says_what_it_is(text_model):
    assert text_model.num_vocab == 49152
    assert text_model.num_ctx_train == 8192
    assert text_model.num_ctx == 4
    assert text_model.size > 90_000_000
    assert not text_model.adds_bos
    assert text_model.can_shift


def test_special_tokens_in_a_text_are_parsed(text_model):
    start, *_, end = text_model.tokenize("<|im_start|>user<|im_end|>", add_special=True)
    assert text_model.piece(start) == b"<|im_start|>"
    assert text_model.piece(end) == b"<|im_end|>"


def test_special_tokens_are_text_where_they_are_not_to_be_parsed(text_model):
    tokens = text_model.tokenize("<|im_end|>", add_special=False, parse_special=False)
    assert len(tokens) > 1
    assert text_model.detokenize(tokens) == "<|im_end|>"


def test_a_model_knows_which_tokens_end_an_answer_and_which_are_marks(text_model):
    (end,) = text_model.tokenize("<|im_end|>", add_special=False)
    (mark,) = text_model.tokenize("<file_sep>", add_special=False)
    (word,) = text_model.tokenize("the", add_special=False)
    assert [text_model.is_end(token) for token in (end, mark, word)] == [True, False, False]
    assert [text_model.is_control(token) for token in (end, mark, word)] == [True, True, False]
    assert not any(text_model.is_added(token) for token in (end, mark, word))
    assert sorted(text_model.piece(token) for token in text_model.ends) == [
        b"<reponame>",
        b"<|endoftext|>",
        b"<|im_end|>",
    ]


def test_ordinary_tokens_do_not_end_an_answer(text_model):
    assert not any(text_model.is_end(token) for token in text_model.tokenize("The end.", add_special=False))


# Some control characters, and the bytes that begin the rarest planes of Unicode, this vocabulary does not have.
@settings(max_examples=100, deadline=None)
@given(
    st.text(
        st.characters(max_codepoint=0xD7FF, exclude_categories=["Cc"]) | st.sampled_from("😀🪿\U0001d518\n"),
        max_size=60,
    )
)
def test_a_text_comes_back_from_its_tokens(text_model, text):
    tokens = text_model.tokenize(text, add_special=False)
    assert text_model.detokenize(tokens) == text
    assert b"".join(text_model.piece(token) for token in tokens) == text.encode()


def test_a_conversation_comes_back_with_its_special_tokens(text_model):
    assert text_model.detokenize(text_model.tokenize(PROMPT, add_special=True)) == PROMPT


def test_no_text_is_no_tokens(text_model):
    assert text_model.tokenize("", add_special=True) == []
    assert text_model.detokenize([]) == ""


def test_half_a_surrogate_pair_becomes_a_question_mark(text_model):
    assert text_model.tokenize("a\ud800b", add_special=False) == text_model.tokenize("a?b", add_special=False)


def test_tokens_that_are_no_characters_by_themselves_are_replaced(text_model):
    tokens = text_model.tokenize("🪿", add_special=False)
    assert len(tokens) > 1
    assert "\ufffd" in text_model.detokenize(tokens[:1])


def test_many_short_tokens_make_a_long_text(text_model):
    (token,) = text_model.tokenize(" straightforward"[:12], add_special=False)[:1]
    longest = max(range(2000), key=lambda candidate: len(text_model.piece(candidate)))
    assert text_model.detokenize([longest] * 500) == text_model.piece(longest).decode() * 500
    assert text_model.detokenize([token]) == text_model.piece(token).decode()


@pytest.mark.parametrize("token", [-1, 49152, 2**31, 2**40])
def test_tokens_outside_the_vocabulary_are_refused(text_model, token):
    with pytest.raises(ValueError, match="token ids must be between 0 and 49151"):
        text_model.detokenize([1, token])


def test_a_piece_may_be_longer_than_the_buffer_for_it(text_model, monkeypatch):
    (token,) = text_model.tokenize("<|im_start|>", add_special=False)
    monkeypatch.setattr("ollama_nb.engine.model._PIECE_SIZE", 1)
    monkeypatch.setattr(text_model, "_pieces", {})
    assert text_model.piece(token) == b"<|im_start|>"


# -- computing ----------------------------------------------------------------------------------------------------


def test_a_batch_holds_the_tokens_of_several_sequences():
    batch = Batch(8)
    assert batch.add([5, 6, 7], 10, 0, logits=False) == 2
    assert batch.add([8], 3, 2, logits=True) == 3
    assert batch.room == 4
    assert batch.tokens[:4].tolist() == [5, 6, 7, 8]
    assert batch.positions[:4].tolist() == [10, 11, 12, 3]
    assert batch.sequences[:4].tolist() == [0, 0, 0, 2]
    assert batch.wants_logits[:4].tolist() == [0, 0, 0, 1]


def test_a_batch_takes_no_more_than_it_has_room_for():
    batch = Batch(2)
    with pytest.raises(ValueError, match="3 tokens do not fit into the 2 free rows"):
        batch.add([1, 2, 3], 0, 0, logits=True)
    assert batch.size == 0


def test_a_cleared_batch_asks_for_nothing_of_what_it_held_before():
    batch = Batch(4)
    batch.add([1, 2], 0, 1, logits=True)
    batch.clear()
    batch.add([3, 4], 5, 0, logits=False)
    assert batch.wants_logits[:2].tolist() == [0, 0]
    assert batch.sequences[:2].tolist() == [0, 0]


@pytest.mark.parametrize("chunk", [1, 3, 15])
def test_a_prompt_in_chunks_gives_what_the_whole_prompt_gives(load, chunk):
    model = load()
    tokens = model.tokenize(PROMPT, add_special=True)
    whole = compute(model, tokens, 0)
    parts = compute(model, tokens, 1, chunk=chunk)
    # Kernels for one row and for many round differently; the weights have four bits.
    assert np.corrcoef(whole, parts)[0, 1] > 0.999
    assert model.cached_end(0) == model.cached_end(1) == len(tokens)


def test_sequences_do_not_see_each_other(load):
    model = load()
    tokens = model.tokenize(PROMPT, add_special=True)
    alone = compute(model, tokens, 0)
    compute(model, model.tokenize("Something else entirely, and longer", add_special=True), 1)
    model.forget(0, 0)
    np.testing.assert_array_equal(compute(model, tokens, 0), alone)


class OneThread:
    """A governor that has seen enough."""

    def begin(self):
        pass

    def end(self):
        return 1


def test_the_number_of_threads_follows_the_governor_from_the_next_decode_on(sample_gguf):
    model = Model(Load(model=str(sample_gguf), num_ctx=64), lambda _: None)
    assert lib.llama_n_threads(model._context) == model.num_thread
    model._governor = OneThread()
    compute(model, model.tokenize(PROMPT, add_special=True))
    assert lib.llama_n_threads(model._context) == lib.llama_n_threads_batch(model._context) == model.num_thread == 1


@pytest.mark.parametrize(("asked", "got"), [(-3, None), (1, 1), (1_000_000, 512)])
def test_a_number_of_threads_that_cannot_be_had_does_no_harm(sample_gguf, asked, got):
    model = Model(Load(model=str(sample_gguf), num_ctx=64, num_thread=asked), lambda _: None)
    assert lib.llama_n_threads(model._context) == (got or model.num_thread) >= 1
    assert (model._governor is None) == (asked > 0)


def test_a_number_of_threads_that_was_asked_for_stays(load):
    assert load()._governor is None


def test_what_is_forgotten_can_be_computed_again(load):
    model = load()
    tokens = model.tokenize(PROMPT, add_special=True)
    before = compute(model, tokens)
    assert model.forget(0, 5)
    assert model.cached_end(0) == 5
    after = compute(model, tokens[5:])
    assert np.corrcoef(before, after)[0, 1] > 0.999


def test_a_shifted_cache_goes_on_at_its_new_end(load):
    model = load()
    tokens = model.tokenize(PROMPT, add_special=True)
    compute(model, tokens)
    assert model.forget(0, 2, 8)
    model.shift(0, 8, -6)
    assert model.cached_end(0) == len(tokens) - 6
    compute(model, tokens[:1])
    assert model.cached_end(0) == len(tokens) - 5


@pytest.mark.parametrize("windows_only", [False, True])
@pytest.mark.parametrize("count", [1, 40])
def test_a_cache_cannot_be_shifted_if_all_layers_have_sliding_windows(tmp_path, windows_only, count):
    file = write_gemma3(tmp_path, windows_only=windows_only).model
    model = Model(Load(model=str(file), num_ctx=64, num_seq=2, num_thread=1), lambda _: None)
    compute(model, [50] * count, 1)
    assert model.can_shift is not windows_only


def test_an_aborted_decode_leaves_the_cache_as_it_was(load):
    model = load()
    tokens = model.tokenize(PROMPT, add_special=True)
    expected = compute(model, tokens, 1)
    compute(model, tokens[:5], chunk=5)
    model.abort()
    with pytest.raises(AbortedError):
        compute(model, tokens[5:])
    assert model.cached_end(0) == 5
    model.clear_abort()
    assert np.corrcoef(compute(model, tokens[5:]), expected)[0, 1] > 0.999


def test_a_batch_without_room_in_the_cache_is_refused_and_changes_nothing(load):
    model = load(256, 4, 64)
    tokens = model.tokenize("word " * 300, add_special=True)[:256]
    compute(model, tokens)
    with pytest.raises(NoCacheSpaceError):
        compute(model, tokens[:64])
    assert model.cached_end(0) == 256


def test_a_batch_with_a_gap_is_an_error(load):
    model = load()
    batch = Batch(4)
    compute(model, [1, 2])
    batch.add([3], 9, 0, logits=True)
    with pytest.raises(DecodeError, match="llama_decode failed with status -1"):
        model.decode(batch)


def test_logits_that_were_not_asked_for_are_an_error(load):
    model = load()
    batch = Batch(4)
    batch.add([1, 2, 3], 0, 0, logits=True)
    model.decode(batch)
    with pytest.raises(DecodeError, match="no logits were computed for row 1"):
        model.logits(1)


def test_a_vector_that_was_not_computed_is_an_error(load):
    model = load()
    batch = Batch(4)
    batch.add([1, 2, 3], 0, 0, logits=True)
    model.decode(batch)
    with pytest.raises(DecodeError, match="no vector was computed for row 1"):
        model.vector(1, 0)


def test_vectors_do_not_change_what_is_generated_after_them(load):
    model = load()
    tokens = model.tokenize(PROMPT, add_special=True)
    expected = compute(model, tokens)
    batch = Batch(4)
    batch.add([1, 2, 3], 0, 1, logits=True)
    model.embed(batch)
    assert model.vector(2, 1).shape == (WIDTH,)
    model.forget(0, 0)
    np.testing.assert_array_equal(compute(model, tokens), expected)


# -- loading ------------------------------------------------------------------------------------------------------


def test_loading_reports_its_progress_and_logs_without_debugging(sample_gguf, capfd):
    fractions: list[float] = []
    Model(Load(model=str(sample_gguf), num_ctx=4, num_thread=1), fractions.append)
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] == 1
    log = capfd.readouterr().err
    assert "llama_model_loader: loaded meta data" in log
    assert "create_tensor:" not in log


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelLoadError, match="unable to load model"):
        Model(Load(model=str(tmp_path / "none.gguf"), num_ctx=4), lambda _: None)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, gguf_bytes):
    """Writes a LoRA adapter: ``adapter(sign)`` adds ``sign`` times the same random change to every query matrix."""

    def write(sign: int) -> str:
        rng = np.random.default_rng(3)
        tensors = []
        for layer in range(LAYERS):
            down = rng.standard_normal((2, WIDTH)).astype(np.float32) * 0.1
            up = sign * rng.standard_normal((WIDTH, 2)).astype(np.float32) * 0.1
            name = f"blk.{layer}.attn_q.weight"
            tensors.append((f"{name}.lora_a", "F32", (WIDTH, 2), down.tobytes()))
            tensors.append((f"{name}.lora_b", "F32", (2, WIDTH), up.tobytes()))
        metadata = {
            "general.type": "adapter",
            "general.architecture": "llama",
            "adapter.type": "lora",
            "adapter.lora.alpha": 4.0,
        }
        path = tmp_path_factory.mktemp("adapters") / f"{sign}.gguf"
        path.write_bytes(gguf_bytes(metadata, tensors))
        return str(path)

    return write


def test_all_adapters_of_a_model_count(sample_gguf, adapter, load):
    there, back = adapter(1), adapter(-1)

    def logits(*adapters: str) -> np.ndarray:
        frame = Load(model=str(sample_gguf), num_ctx=64, num_batch=64, num_thread=1, adapters=adapters)
        model = Model(frame, lambda _: None)
        return compute(model, model.tokenize(PROMPT, add_special=True))

    plain = compute(load(), load().tokenize(PROMPT, add_special=True))
    assert np.abs(logits(there) - plain).max() > 0.5
    assert np.abs(logits(there, there) - logits(there)).max() > 0.5
    assert np.abs(logits(there, back) - plain).max() < 0.05


def test_an_adapter_that_is_none_is_refused(sample_gguf, tmp_path):
    frame = Load(model=str(sample_gguf), num_ctx=4, num_thread=1, adapters=(str(tmp_path / "none.gguf"),))
    with pytest.raises(ModelLoadError, match="unable to load adapter"):
        Model(frame, lambda _: None)
