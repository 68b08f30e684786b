from __future__ import annotations

import base64
import functools
import hashlib
import http.cookiejar
import json
import socket
import urllib.request
from contextlib import closing
from urllib.parse import urlsplit

import psutil
import pytest
from http_calls import LOAD, MODEL, client, endless, exchange, lines, question, request_head, until
from jupyter_client.manager import KernelManager
from jupyter_process import TOKEN, JupyterProcess
from jupyter_server.base.handlers import JupyterHandler

from ollama_nb.server.base import JupyterBase, ListenerBase
from ollama_nb.server.routes import ROUTES, mount

GROUPS = {"([^/]+)": "sha256:" + "0" * 64, "(.*[^/])": "space/model"}
PATHS = [
    functools.reduce(lambda path, group: path.replace(*group), GROUPS.items(), path).replace("\\", "")
    for path, _ in ROUTES
]
VERBS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
ALLOWED = {
    "/": "GET, HEAD",
    "/api/version": "GET, HEAD",
    "/api/tags": "GET, HEAD",
    "/api/ps": "GET",
    "/api/show": "POST",
    "/api/copy": "POST",
    "/api/delete": "DELETE",
    "/api/create": "POST",
    "/api/generate": "POST",
    "/api/chat": "POST",
    "/api/embed": "POST",
    "/api/embeddings": "POST",
    "/api/pull": "POST",
    "/api/push": "POST",
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/v1/embeddings": "POST",
    "/v1/models": "GET",
    "/v1/models/space/model": "GET",
    "/openapi.json": "GET",
    PATHS[8]: "HEAD, POST",
}


# -- the table ---------------------------------------------------------------------------------------------------------


def test_every_route_says_which_methods_it_takes():
    assert set(ALLOWED) == set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_another_method_is_405_with_those_that_are_allowed(api, path):
    for verb in [verb for verb in VERBS if verb != "OPTIONS" and verb not in ALLOWED[path].split(", ")]:
        response = api.request(verb, path)
        assert (response.status_code, response.headers["allow"]) == (405, ALLOWED[path])
        assert response.headers["content-type"].startswith("text/plain")
        assert response.text == ("" if verb == "HEAD" else "405 method not allowed")


def test_a_method_that_nobody_knows_is_405_too(server):
    status, headers, _ = exchange(server.url, request_head("BREW", "/api/chat", server.url, Connection="close"))
    assert (status, headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "path", ["/nope", "/api", "/api/", "/v1", "/api/tags/more", "/debug/pprof", "/favicon.ico", "/api/blobs"]
)
@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE"])
def test_another_path_is_404(api, path, verb):
    response = api.request(verb, path)
    assert (response.status_code, response.text) == (404, "404 page not found")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/"])
def test_a_slash_too_many_is_redirected_away(api, path):
    for verb, status in (("GET", 301), ("HEAD", 307), ("POST", 307), ("DELETE", 307)):
        response = api.request(verb, f"{path}/?a=b/")
        assert (response.status_code, response.headers["location"]) == (status, f"{path}?a=b/")


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("//api//tags", "/api/tags"),
        ("/api/./tags", "/api/tags"),
        ("/api/x/../tags?a=//b", "/api/tags?a=//b"),
        ("/api//tags/", "/api/tags/"),
        ("//", "/"),
        ("//evil.com/", "/evil.com/"),
        ("///evil.com//", "/evil.com/"),
        ("/.//evil.com", "/evil.com"),
        ("/..//evil.com/api", "/evil.com/api"),
        ("/\\//evil.com", "/%5C/evil.com"),
        ("//\\evil.com", "/%5Cevil.com"),
    ],
)
def test_a_path_is_cleaned_and_never_leads_to_another_server(server, path, clean):
    status, headers, _ = exchange(server.url, request_head("GET", path, server.url, Connection="close"))
    assert (status, headers["location"]) == (301, clean)


def test_a_redirect_for_another_host_is_refused_at_the_door(server):
    head = request_head("GET", "/api/tags/", server.url, Connection="close", Host="evil.com")
    assert exchange(server.url, head)[0] == 403


@pytest.mark.parametrize("base", [ListenerBase, JupyterBase])
def test_every_route_is_mounted_behind_each_door(base):
    rules = mount(base, None, "/p")
    assert [pattern for pattern, *_ in rules if not pattern.endswith("/")][:-1] == [
        f"/p{path}" for path, _ in ROUTES if path != "/"
    ]
    assert rules[0][0] == "/p/"
    for _, handler, _ in rules:
        assert issubclass(handler, base)
        prepare = next(kind for kind in handler.__mro__ if "prepare" in vars(kind))
        assert prepare is base or prepare.__name__ == "BlobHandler"  # which asks the door first
        assert handler.still_active is base.still_active
    assert issubclass(JupyterBase, JupyterHandler)


