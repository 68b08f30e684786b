"""Images through llama.cpp's own code, with tiny models: in chunks, into the cache, and among other answers."""

from functools import cache

import pytest
from vision_files import (
    GEMMA_CELLS,
    IMAGE_CELLS,
    QWEN_CELLS,
    QWEN_POSITIONS,
    picture,
    write_gemma3,
    write_llava,
    write_qwen2_vl,
)

from ollama_nb.engine import media
from ollama_nb.engine.admission import Tokenized
from ollama_nb.engine.batcher import Batcher
from ollama_nb.engine.media import ImageChunk, Projector, TextChunk
from ollama_nb.engine.model import AbortedError, DecodeError, Model, ModelLoadError
from ollama_nb.runner.messages import Failed, Generate, Load, Sampling

RED, GREEN, BLUE = picture("red"), picture("lime"), picture("blue")
TEXT = "USER: [img-0] what is this? ASSISTANT:"
KINDS = ["llava", "qwen2vl", "gemma3"]
CELLS = {"llava": IMAGE_CELLS, "qwen2vl": QWEN_CELLS, "gemma3": GEMMA_CELLS}
BEFORE_IMAGE = {"llava": "", "qwen2vl": "<|vision_start|>", "gemma3": "<start_of_image>"}
AFTER_IMAGE = {"llava": "", "qwen2vl": "<|vision_end|>", "gemma3": "<end_of_image>"}
VARIED = Sampling(temperature=0, repeat_penalty=1.0, frequency_penalty=2.0, repeat_last_n=16)
"""Always the same answer; weights by chance love a letter too much if nothing is said against it."""


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    """``eyes(kind, num_ctx, num_batch)``: a model with an empty cache, and its projector with nothing remembered."""
    folder = tmp_path_factory.mktemp("vision")
    writers = {"llava": write_llava, "qwen2vl": write_qwen2_vl, "gemma3": write_gemma3}
    files = {kind: write(folder / kind) for kind, write in writers.items()}

    @cache
    def load(kind, num_ctx, num_batch):
        frame = Load(model=str(files[kind].model), num_ctx=num_ctx, num_seq=3, num_batch=num_batch, num_thread=1)
        return Model(frame, lambda _: None)

    def get(kind="llava", num_ctx=128, num_batch=16):
        model = load(kind, num_ctx, num_batch)
        for sequence in range(3):
            model.forget(sequence, 0)
        model.clear_abort()
        return model, Projector(str(files[kind].projector), model, 1)

    return get


class Watching:
    """Steps of a batcher on a real model and projector; ``fail`` is raised instead of the next image's decode."""

    def __init__(self, model, projector):
        self.model, self.projector = model, projector
        self.text, self.finished, self.failed = {}, {}, {}
        self.decoded, self.encoded, self.fail = 0, 0, []
        self.encode = projector._encode
        projector._encode = self.count_encoding
        self.batcher = Batcher(model, 3, self.receive, self)

    def count_encoding(self, chunk):
        self.encoded += 1
        return self.encode(chunk)

    def decode(self, chunk, position, sequence):
        self.decoded += 1
        self.projector.decode(chunk, position, sequence)
        if self.fail:
            raise self.fail.pop()

    def receive(self, message):
        if isinstance(message, Failed):
            self.failed[message.id] = message
            return
        for piece in message.pieces:
            self.text[piece.id] = self.text.get(piece.id, "") + piece.text
        self.finished |= {finish.id: finish for finish in message.finished}

    def submit(self, number, text, *images, num_predict=12, sampling=VARIED, **fields):
        request = Generate(id=number, prompt=text, sampling=sampling, num_predict=num_predict, **fields)
        tokens, seen = self.projector.tokenize(text, images)
        self.batcher.submit(Tokenized(request, tokens, 0, None, seen))

    def run(self):
        batcher = self.batcher
        batcher.submit(None)
        batcher._receive()
        for _ in range(2000):
            batcher._admit()
            if not batcher._running:
                return
            batcher.step()
        raise AssertionError("the answers do not end")

    def ask(self, text, *images, number=1, **fields):
        self.text.pop(number, None)
        self.submit(number, text, *images, **fields)
        self.run()
        return self.text[number]


@pytest.fixture
def watching(eyes):
    return lambda *shape: Watching(*eyes(*shape))


# -- loading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a projector at all", None, "model", "half"])
def test_a_file_that_is_no_projector_is_refused(eyes, tmp_path, content):
    model, _ = eyes()
    path = tmp_path / "mmproj.gguf"
    files = write_llava(tmp_path / "files")
    if content == "model":
        content = files.model.read_bytes()
    elif content == "half":
        content = files.projector.read_bytes()[:100_000]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelLoadError, match="unable to load projector"):
        Projector(str(path), model, 1)


