"""Images over the API: a real server, and tiny models that really look at them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor

import ollama
import psutil
import pytest
from http_calls import client, complaints
from PIL import Image
from vision_files import IMAGE_CELLS, picture, write_gemma3, write_llava, write_qwen2_vl

TEMPLATE = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}assistant: "
# Weights by chance love a letter too much if nothing is said against it.
OPTIONS = {"temperature": 0, "repeat_penalty": 1, "frequency_penalty": 2, "repeat_last_n": 16, "num_predict": 12,
           "num_thread": 1}  # fmt: skip


def b64(data):
    return base64.b64encode(data).decode()


RED, GREEN, BLUE = (b64(picture(colour)) for colour in ("red", "lime", "blue"))


@pytest.fixture(scope="module")
def seeing(start, tmp_path_factory):
    """A server of this module's own, which answers several requests at once."""
    with start(tmp_path_factory.mktemp("vision"), OLLAMA_NUM_PARALLEL="3", OLLAMA_CONTEXT_LENGTH="128") as running:
        yield running
        assert not complaints(running)


@pytest.fixture(scope="module")
def bench(seeing, tmp_path_factory):
    """Calls to it; its models ``llava`` and ``qwen2vl`` are made through the API, of two files each."""
    folder = tmp_path_factory.mktemp("files")
    models = {"llava": write_llava(folder / "llava"), "qwen2vl": write_qwen2_vl(folder / "qwen2vl")}
    with client(seeing.url) as calls:
        for name, files in models.items():
            digests = {path.name: upload(calls, path.read_bytes()) for path in files}
            made = calls.post("/api/create", json={"model": name, "files": digests, "template": TEMPLATE})
            assert json.loads(made.text.splitlines()[-1]) == {"status": "success"}
        yield calls


def upload(calls, data):
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert calls.post(f"/api/blobs/{digest}", content=data).status_code == 201
    return digest


def generate(bench, prompt, *images, model="llava", **fields):
    body = {"model": model, "prompt": prompt, "images": list(images), "stream": False, "options": OPTIONS, **fields}
    return bench.post("/api/generate", json=body)


def chat(bench, *messages, model="llava", **fields):
    told = [{"role": role, "content": content, "images": list(images)} for role, content, *images in messages]
    body = {"model": model, "messages": told, "stream": False, "options": OPTIONS, **fields}
    return bench.post("/api/chat", json=body)


def chat_once(bench, prompt, *images, **fields):
    return chat(bench, ("user", prompt, *images), **fields)


def said(response):
    assert response.status_code == 200, response.text
    body = response.json()
    return body["message"]["content"] if "message" in body else body["response"]


def runners(server):
    """Processes of loaded models."""
    children = psutil.Process(server.pid).children(recursive=True)
    return {child.pid for child in children if "ollama_nb.runner.worker" in " ".join(child.cmdline())}


@pytest.mark.parametrize("name", ["llava", "qwen2vl"])
@pytest.mark.parametrize("ask", [generate, chat_once])
def test_answers_depend_on_the_image(bench, name, ask):
    answers = [said(ask(bench, "what is this?", image, model=name)) for image in (RED, GREEN, BLUE, RED)]
    assert all(answers)
    assert answers[0] == answers[3]
    assert len(set(answers)) == 3


def test_two_images_are_two_in_their_order(bench):
    both = [said(generate(bench, "which one?", *pair)) for pair in ((RED, BLUE), (BLUE, RED), (RED, RED))]
    assert len(set(both)) == 3


def test_chat_and_generate_put_images_before_the_question(bench):
    talk = [("user", "what?", RED, BLUE), ("assistant", "a"), ("user", "and?", GREEN)]
    rendered = chat(bench, *talk, _debug_render_only=True)
    info = rendered.json()["_debug_info"]
    assert info["rendered_template"] == "user: [img-0][img-1]what?\nassistant: a\nuser: [img-2]and?\nassistant: "
    assert info["image_count"] == 3


def test_images_count_as_tokens_of_the_prompt(bench):
    alone, seen = generate(bench, "what?", raw=True), generate(bench, "[img-0]what?", RED, raw=True)
    assert seen.json()["prompt_eval_count"] == alone.json()["prompt_eval_count"] + IMAGE_CELLS


def test_an_image_of_the_history_is_still_seen(bench):
    def talk(image):
        return [("user", "look", image), ("assistant", "yes"), ("user", "what was it?")]

    assert said(chat(bench, *talk(RED))) != said(chat(bench, *talk(BLUE)))
    assert said(chat(bench, *talk(RED))) == said(chat(bench, *talk(RED)))


@pytest.mark.parametrize("name", ["llava", "qwen2vl"])
def test_images_of_messages_that_do_not_fit_go_with_them(bench, name):
    old = [("user", f"{'old ' * 6}{number}", RED if number % 2 else GREEN) for number in range(8)]
    cut = chat(bench, *old, ("user", "what?", BLUE), model=name)
    assert cut.json()["prompt_dropped_messages"] > 0
    kept = old[cut.json()["prompt_dropped_messages"] :]
    assert said(cut) == said(chat(bench, *kept, ("user", "what?", BLUE), model=name))


def test_images_stream(bench):
    body = {"model": "llava", "prompt": "what?", "images": [RED], "options": OPTIONS}
    with bench.stream("POST", "/api/generate", json=body) as response:
        pieces = [json.loads(line) for line in response.iter_lines()]
    assert "".join(piece["response"] for piece in pieces) == said(generate(bench, "what?", RED))


