"""Images through OpenAI's API, with a tiny model that really looks at them."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from http_calls import client, complaints
from vision_files import picture, write_llava

TEMPLATE = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}assistant: "
# Weights by chance love a letter too much if nothing is said against it.
PARAMETERS = {"repeat_penalty": 1, "repeat_last_n": 16, "num_thread": 1}
CHOICE = {"temperature": 0, "top_p": 1, "frequency_penalty": 2}
RED, GREEN = (base64.b64encode(picture(colour)).decode() for colour in ("red", "lime"))


@pytest.fixture(scope="module")
def seeing(start, tmp_path_factory):
    """Calls to a server whose model ``llava`` sees."""
    folder = tmp_path_factory.mktemp("vision")
    digests = {}
    with start(folder, OLLAMA_CONTEXT_LENGTH="128") as server, client(server.url) as calls:
        for path in write_llava(folder / "llava"):
            data = path.read_bytes()
            digests[path.name] = f"sha256:{hashlib.sha256(data).hexdigest()}"
            assert calls.post(f"/api/blobs/{digests[path.name]}", content=data).status_code == 201
        model = {"model": "llava", "files": digests, "template": TEMPLATE, "parameters": PARAMETERS}
        made = calls.post("/api/create", json=model)
        assert json.loads(made.text.splitlines()[-1]) == {"status": "success"}
        yield calls
        assert not complaints(server)


def openai(calls, *content):
    body = {"model": "llava", "messages": [{"role": "user", "content": list(content)}], "max_tokens": 12, **CHOICE}
    response = calls.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    return answer["choices"][0]["message"]["content"], answer["usage"]["prompt_tokens"]


def native(calls, *messages):
    told = [{"role": "user", "content": text, "images": images} for text, images in messages]
    options = {"num_predict": 12, **CHOICE}
    answer = calls.post(
        "/api/chat", json={"model": "llava", "messages": told, "stream": False, "options": options}
    ).json()
    return answer["message"]["content"], answer["prompt_eval_count"]


def text(words):
    return {"type": "text", "text": words}


def image(data):
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def test_answers_depend_on_the_image(seeing):
    red, green, again = (openai(seeing, text("what is this?"), image(data)) for data in (RED, GREEN, RED))
    assert red == again
    assert red[0] != green[0]


@pytest.mark.parametrize("images", [[RED], [RED, GREEN]])
def test_a_message_of_parts_is_the_prompt_of_a_message_for_each_part(seeing, images):
    parts = openai(seeing, text("a"), *(image(data) for data in images), text("b"))
    apart = native(seeing, ("a", []), *(("", [data]) for data in images), ("b", []))
    assert parts == apart


def test_what_is_no_image_is_refused(seeing):
    data = base64.b64encode(b"no image").decode()
    body = {"model": "llava", "messages": [{"role": "user", "content": [image(data)]}], "max_tokens": 1}
    response = seeing.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