def test_a_projector_of_another_width_is_refused(eyes, tmp_path):
    model, _ = eyes()
    files = write_llava(tmp_path, width=96)
    with pytest.raises(ModelLoadError, match="unable to load projector"):
        Projector(str(files.projector), model, 1)


# -- chunks --------------------------------------------------------------------------------------------------------


def test_images_stand_where_their_tags_stood(eyes):
    model, projector = eyes()
    first, image, between, other, last = projector.chunks("a[img-0]b[img-1] c", [RED, BLUE])
    assert first.tokens == model.tokenize("a", add_special=True)
    assert first.tokens[0] == 1  # BOS
    assert between.tokens == model.tokenize("b", add_special=False)
    assert last.tokens == model.tokenize(" c", add_special=False)
    assert (image.cells, image.positions) == (other.cells, other.positions) == (IMAGE_CELLS, IMAGE_CELLS)
    assert image.digest != other.digest


def test_an_image_of_two_dimensions_has_fewer_positions_than_cells_and_texts_around_it(eyes):
    _, projector = eyes("qwen2vl")
    chunks = projector.chunks(TEXT, [RED])
    (image,) = (chunk for chunk in chunks if isinstance(chunk, ImageChunk))
    assert (image.cells, image.positions) == (QWEN_CELLS, QWEN_POSITIONS)
    assert [type(chunk) for chunk in chunks] == [TextChunk, TextChunk, ImageChunk, TextChunk, TextChunk]


def test_one_image_may_be_shown_twice_and_another_not_at_all(eyes):
    _, projector = eyes()
    chunks = projector.chunks("[img-1] and [img-1]", [RED, BLUE])
    assert [chunk.digest for chunk in chunks if isinstance(chunk, ImageChunk)] == [chunks[1].digest] * 2
    assert chunks[1].digest == projector.chunks("[img-0]", [BLUE])[1].digest


def test_text_without_images_stays_as_it_is(eyes):
    model, projector = eyes()
    (only,) = projector.chunks("<__media__> is no tag", [RED])
    assert only.tokens == model.tokenize("<__media__> is no tag", add_special=True)


def test_a_prompt_ends_with_text(eyes):
    model, projector = eyes()
    assert projector.chunks("[img-0]", [RED])[-1] == TextChunk(model.tokenize("\n", add_special=False))


@pytest.mark.parametrize("number", [1, 7, 10**17])
def test_a_tag_without_an_image_is_an_error(eyes, number):
    _, projector = eyes()
    with pytest.raises(ValueError, match=f"invalid image index: {number}"):
        projector.chunks(f"[img-0] [img-{number}]", [RED])


def test_a_broken_image_is_an_error(eyes):
    _, projector = eyes()
    with pytest.raises(ValueError, match="damaged"):
        projector.chunks(TEXT, [RED[:-40]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (3, 2), (500, 3), (640, 480)])
def test_any_shape_of_image_can_be_looked_at(watching, kind, size):
    bench = watching(kind, 1024)
    assert bench.ask(TEXT, picture("red", size=size), num_predict=3)


def test_what_an_image_takes_is_known_before_it_is_shown(eyes):
    _, projector = eyes("qwen2vl")
    (count,) = projector.measure([RED])
    assert count == len(projector.tokenize("[img-0]x", [RED])[0]) - len(projector.tokenize("x", [RED])[0])


def test_images_that_were_seen_are_neither_read_nor_encoded_again(watching, monkeypatch):
    bench = watching()
    first = bench.ask(TEXT, RED)
    monkeypatch.setattr(media, "read_picture", None)
    bench.ask(TEXT.replace("USER", "user"), RED)
    assert (bench.encoded, bench.decoded) == (1, 2)
    assert bench.ask(TEXT, RED) == first


def test_only_the_last_images_are_remembered(eyes, monkeypatch):
    _, projector = eyes()
    monkeypatch.setattr(media, "_REMEMBERED", 2)
    projector.measure([RED, GREEN, RED, BLUE])
    assert len(projector._remembered) == 2
    monkeypatch.setattr(media, "_REMEMBERED_BYTES", 0)
    projector.measure([GREEN])
    assert len(projector._remembered) == 1


# -- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_depends_on_the_image_and_on_nothing_else(watching, kind):
    answers = [watching(kind).ask(TEXT, image) for image in (RED, GREEN, BLUE, RED)]
    assert answers[0] == answers[3]
    assert len(set(answers)) == 3


@pytest.mark.parametrize("kind", ["llava", "qwen2vl"])
def test_an_image_larger_than_a_batch_is_computed_in_parts(watching, kind):
    assert watching(kind, 128, 3).ask(TEXT, RED) == watching(kind, 128, 64).ask(TEXT, RED)


