"""Vectors of texts: what a batch of many gives is what each gives alone, and nobody beside them is disturbed.

The encoder has weights by chance, the model that generates is real; the reference is llama-cpp-python's own
``Llama.embed``, one text at a time.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import llama_cpp
import numpy as np
import pytest
from embedding_files import CLS, LAST, MEAN, WIDTH, WORDS, write_bert, write_decoder
from engine.bench import QUESTIONS, Bench, ForgetsAll, Watched, assert_same_or_a_close_call, chat

from ollama_nb.engine.model import AbortedError, DecodeError, Model
from ollama_nb.engine.passages import INPUT_TOO_LONG, NO_INPUT
from ollama_nb.runner.messages import Embed, Load, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = [
    " ".join(WORDS[start : start + length]) for start, length in ((0, 3), (5, 17), (9, 1), (2, 29), (7, 8), (1, 30))
]
"""Of many lengths, in no order."""


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("embedding")
    return {
        "mean": write_bert(folder / "mean.gguf"),
        "cls": write_bert(folder / "cls.gguf", pooling=CLS),
        "decoder, last": write_decoder(folder / "last.gguf", pooling=LAST),
        "decoder, mean": write_decoder(folder / "decoder.gguf", pooling=MEAN),
        "decoder": write_decoder(folder / "generates.gguf", pooling=None),
    }


@pytest.fixture(scope="module")
def _models(files) -> Callable[..., Model]:
    loaded: dict[Any, Model] = {}

    def load(kind: str, num_ctx: int, num_seq: int, num_batch: int) -> Model:
        key = (kind, num_ctx, num_seq, num_batch)
        if key not in loaded:
            frame = Load(model=str(files[kind]), num_ctx=num_ctx, num_seq=num_seq, num_batch=num_batch, num_thread=1)
            loaded[key] = Model(frame, lambda _: None)
        return loaded[key]

    return load


@pytest.fixture
def embedder(_models) -> Callable[..., Bench]:
    """``embedder(kind, num_ctx)``: a batcher on one of the tiny models."""

    def make(kind: str = "mean", num_ctx: int = 64, num_seq: int = 1, num_batch: int = 64, **changed: Any) -> Bench:
        model = _models(kind, num_ctx, num_seq, num_batch)
        for sequence in range(model.num_seq):
            model.forget(sequence, 0)
        model.clear_abort()
        return Bench(Watched(model, **changed), model.num_seq)

    return make


def reference(path: Path, texts: list[str]) -> list[np.ndarray]:
    """What llama-cpp-python makes of each text by itself; of a model that does not pool, the last token's vector."""
    llama = llama_cpp.Llama(str(path), embedding=True, n_ctx=64, n_threads=1, verbose=False)
    found = [np.array(llama.embed(text)) for text in texts]
    llama.close()
    return [vector if vector.ndim == 1 else vector[-1] for vector in found]


# -- what is computed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mean", "cls", "decoder, last", "decoder, mean", "decoder"])
def test_a_batch_gives_each_text_the_vector_that_it_has_alone(embedder, files, kind):
    texts = [text[:50] for text in TEXTS]
    vectors = embedder(kind, num_seq=4).vectors_of(*texts)
    for vector, expected in zip(vectors, reference(files[kind], texts), strict=True):
        assert vector.shape == (WIDTH,)
        assert cosine(vector, expected) > 0.9999
        np.testing.assert_allclose(vector, expected, atol=5e-3)
    assert len({vector.tobytes() for vector in vectors}) == len(texts)


def test_the_vector_of_a_model_that_generates_is_that_of_the_last_token(bench, sample_gguf):
    texts = ["hello", "The sky is blue today.", "one two three"]
    vectors = bench(64, 4, 64).vectors_of(*texts)
    for vector, expected in zip(vectors, reference(sample_gguf, texts), strict=True):
        # Weights of four bits: kernels for one row and for many round differently.
        assert cosine(vector, expected) > 0.999