# -- inside Jupyter ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory, make_store):
    """A Jupyter server with a base_url that has something to decode in it."""
    folder = tmp_path_factory.mktemp("jupyter")
    store = make_store(folder / "models")
    arguments = (
        "--ServerApp.base_url=/a%40b/",
        "--OllamaExtension.num_parallel=2",
        "--OllamaExtension.context_length=384",
        f"--OllamaExtension.models={store}",
    )
    environment = {"OLLAMA_NUM_PARALLEL": "1", "OLLAMA_CONTEXT_LENGTH": "512", "OLLAMA_KEEP_ALIVE": "7m"}
    with JupyterProcess.start(folder, *arguments, **environment) as running:
        yield running


@pytest.fixture(scope="module")
def mounted(jupyter):
    """Calls to the API under Jupyter, with the token."""
    with client(f"{jupyter.url}/ollama") as calls:
        calls.headers["Authorization"] = f"Bearer {TOKEN}"
        yield calls


def test_it_is_where_jupyter_says_it_is(jupyter, mounted):
    assert jupyter.url.endswith("/a%40b")
    assert mounted.get("/").text == "Ollama is running"
    assert [model["name"] for model in mounted.get("/api/tags").json()["models"]] == [MODEL]


@pytest.mark.parametrize("path", [*PATHS, "/nope", "/api/tags/", "//api//tags"])
def test_without_the_token_every_verb_is_403(jupyter, path):
    for verb in VERBS:
        status, body = jupyter.request(verb, f"/ollama{path}", b"{}" if verb in ("POST", "DELETE") else None)
        assert status == 403, verb
        assert b"models" not in body


def test_without_the_token_a_blob_is_not_taken(jupyter, tmp_path_factory):
    digest = hashlib.sha256(b"smuggled").hexdigest()
    assert jupyter.request("POST", f"/ollama/api/blobs/sha256:{digest}", b"smuggled")[0] == 403
    status, _ = jupyter.request(
        "HEAD", f"/ollama/api/blobs/sha256:{digest}", headers={"Authorization": f"token {TOKEN}"}
    )
    assert status == 404


@pytest.mark.parametrize("scheme", ["Bearer", "token"])
def test_the_token_opens_it(jupyter, scheme):
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    assert jupyter.request("GET", "/ollama/api/version", headers=headers)[0] == 200
    assert jupyter.request("POST", "/ollama/api/show", json.dumps({"model": MODEL}).encode(), headers)[0] == 200


@pytest.mark.parametrize("authorization", ["Bearer wrong", f"Basic {TOKEN}", "Bearer "])
def test_another_token_does_not(jupyter, authorization):
    assert jupyter.request("GET", "/ollama/api/tags", headers={"Authorization": authorization})[0] == 403


def test_a_cookie_alone_reads_but_does_not_act(jupyter):
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    opener.open(f"{jupyter.url}/api/status?token={TOKEN}").read()
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)
    xsrf = next((cookie.value for cookie in jar if cookie.name == "_xsrf"), None)
    page = {"Cookie": cookies, "Referer": f"{jupyter.url}/lab"}
    assert jupyter.request("GET", "/ollama/api/tags", headers=page)[0] == 200
    show = json.dumps({"model": MODEL}).encode()
    form = {**page, "Content-Type": "application/x-www-form-urlencoded"}
    assert jupyter.request("POST", "/ollama/api/show", show, page)[0] == 403
    assert jupyter.request("POST", "/ollama/api/show", b"_xsrf=guess", form)[0] == 403
    assert jupyter.request("DELETE", "/ollama/api/delete", show, page)[0] == 403
    assert jupyter.request("GET", "/ollama/api/tags", headers={**page, "Origin": "http://evil.com"})[0] == 403
    if xsrf is not None:
        assert jupyter.request("POST", "/ollama/api/show", show, {**page, "X-XSRFToken": xsrf})[0] == 200


def test_errors_look_as_they_do_on_the_port(mounted):
    assert mounted.get("/nope").text == "404 page not found"
    response = mounted.get("/api/chat")
    assert (response.status_code, response.headers["allow"], response.text) == (405, "POST", "405 method not allowed")
    response = mounted.post("/api/chat", json={"model": "nope"})
    assert (response.status_code, response.json()) == (
        404,
        {"error": 'model "nope" not found, try pulling it first'},
    )
    assert mounted.get("/api/tags/").headers["location"] == "/a%40b/ollama/api/tags"
    assert mounted.get("/api//tags").headers["location"] == "/a%40b/ollama/api/tags"


def test_a_chat_streams_through_jupyter(mounted):
    response = mounted.post("/api/chat", json=question("Say hello."))
    *pieces, last = lines(response)
    assert response.headers["content-type"] == "application/x-ndjson"
    assert len(pieces) > 1
    assert last["done"] is True


