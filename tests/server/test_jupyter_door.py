"""Jupyter's own door stands before every route: those of today, and those that are added later."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from http.cookiejar import CookieJar
from urllib.parse import urlsplit

import httpx2
import pytest
from http_calls import exchange, request_head, until
from jupyter_process import TOKEN, JupyterProcess
from route_paths import VERBS, sample_path

from ollama_nb.client import Client
from ollama_nb.server.routes import ROUTES
from ollama_nb.store.keys import KeyFile

PATTERNS = [pattern for pattern, _ in ROUTES]
MAX_BODY = 1_000_000
UNKNOWN_PATHS = ["/", "/nope", "/api", "/api/", "//api/tags", "/api/../api/tags", "/api/tags/", "/v1/models/a/b/c"]


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory, make_store):
    """A real Jupyter in which no handler may forget to ask who is there."""
    folder = tmp_path_factory.mktemp("jupyter")
    with JupyterProcess.start(
        folder,
        "--ServerApp.allow_unauthenticated_access=False",
        f"--ServerApp.max_body_size={MAX_BODY}",
        OLLAMA_MODELS=str(make_store(folder / "models")),
    ) as server:
        yield server


@pytest.fixture(scope="module")
def stranger(jupyter):
    """Calls without a token."""
    with httpx2.Client(base_url=jupyter.url, trust_env=False, timeout=60) as calls:
        yield calls


@pytest.fixture(scope="module")
def friend(jupyter):
    """Calls with the token."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(base_url=jupyter.url, headers=headers, trust_env=False, timeout=60) as calls:
        yield calls


@pytest.fixture
def logged_in(jupyter):
    """Calls as the browser of somebody who has logged in makes them, from whatever page: with the cookie."""
    with httpx2.Client(base_url=jupyter.url, trust_env=False, timeout=60, cookies=CookieJar()) as calls:
        calls.get("/", params={"token": TOKEN}, follow_redirects=True)
        assert len(calls.cookies) >= 1
        yield calls


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_without_a_token_every_verb_of_every_route_is_refused(stranger, pattern, verb):
    assert stranger.request(verb, f"/ollama{sample_path(pattern)}").status_code == 403


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("path", UNKNOWN_PATHS)
def test_and_so_is_everything_below_the_mount_that_is_no_route(stranger, path, verb):
    assert stranger.request(verb, f"/ollama{path}").status_code == 403


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer wrong"}, {"x-api-key": TOKEN}, {"Cookie": "_xsrf=x"}])
def test_what_is_no_token_does_not_help(stranger, headers):
    assert stranger.get("/ollama/api/tags", headers=headers).status_code == 403


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_with_the_token_every_route_is_there(friend, pattern, verb):
    """An empty body is enough to be heard and too little to change anything."""
    reply = friend.request(verb, f"/ollama{sample_path(pattern)}")
    assert reply.status_code != 403
    assert reply.status_code < 500
    # A route that names a model or blob answers 404 in its own words when there is none, as the router never does.
    assert reply.status_code != 404 or "(" in pattern
    assert "404 page not found" not in reply.text


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_cookie_alone_changes_nothing_since_pages_of_others_send_it_too(logged_in, pattern, verb):
    assert logged_in.request(verb, f"/ollama{sample_path(pattern)}").status_code == 403


@pytest.mark.parametrize("path", ["/api/tags", "/v1/models", "/api/version"])
def test_a_page_of_others_cannot_even_look(logged_in, jupyter, path):
    assert logged_in.get(f"/ollama{path}").status_code == 200
    for origin in ("http://evil.test", "null", f"{jupyter.url}.evil.test"):
        assert logged_in.get(f"/ollama{path}", headers={"Origin": origin}).status_code == 403
    host = urlsplit(jupyter.url).netloc
    assert logged_in.get(f"/ollama{path}", headers={"Origin": f"http://{host}"}).status_code == 200


def test_a_page_of_jupyter_itself_proves_it_by_the_xsrf_token(logged_in):
    page = logged_in.get("/login").headers.get_list("set-cookie")
    xsrf = logged_in.cookies.get("_xsrf") or re.search(r"_xsrf=([^;]+)", ";".join(page))[1]
    body = {"model": "smollm2:135m"}
    refused = logged_in.post("/ollama/api/show", json=body)
    wrong = logged_in.post("/ollama/api/show", json=body, headers={"X-XSRFToken": "wrong"})
    allowed = logged_in.post("/ollama/api/show", json=body, headers={"X-XSRFToken": xsrf})
    assert (refused.status_code, wrong.status_code, allowed.status_code) == (403, 403, 200)


def test_a_token_does_not_let_a_page_of_others_in_by_a_preflight(stranger):
    reply = stranger.options(
        "/ollama/api/delete", headers={"Origin": "http://evil.test", "Access-Control-Request-Method": "DELETE"}
    )
    assert reply.status_code == 403
    assert not any(name.startswith("access-control-allow-origin") for name in reply.headers)


def test_blobs_are_not_bounded_by_jupyters_limit_but_by_its_token(friend, stranger):
    data = b"b" * (3 * MAX_BODY)
    path = f"/ollama/api/blobs/sha256:{hashlib.sha256(data).hexdigest()}"
    with suppress(httpx2.TransportError):  # cut off while it was still sending
        assert stranger.post(path, content=data).status_code == 403
    assert friend.head(path).status_code == 404
    assert friend.post(path, content=data).status_code == 201


def test_no_line_of_the_log_shows_a_token_or_a_key(jupyter, stranger):
    """Not of the addresses that are refused, and not of heads that cannot be read, on either door."""
    secret = "do-not-write-me-down"
    assert stranger.get(f"/ollama/api/tags?token={secret}").status_code == 403
    assert stranger.get(f"/ollama/api/blobs/%ff?token={secret}").status_code == 400
    for url in (jupyter.url, jupyter.announced()):
        assert exchange(url, request_head("GET", "/", url, Authorization=f"Bearer {secret}\x01"))[0] == 400
    log = until(lambda: text if "Malformed" in (text := jupyter.log.read_text()) else "", "the log")
    assert " 403 GET /ollama/api/tags" in log
    assert secret not in log


def test_api_keys_are_the_ports_alone_and_notebooks_go_on(tmp_path_factory, make_store, monkeypatch):
    """With a key for the port, Jupyter's token stays enough inside Jupyter, and a kernel needs nothing of its own."""
    home = tmp_path_factory.mktemp("home")
    KeyFile(home).create("for the port")
    folder = tmp_path_factory.mktemp("keyed")
    store = str(make_store(folder / "models"))
    with JupyterProcess.start(folder, OLLAMA_MODELS=store, OLLAMA_NB_HOME=str(home)) as keyed:
        assert keyed.get("/ollama/api/tags")[0] == 200
        assert httpx2.get(f"{keyed.announced()}/api/tags", trust_env=False).status_code == 401
        # A kernel has these two of Jupyter's environment.
        monkeypatch.setenv("OLLAMA_NB_ADDRESS", keyed.announced())
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(keyed.runtime))
        with Client() as calls:
            assert calls.list()