def test_without_a_gpu_a_text_has_the_same_vector_whatever_comes_with_it(embedder):
    """Bit for bit: the rows of others would change the order of sums, and llama.cpp's gelu table makes more of that."""
    crowd = embedder()
    together = crowd.vectors_of(*TEXTS)
    assert len(crowd.model.sizes) == len(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(embedder().vectors_of(text)[0], vector)


def test_with_a_gpu_texts_that_come_at_once_are_read_at_once(embedder):
    """There is none here: the batches are what is looked at."""
    crowd = embedder(reads_together=True)
    crowd.vectors_of(*WORDS[:20])
    # Of three tokens each, in batches of 64 rows at most.
    assert crowd.model.sizes == [60]
    crowd.vectors_of(*WORDS, *WORDS)
    assert max(crowd.model.sizes) <= 64
    assert len(crowd.model.sizes) <= 1 + 5


def test_more_texts_than_there_are_sequences_are_read_in_turn(embedder):
    crowd = embedder("decoder", num_seq=2)
    numbers = crowd.embed(*(text[:20] for text in TEXTS))
    crowd.finish()
    assert sorted(crowd.vectors) == numbers


def test_texts_are_read_in_the_order_of_their_lengths(embedder):
    mixed = embedder()
    numbers = mixed.embed(*TEXTS)
    mixed.finish()
    assert list(mixed.vectors) == sorted(numbers, key=lambda number: len(TEXTS[number - 1].split()))


def test_a_long_text_does_not_wait_for_short_ones_that_came_later(embedder):
    steady = embedder("decoder", num_seq=1)
    (long,) = steady.embed("x" * 40)
    steady.step()
    short = [*steady.embed("a"), *steady.embed("b")]
    while steady.batcher._embedder.busy:
        short += steady.embed("c") if len(short) < 10 else []
        steady.step()
    assert next(iter(steady.vectors)) == long
    assert sorted(steady.vectors) == [long, *short]


@pytest.mark.parametrize("kind", ["decoder, last", "decoder"])
def test_a_text_longer_than_a_batch_is_read_in_parts(embedder, files, kind):
    text = "the quick brown fox jumps over the lazy dog"
    parts = embedder(kind, num_batch=8)
    (vector,) = parts.vectors_of(text)
    assert max(parts.model.sizes) == 8
    assert cosine(vector, reference(files[kind], [text])[0]) > 0.9999


def test_a_text_of_the_whole_context_is_read_in_one_batch_however_small_a_batch_is_asked_to_be(embedder):
    whole = embedder(num_batch=8)
    whole.vectors_of("the " * 62)
    assert whole.model.sizes == [64]


def test_no_rows_but_those_of_vectors_are_outputs_of_a_model_that_generates(bench):
    """Each output has a logit for every token of the vocabulary: a batch of them would take hundreds of megabytes."""
    frugal = bench(64, 4, 64)
    frugal.vectors_of("one two three four", "five six seven")
    assert frugal.model.sizes[-1] == 2
    assert len(frugal.model.sizes) == 2


# -- what is too long, or nothing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mean", "decoder, last", "decoder"])
@pytest.mark.parametrize("overflow", ["head", "tail"])
def test_a_text_that_is_too_long_has_the_vector_of_what_is_kept(embedder, kind, overflow):
    short = embedder(kind, num_ctx=16)
    text = "".join("abcdefghijklmnop" * 3)
    text = " ".join(text) if kind == "mean" else text
    number, *_ = short.embed(text, overflow=overflow)
    short.finish()
    added = 2 if kind == "mean" else 1
    limit = 16 - added
    assert short.counts[number] == 16
    bare = short.model.tokenize(text, add_special=False)
    specials = short.model.tokenize("a", add_special=True)
    kept = bare[:limit] if overflow == "head" else bare[-limit:]
    expected = [specials[0], *kept, *specials[len(specials) - added + 1 :]]
    tokens = short._passages.prepare(Embed(id=1, text=text, overflow=overflow)).tokens
    assert tokens == expected
    if kind == "mean" and overflow == "head":
        (same,) = short.vectors_of(" ".join(text.split()[:limit]))
        np.testing.assert_array_equal(short.vectors[number], same)


def test_a_text_that_may_not_be_cut_is_refused(embedder):
    short = embedder(num_ctx=16)
    with pytest.raises(ValueError, match=f"^{INPUT_TOO_LONG}$"):
        short.embed("the " * 15, overflow="refuse")
    assert short.embed("the " * 14, overflow="refuse")


def test_no_tokens_are_no_input(bench, embedder):
    with pytest.raises(ValueError, match=f"^{NO_INPUT}$"):
        bench().embed("")
    # An encoder's own marks are something to read.
    assert np.isfinite(embedder().vectors_of("")[0]).all()


def test_what_the_tokenizer_adds_is_counted_as_it_is_read(embedder):
    counted = embedder()
    (number,) = counted.embed("the cat is red")
    counted.finish()
    assert counted.counts[number] == 6


# -- beside running answers ------------------------------------------------------------------------------------------


def test_an_answer_goes_on_between_batches_of_texts_and_is_the_same(bench, load):
    shared = bench(256, 2, 64)
    writer = shared.submit(chat(QUESTIONS[0]), num_predict=12)
    shared.step()
    (sequence,) = shared.batcher._running
    numbers = shared.embed(*QUESTIONS[:4])
    while shared.batcher._embedder.busy or not shared.batcher._inbox.empty():
        before = sequence.eval_count
        shared.step()
        assert sequence.eval_count == before + 1
    assert sorted(shared.vectors) == numbers
    assert writer not in shared.finished
    shared.finish()
    alone, _ = bench(256, 2, 64).answer(chat(QUESTIONS[0]), num_predict=12)
    assert_same_or_a_close_call(load(256, 2, 64), chat(QUESTIONS[0]), alone, shared.text[writer])


def test_texts_leave_nothing_behind_and_what_answers_have_cached_stays(bench):
    kept = bench(256, 3, 64)
    kept.answer(chat(QUESTIONS[0]), num_predict=2)
    held = list(kept.slots[0])
    kept.vectors_of("one", "two two", "three three three")
    assert kept.slots == [held, [], []]
    _, finish = kept.answer(chat(QUESTIONS[0]), num_predict=2)
    assert finish.cached_count == finish.prompt_count - 1


def test_with_no_empty_sequence_the_one_used_longest_ago_is_taken(bench):
    full = bench(256, 2, 64)
    for word in ("Apple", "Bird"):
        full.answer(word + " pie", num_predict=1)
    full.vectors_of("one", "two")
    assert full.slots[0] == []
    assert full.slots[1] != []


def test_a_text_gets_its_turn_though_requests_keep_coming(bench):
    busy = bench(256, 1, 64)
    first = busy.submit("one two", num_predict=3, sampling=Sampling(seed=1))
    busy.step()
    (text,) = busy.embed("three")
    later = busy.submit("four five", num_predict=1)
    while text not in busy.vectors:
        busy.step()
        assert later not in busy.text
    busy.finish()
    assert list(busy.finished) == [first, later]


# -- cancels and failures ----------------------------------------------------------------------------------------------


def test_a_waiting_text_can_be_dropped(embedder):
    crowd = embedder("decoder", num_seq=1)
    numbers = crowd.embed("one", "two", "three")
    crowd.step()
    crowd.batcher.cancel(numbers[1])
    crowd.finish()
    assert sorted(crowd.vectors) == [numbers[0], numbers[2]]


def test_a_text_that_is_being_read_can_be_dropped(embedder):
    crowd = embedder("decoder", num_seq=2)
    numbers = crowd.embed("one", "two", "three")
    crowd.step()
    crowd.batcher.cancel(numbers[0])
    crowd.finish()
    assert sorted(crowd.vectors) == numbers[1:]


@pytest.mark.parametrize("cancelled", [1, 3])
def test_a_decode_is_stopped_when_none_of_its_texts_is_wanted_any_more(embedder, cancelled):
    crowd = embedder(num_ctx=64, reads_together=True)
    aborts: list[None] = []
    crowd.batcher._window._abort = lambda: aborts.append(None)
    numbers = crowd.embed("one", "two", "three")
    compute = crowd.model.embed

    def cancel_then_compute(batch: Any) -> None:
        for number in numbers[:cancelled]:
            crowd.batcher.cancel(number)
        compute(batch)

    crowd.model.embed = cancel_then_compute
    crowd.step()
    assert len(aborts) == (cancelled == 3)


@pytest.mark.parametrize("after_computing", [False, True])
@pytest.mark.parametrize("kind", ["mean", "decoder, last", "decoder"])
def test_an_abort_loses_nothing(embedder, kind, after_computing):
    texts = [text[:40] for text in TEXTS]
    expected = embedder(kind, num_seq=4).vectors_of(*texts)
    broken_off = embedder(kind, num_seq=4, after_computing=after_computing)
    broken_off.model.fail = [AbortedError(), None, AbortedError(), AbortedError()]
    for vector, same in zip(broken_off.vectors_of(*texts), expected, strict=True):
        np.testing.assert_allclose(vector, same, rtol=1e-4, atol=1e-5)


def test_a_failed_batch_fails_its_texts_and_no_others(embedder):
    broken = embedder("decoder", num_seq=2)
    numbers = broken.embed("one", "two", "three")
    broken.model.fail = [DecodeError("llama_decode failed with status -3")]
    broken.finish()
    text = "an error was encountered while running the model: llama_decode failed with status -3"
    assert broken.failed == dict.fromkeys([numbers[0], numbers[1]], text)
    assert list(broken.vectors) == [numbers[2]]


def test_a_model_that_cannot_go_back_embeds_all_the_same(bench):
    recurrent = bench(64, 2, 64, wrapper=ForgetsAll)
    expected = bench(64, 2, 64).vectors_of("one two three")
    recurrent.model.fail = [None, AbortedError()]
    assert cosine(recurrent.vectors_of("one two three")[0], expected[0]) > 0.999


def test_the_loop_computes_texts_by_itself(embedder):
    looping = embedder()
    done = threading.Event()
    receive = looping.receive

    def send(message: Any) -> None:
        receive(message)
        if len(looping.vectors) == len(TEXTS):
            done.set()

    looping.batcher._embedder._send = send
    thread = threading.Thread(target=looping.batcher.run)
    thread.start()
    looping.embed(*TEXTS)
    assert done.wait(60)
    looping.batcher.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_a_model_made_for_vectors_says_that_it_does_not_generate(embedder, load):
    with pytest.raises(ValueError, match="this model makes embeddings; it cannot generate text"):
        embedder().model.require_generation()
    load().require_generation()
