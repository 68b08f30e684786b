"""A real model: all-MiniLM-L6-v2, made by the ordinary create path, against sentence-transformers.

The same folder is read by both. Sentences of many languages and kinds must get the same tokens and nearly the same
vectors, in F32 and in F16, and long texts must be cut at the same token.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from samples import ALL_MINILM, all_minilm, all_minilm_modelfile, create, default_cache
from sentence_transformers import SentenceTransformer

from ollama_nb.client import Client

torch.set_num_threads(1)

SENTENCES = [
    "A cat.",
    "a",
    "Why is the sky blue?",
    "The quick brown fox jumps over the lazy dog",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG",
    "It's a dog's life, isn't it?",
    'Don\'t shout!!! Please... (really) — stop; now: "thanks".',
    "unbelievably antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 100,
    "1984, 2048, 65536 and 3.14159265358979 are numbers; so is -1e-9.",
    "Call +49 30 901820 or write to someone@example.org before 12:30.",
    "https://example.org/a/path?with=query&and=more#fragment",
    "def f(x: int) -> int:\n    return x + 1  # code",
    "SELECT name, COUNT(*) FROM people GROUP BY name HAVING COUNT(*) > 1;",
    '{"key": [1, 2, {"nested": null}]}',
    "<html><body><p class='x'>Markup &amp; entities</p></body></html>",
    "$E = mc^2$ and ∑ᵢ xᵢ ≤ ∞",
    "Der Käfer läuft über die Brücke nach Köln.",
    "Straße, Größe, Übermut; Ärger. ÄÖÜ ß",
    "Le garçon mange une pêche à Noël, où l'été s'achève.",
    "El niño soñó con una cigüeña en España.",
    "Ông ấy đã ăn phở ở Hà Nội.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Zażółć gęślą jaźń",
    "İstanbul'da ışık söndü.",  # noqa: RUF001 - Turkish
    "Ένα γρήγορο καφέ αλεπού πηδάει.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Москва — столица России; Київ — столиця України.",
    "القطة تنام على الأريكة.",
    "החתול ישן על הספה",
    "แมวนอนอยู่บนโซฟา",
    "猫が庭で寝ています。",
    "カタカナ と ひらがな",
    "我喜欢在公园里散步。",
    "თბილისი საქართველოს დედაქალაქია",
    "Mixed 中文 and English и русский in one line",
    "e\u0301 is e with an accent, and é is the same",
    "ﬁne ligatures, ½ fractions, ① circled, Ⅷ Roman",
    "👍 🎉 👩\u200d👩\u200d👧\u200d👦 🇩🇪 emoji",
    "zero\u200bwidth\ufeffand\u00adsoft",
    "non\u00a0breaking\u2003and\u3000wide blanks",
    "  leading and trailing   ",
    "tabs\tand\nnew\r\nlines\n\n\nand more",
    "control\x01characters\x7fin\x1bbetween",
    "What [MASK] is [UNK] with marks[SEP]in a text, and brackets [like] {these}?",
    "snake_case_and_camelCase and kebab-case",
    "…“curly” ‘quotes’ – dashes — and «guillemets»",  # noqa: RUF001 - what is meant
    "C++ > C# & F#? 100% @home #tag ~/path \\back^slash|pipe`tick",
    "The harbour lights went out one after the other, and the boats came home in the dark. " * 3,
    "A somewhat longer text, which is still shorter than what the model reads at once, goes on and on. " * 8,
]
READ_OTHERWISE = {
    "x" * 101: "BERT takes a word of more than 100 characters for an unknown one; llama.cpp takes it apart",
    "दिल्ली भारत की राजधानी है।": "BERT keeps the vowel signs, as they take up room; llama.cpp drops all marks",
    "고양이가 소파에서 자고 있다.": "BERT reads the letters of a syllable; llama.cpp keeps the first of them only",
}
"""What llama.cpp's WordPiece reads in another way, whatever the file says, in Ollama too."""

LONG = "The lamp of the tower by the sea turned and turned, and nobody knew who had lit it. " * 40