def test_the_context_of_an_answer_has_no_tags_of_images_that_are_gone(bench):
    first = generate(bench, "what?", RED)
    again = generate(bench, "and this?", BLUE, context=first.json()["context"], _debug_render_only=True)
    assert again.json()["_debug_info"]["rendered_template"].count("[img-0]") == 1


def test_the_model_says_that_it_sees(bench):
    assert "vision" in bench.post("/api/show", json={"model": "llava"}).json()["capabilities"]
    loaded = next(model for model in bench.get("/api/tags").json()["models"] if model["name"] == "llava:latest")
    assert loaded["details"]["families"] == ["llama", "clip"]


def test_a_model_of_text_refuses_images(bench):
    for response in (
        generate(bench, "what?", RED, model="smollm2:135m"),
        chat(bench, ("user", "what?", RED), model="smollm2:135m"),
    ):
        assert response.status_code == 400
        assert response.json()["error"] == "registry.ollama.ai/library/smollm2:135m does not support vision"


def huge():
    """100 megapixels in a few kilobytes."""
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    return file.getvalue()


BROKEN = {
    "data url": (f"data:image/png;base64,{RED}", "illegal base64 data at input byte 4"),
    "no base64": ("ab!d", "illegal base64 data at input byte 2"),
    "no padding": ("YWI", "illegal base64 data at input byte 0"),
    "empty": ("", "received zero length image"),
    "one byte": (b64(b"x"), "none of PNG, JPEG"),
    "cut": (b64(picture("red")[:-40]), "the image is damaged"),
    "noise": (b64(bytes(range(256)) * 8), "none of PNG, JPEG"),
    "svg": (b64(b"<svg/>"), "none of PNG, JPEG"),
    "huge": (b64(huge()), "10000 x 10000 pixels"),
    "long": (b64(picture("red", size=(1000, 2))), "1000 x 2 pixels"),
}


@pytest.mark.parametrize("ask", [generate, chat_once])
@pytest.mark.parametrize("case", list(BROKEN))
def test_a_broken_image_is_refused_and_the_model_lives(bench, seeing, ask, case):
    image, error = BROKEN[case]
    before = said(ask(bench, "what?", RED))
    processes = runners(seeing)
    response = ask(bench, "what?", RED, image)
    assert response.status_code == 400
    assert error in response.json()["error"]
    assert said(ask(bench, "what?", RED)) == before
    assert runners(seeing) == processes


def test_the_smallest_image_is_seen(bench):
    assert said(generate(bench, "what?", b64(picture("red", size=(1, 1)))))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP"])
def test_other_formats_are_seen(bench, kind):
    assert said(generate(bench, "what?", b64(picture("red", kind=kind))))


def test_a_tag_that_nothing_stands_for_is_refused(bench):
    response = generate(bench, "see [img-3]", RED, raw=True)
    assert (response.status_code, response.json()["error"]) == (400, "invalid image index: 3")
    assert said(generate(bench, "see [img-3]", raw=True))


def test_an_image_larger_than_the_context_is_refused(bench):
    response = generate(bench, "what?", b64(picture("red", size=(640, 640))), model="qwen2vl")
    assert response.status_code == 400
    assert "an image takes" in response.json()["error"]


def test_the_ollama_client_sends_files_as_they_are(bench, seeing):
    with ollama.Client(host=seeing.url) as seer:
        message = {"role": "user", "content": "what?", "images": [picture("red")]}
        told = seer.chat("llava", [message], options=OPTIONS).message.content
    assert told == said(chat(bench, ("user", "what?", RED)))


def test_an_answer_about_an_image_may_have_a_format(bench):
    assert json.loads(said(generate(bench, "what?", RED, format={"type": "boolean"}))) in {True, False}


def test_a_projector_of_another_model_is_said_to_be_at_fault(bench, tmp_path):
    right, wrong = write_llava(tmp_path / "right", seed=1), write_llava(tmp_path / "wrong", seed=1, width=96)
    digests = {
        "model.gguf": upload(bench, right.model.read_bytes()),
        "p.gguf": upload(bench, wrong.projector.read_bytes()),
    }
    bench.post("/api/create", json={"model": "mismatched", "files": digests})
    response = generate(bench, "what?", RED, model="mismatched")
    assert response.status_code == 500
    assert "unable to load projector" in response.json()["error"]
    assert said(generate(bench, "what?", RED))


def test_chats_about_images_at_once_are_what_they_are_alone(bench):
    alone = [said(chat(bench, ("user", "what?", image))) for image in (RED, BLUE)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda image: said(chat(bench, ("user", "what?", image))), [RED, BLUE] * 3))
    assert together == alone * 3


@pytest.mark.parametrize("windows_only", [False, True], ids=["a layer of either kind", "windows only"])
def test_a_model_with_sliding_windows_goes_on_past_its_context(bench, tmp_path, windows_only):
    files = write_gemma3(tmp_path, windows_only=windows_only)
    digest = upload(bench, files.model.read_bytes())
    made = bench.post("/api/create", json={"model": "gemma", "files": {"model.gguf": digest}, "template": TEMPLATE})
    assert made.status_code == 200
    options = {**OPTIONS, "num_predict": 200, "num_ctx": 64}
    answer = generate(bench, "Tell me.", model="gemma", options=options)
    assert len(said(answer)) > 64