def test_an_image_that_looks_at_itself_as_a_whole_sees_less_in_parts_which_is_said(watching, caplog):
    assert watching("gemma3", 128, GEMMA_CELLS).ask(TEXT, RED)
    assert not caplog.records
    assert watching("gemma3", 128, GEMMA_CELLS - 1).ask(TEXT, RED)
    assert "num_batch" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_the_same_in_every_format(watching, kind):
    assert len({watching(kind).ask(TEXT, picture("red", kind=form)) for form in ("PNG", "GIF", "BMP", "WEBP")}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_answers_about_images_do_not_depend_on_their_neighbours(watching, kind):
    shown = {1: (TEXT, RED), 2: (TEXT, BLUE), 3: ("no image here",), 4: ("[img-1] or [img-0]?", RED, GREEN)}
    alone = {number: watching(kind).ask(*prompt) for number, prompt in shown.items()}
    crowd = watching(kind)
    for number, prompt in shown.items():
        crowd.submit(number, *prompt)
    crowd.run()
    assert crowd.text == alone


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_turn_of_a_chat_computes_only_what_is_new(watching, kind):
    bench = watching(kind)
    bench.ask(TEXT, RED)
    whole = watching(kind).ask(TEXT + " more", RED)
    assert bench.ask(TEXT + " more", RED) == whole
    again = bench.finished[1]
    assert again.cached_count == again.prompt_count - len(" more")
    assert bench.decoded == 1
    assert bench.ask(TEXT + " more", BLUE) == watching(kind).ask(TEXT + " more", BLUE)
    assert bench.finished[1].cached_count == len("_" + TEXT.partition("[")[0] + BEFORE_IMAGE[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_counts_as_the_cells_that_it_takes(watching, kind):
    bench = watching(kind)
    bench.ask("ab[img-0]c[img-0]d", RED)
    around = len(BEFORE_IMAGE[kind] + AFTER_IMAGE[kind])
    assert bench.finished[1].prompt_count == len("_abcd") + 2 * (CELLS[kind] + around)


def test_penalties_do_not_trip_over_images(watching):
    bench = watching()
    assert bench.ask(TEXT, RED, sampling=Sampling(temperature=0, repeat_penalty=1.5, repeat_last_n=-1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_keep", [0, 3, 8, -1])
def test_an_answer_goes_on_when_the_context_is_full_and_images_stay_whole(watching, kind, num_keep):
    bench = watching(kind, 64)
    text = "[img-0][img-1] x" if kind == "llava" else "[img-0]x"
    answer = bench.ask(text, RED, BLUE, num_predict=150, num_keep=num_keep)
    assert (len(answer), bench.finished[1].reason) == (150, "length")


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_that_is_too_long_loses_whole_images(watching, kind):
    bench = watching(kind, 64)
    bench.ask("[img-0]" * 20 + "xyz", RED, num_predict=2)
    finish = bench.finished[1]
    assert finish.dropped_count > 0
    assert finish.prompt_count <= 64
    assert bench.text[1]


def test_an_image_larger_than_the_context_is_refused(watching):
    bench = watching("qwen2vl", 64)
    bench.submit(1, TEXT, picture("red", size=(600, 600)))
    bench.run()
    assert bench.failed[1].status == 400
    assert "an image takes" in bench.failed[1].error


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_s_own_interruption_of_an_image_leaves_no_trace(watching, kind):
    expected = watching(kind).ask(TEXT, RED)
    bench = watching(kind)
    bench.submit(1, TEXT, RED)
    bench.batcher._receive()
    bench.batcher._admit()
    while bench.batcher._running[0].pending[0] >= 0:
        bench.batcher.step()
    bench.model.abort()
    for _ in range(3):
        bench.batcher.step()
    assert bench.decoded == 3
    assert not bench.text
    bench.model.clear_abort()
    bench.run()
    assert bench.text == {1: expected}


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_that_was_interrupted_is_computed_again(watching, kind):
    expected = watching(kind).ask(TEXT, RED)
    bench = watching(kind)
    bench.fail = [AbortedError("interrupted"), AbortedError("interrupted")]
    assert bench.ask(TEXT, RED) == expected
    assert bench.decoded == 3


def test_an_image_that_fails_ends_its_own_answer_only(watching):
    bench = watching()
    expected = watching().ask("text alone")
    bench.submit(1, TEXT, RED)
    bench.submit(2, "text alone")
    bench.fail = [DecodeError("no such luck")]
    bench.run()
    assert (bench.failed[1].status, "no such luck" in bench.failed[1].error) == (500, True)
    assert bench.text[2] == expected
    assert bench.ask(TEXT, RED, number=3) == watching().ask(TEXT, RED)