DOCUMENTED = {
    "Why is the sky blue?": [
        0.010071029, -0.0017594862, 0.05007221, 0.04692972, None, 0.008599704, 0.105441414, -0.025878139, 0.12958129,
    ],
    "Why is the grass green?": [
        -0.0098027075, 0.06042469, 0.025257962, -0.006364387, None, 0.017194884, 0.09032035, -0.051705178, 0.09951512,
    ],
}  # fmt: skip
"""The vectors of ``all-minilm`` that Ollama's API documentation shows; where it breaks a number off there is None."""


@pytest.fixture(scope="module")
def reference():
    """sentence-transformers with the same folder."""
    return SentenceTransformer(str(all_minilm(default_cache())), device="cpu")


@pytest.fixture(scope="module")
def expected(reference):
    """Its vectors of all sentences."""
    return reference.encode(SENTENCES, normalize_embeddings=True, show_progress_bar=False)


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    """A server that has the model in both types."""
    with start(tmp_path_factory.mktemp("minilm")) as running:
        create(ALL_MINILM, all_minilm_modelfile(default_cache()), running.url)
        create(f"{ALL_MINILM}:f32", all_minilm_modelfile(default_cache()), running.url, "--quantize", "F32")
        yield running


@pytest.fixture(scope="module")
def client(server):
    """Calls to it."""
    with Client(server.url) as calls:
        yield calls


def embed(client, texts, model=ALL_MINILM):
    return client.embed(model, texts, options={"num_thread": 1})


def test_there_are_fifty_sentences_each_another_one():
    assert len(set(SENTENCES)) == len(SENTENCES) == 50


@pytest.mark.parametrize(("model", "least"), [(f"{ALL_MINILM}:f32", 0.9999), (ALL_MINILM, 0.999)])
def test_vectors_are_those_of_sentence_transformers(client, expected, model, least):
    found = embed(client, SENTENCES, model).embeddings
    assert found.shape == expected.shape == (50, 384)
    cosines = dict(zip(SENTENCES, (found * expected).sum(axis=1), strict=True))
    assert not {text: cosine for text, cosine in cosines.items() if cosine < least}


def test_tokens_are_counted_as_sentence_transformers_reads_them(client, reference):
    counts = [embed(client, text).prompt_eval_count for text in SENTENCES]
    assert counts == [len(reference.tokenizer(text)["input_ids"]) for text in SENTENCES]


@pytest.mark.parametrize("text", READ_OTHERWISE)
def test_what_llama_cpp_reads_otherwise_is_known(client, reference, text):
    found = embed(client, text)
    assert found.prompt_eval_count != len(reference.tokenizer(text)["input_ids"])


def test_long_texts_are_cut_at_the_same_token(client, reference):
    found = embed(client, LONG)
    assert found.prompt_eval_count == reference.max_seq_length == 256
    assert (found @ reference.encode(LONG, normalize_embeddings=True)).item() >= 0.999
    rest = embed(client, LONG[LONG.index("sea") :])
    assert (found @ rest.embeddings.T).item() < 0.9999


def test_vectors_and_counts_are_those_of_ollamas_documentation(client):
    for text, numbers in DOCUMENTED.items():
        vector = embed(client, text).embeddings[0]
        shown = [place for place, number in enumerate(numbers) if number is not None]
        np.testing.assert_allclose(vector[shown], [numbers[place] for place in shown], atol=1e-4)
    assert embed(client, "Why is the sky blue?").prompt_eval_count == 8


def test_a_column_of_a_table_becomes_an_array(client, expected):
    table = pd.DataFrame({"text": SENTENCES[:4]}, index=[9, 7, 5, 3])
    result = embed(client, table["text"])
    assert isinstance(result.embeddings, np.ndarray)
    assert (result.embeddings.dtype, result.embeddings.shape) == (np.float32, (4, 384))
    assert (np.asarray(result) * expected[:4]).sum(axis=1).min() >= 0.999
    assert result.texts == tuple(SENTENCES[:4])


def test_the_model_is_what_ollama_says_of_it(client):
    card = client.show(ALL_MINILM)
    assert (card.details.family, card.details.quantization_level) == ("bert", "F16")
    assert card.details.parameter_size == "22.57M"
    assert card.capabilities == ("embedding",)
    assert card.parameters.split() == ["num_ctx", "256"]
    assert card.model_info["bert.context_length"] == 512
    assert client.show(f"{ALL_MINILM}:f32").details.quantization_level == "F32"
