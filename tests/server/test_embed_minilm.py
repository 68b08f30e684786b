"""A real embedding model behind the real server: order, length, batches and memory."""

from __future__ import annotations

import random
import threading

import numpy as np
import psutil
import pytest
from http_calls import until
from samples import ALL_MINILM, all_minilm_modelfile, create, default_cache

OPTIONS = {"num_thread": 1}
WORDS = ["harbour", "light", "went", "out", "and", "boats", "came", "home", "in", "dark", "water", "while", "nobody"]
LONG = " ".join(WORDS * 30)
"""Some 390 tokens; the model was made with a context of 256."""
MANY = 3000
FEW = MANY // 10


@pytest.fixture(scope="module")
def minilm(workshop, bench):
    """The workshop with the model in it, which is gone from memory afterwards."""
    create(ALL_MINILM, all_minilm_modelfile(default_cache()), workshop.url)
    yield bench
    bench.post("/api/embed", json={"model": ALL_MINILM, "keep_alive": 0})
    until(lambda: not bench.get("/api/ps").json()["models"], "the model to be gone")


def embedded(api, given, **fields):
    response = api.post("/api/embed", json={"model": ALL_MINILM, "input": given, "options": OPTIONS, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def vectors(api, given, **fields):
    return np.array(embedded(api, given, **fields)["embeddings"])


def text_of(chance, words):
    return " ".join(chance.choices(WORDS, k=words))


def assert_same(found, expected):
    """The same vectors: without a GPU nothing depends on what else is asked for."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_batch_gives_every_text_the_vector_that_it_has_alone(minilm):
    chance = random.Random(0)
    texts = [text_of(chance, words) for words in (30, 1, 90, 4, 60, 2, 2, 45, 180, 7, 12, 3)]
    together = embedded(minilm, texts)
    alone = [embedded(minilm, text) for text in texts]
    assert_same(together["embeddings"], [answer["embeddings"][0] for answer in alone])
    assert together["prompt_eval_count"] == sum(answer["prompt_eval_count"] for answer in alone)


def test_the_order_of_the_texts_is_kept_whatever_their_lengths(minilm):
    chance = random.Random(1)
    texts = [text_of(chance, chance.randint(1, 40)) for _ in range(40)]
    assert_same(vectors(minilm, texts[::-1])[::-1], vectors(minilm, texts))


def test_what_is_alike_is_near(minilm):
    cat, kitten, tax = vectors(minilm, ["A cat sleeps.", "A kitten is dozing.", "Taxes are due in April."])
    assert cat @ kitten > 0.5
    assert cat @ tax < 0.3


def test_a_text_that_is_too_long_is_cut_behind_what_the_model_was_made_to_read(minilm):
    answer = embedded(minilm, [LONG, "short"])
    assert answer["prompt_eval_count"] == 256 + 3
    assert_same(answer["embeddings"][:1], vectors(minilm, LONG + " and an end"))


def test_a_text_that_is_too_long_is_refused_where_it_must_not_be_cut(minilm):
    body = {"model": ALL_MINILM, "input": ["short", LONG], "truncate": False, "options": OPTIONS}
    response = minilm.post("/api/embed", json=body)
    assert (response.status_code, response.json()) == (400, {"error": "the input length exceeds the context length"})


def test_a_larger_context_reads_more_but_never_more_than_the_model_can(minilm):
    assert embedded(minilm, LONG * 2, options={**OPTIONS, "num_ctx": 4096})["prompt_eval_count"] == 512
    assert embedded(minilm, LONG, options={**OPTIONS, "num_ctx": 64})["prompt_eval_count"] == 64


class Peak(threading.Thread):
    """The most resident memory of each of some processes, looked at twenty times a second."""

    def __init__(self, processes):
        super().__init__(daemon=True)
        self.processes = processes
        self.bytes = [0] * len(processes)
        self._over = threading.Event()

    def look(self):
        now = [process.memory_info().rss for process in self.processes]
        self.bytes = [max(pair) for pair in zip(self.bytes, now, strict=True)]

    def run(self):
        while not self._over.wait(0.05):
            self.look()

    def __exit__(self, *_exc):
        self.look()
        self._over.set()
        self.join()

    def __enter__(self):
        self.look()
        self.start()
        return self


def test_thousands_of_texts_take_hardly_more_memory_than_hundreds(minilm, workshop):
    texts = [f"house {number}" for number in range(MANY)]
    embedded(minilm, texts[:FEW])
    server = psutil.Process(workshop.pid)
    (child,) = [process for process in server.children() if process.memory_info().rss > 50 << 20]
    with Peak([server, child]) as few:
        embedded(minilm, texts[:FEW])
    with Peak([server, child]) as many:
        found = vectors(minilm, texts)
    assert found.shape == (MANY, 384)
    assert len(np.unique(found.round(4), axis=0)) == MANY
    growth = [after / before for after, before in zip(many.bytes, few.bytes, strict=True)]
    assert growth[0] < 2, "the server has all vectors and the whole answer once"
    assert growth[1] < 1.25, "the model's process has one batch at a time"