def test_openais_api_is_there_in_jupyter_too(jupyter, mounted):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 2, "stream": True}
    response = mounted.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"] == "text/event-stream"
    assert response.text.startswith("data: {")
    assert response.text.endswith("data: [DONE]\n\n")
    assert mounted.get("/v1/models/no%2Fmodel").json()["error"]["code"] == "model_not_found"
    status, refused = jupyter.request("POST", "/ollama/v1/chat/completions", b"{}")
    assert (status, json.loads(refused)["error"]["type"]) == (403, "permission_error")


def test_a_blob_goes_through_jupyter(mounted):
    data = base64.b64encode(b"through the mount") * 100_000
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert mounted.post(f"/api/blobs/{digest}", content=data).status_code == 201
    assert mounted.head(f"/api/blobs/{digest}").status_code == 200
    wrong = mounted.post(f"/api/blobs/sha256:{'0' * 64}", content=data)
    assert wrong.json()["error"].startswith("digest mismatch")


def last_activity(jupyter):
    return json.loads(jupyter.get("/api/status?no_track_activity=1")[1])["last_activity"]


def test_an_answer_counts_as_activity_while_it_streams_and_looking_on_does_not(jupyter, mounted):
    mounted.post("/api/generate", json=LOAD)
    before = last_activity(jupyter)
    mounted.get("/api/tags")
    assert last_activity(jupyter) == before
    with mounted.stream("POST", "/api/chat", json=endless()) as response:
        stream = response.iter_lines()
        next(stream)
        during = last_activity(jupyter)
        assert during > before
        for _ in range(5):
            next(stream)
        assert last_activity(jupyter) > during


def test_who_leaves_in_mid_stream_frees_the_sequence(jupyter, mounted):
    for _ in range(3):  # one more than there are sequences
        with mounted.stream("POST", "/api/chat", json=endless()) as response:
            next(response.iter_lines())
    assert lines(mounted.post("/api/chat", json=question("Hi")))[-1]["done"] is True
    assert "Traceback" not in jupyter.log.read_text()


def test_the_port_of_its_own_is_announced_and_logged(jupyter):
    address = jupyter.announced()
    assert exchange(address, request_head("GET", "/", address, Connection="close"))[2] == b"Ollama is running"
    assert f"API on {address}" in jupyter.log.read_text()


def test_options_of_jupyter_beat_the_environment(jupyter, mounted):
    mounted.post("/api/generate", json=LOAD)
    (model,) = mounted.get("/api/ps").json()["models"]
    assert model["context_length"] == 384
    children = psutil.Process(jupyter.process.pid).children(recursive=True)
    assert any("ollama_nb.runner.worker" in " ".join(child.cmdline()) for child in children)


def test_two_chats_run_at_once_as_the_trait_says(mounted):
    with (
        mounted.stream("POST", "/api/chat", json=endless()) as first,
        mounted.stream("POST", "/api/chat", json=endless()) as second,
    ):
        ahead, behind = first.iter_lines(), second.iter_lines()
        for _ in range(3):
            next(ahead)
            next(behind)


def test_a_kernel_inherits_the_address(jupyter):
    created = json.loads(jupyter.post("/api/kernels", {"name": "python3"})[1])
    connection_file = jupyter.runtime / f"kernel-{created['id']}.json"
    until(connection_file.exists, "the kernel's connection file")
    # Not ours: the manager only connects, and does not take a kernel that it did not start for a dead one.
    manager = KernelManager(owns_kernel=False, connection_file=str(connection_file))
    manager.load_connection_file()
    kernel = manager.blocking_client()
    kernel.start_channels()
    try:
        kernel.wait_for_ready(timeout=60)
        seen = []
        kernel.execute_interactive(
            "import os; print(os.environ['OLLAMA_NB_ADDRESS'])",
            output_hook=lambda message: seen.append(message["content"].get("text", "")),
            timeout=60,
        )
        assert "".join(seen).strip() == jupyter.announced()
    finally:
        kernel.stop_channels()
        jupyter.request("DELETE", f"/api/kernels/{created['id']}", headers={"Authorization": f"Bearer {TOKEN}"})


def test_a_jupyter_that_refuses_strangers_by_itself_and_a_taken_port_and_an_end_without_traces(tmp_path, make_store):
    store = make_store(tmp_path / "models")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        arguments = ("--ServerApp.allow_unauthenticated_access=False", f"--OllamaExtension.models={store}")
        with JupyterProcess.start(tmp_path, *arguments, OLLAMA_HOST=f"127.0.0.1:{port}") as running:
            for path in PATHS:
                for verb in VERBS:
                    assert running.request(verb, f"/ollama{path}")[0] == 403, (verb, path)
            assert running.post("/ollama/api/generate", {"model": MODEL})[0] == 200
            address = running.announced()
            assert urlsplit(address).port != port
            assert f"port {port} is taken" in running.log.read_text()
            announcement = running.runtime / f"ollama_nb-{running.process.pid}.json"
            assert announcement.exists()
            children = psutil.Process(running.process.pid).children(recursive=True)
            assert children
    assert not announcement.exists()
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert "Traceback" not in running.log.read_text()
