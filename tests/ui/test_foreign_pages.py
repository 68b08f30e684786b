"""What a page of somebody else can do to the stand-alone port, tried by a real browser from real pages."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx2
import pytest

MODEL = "smollm2:135m"

FETCH = """async ([url, method, body]) => {
    try {
        const reply = await fetch(url, {method, body});
        return [reply.status, await reply.text()];
    } catch (error) {
        return ["blocked", String(error)];
    }
}"""


class _Page(BaseHTTPRequestHandler):
    """An empty page, whatever its name."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>somebody's page</title>")

    def log_message(self, *_):
        """In silence."""


@pytest.fixture(scope="module")
def pages():
    """The port on which pages live that are not the server's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def listener(pages, tmp_path_factory, start):
    """A real server that lets in the pages of one more origin."""
    folder = tmp_path_factory.mktemp("listener")
    with start(folder, OLLAMA_ORIGINS=f"http://friend.test:{pages}") as server:
        yield server


@pytest.fixture
def open_page(browser):
    """Opens a page in a browser without a past."""
    context = browser.new_context()

    def visit(url, html=None):
        page = context.new_page()
        if html is not None:
            page.route(url, lambda route: route.fulfill(content_type="text/html", body=html))
        page.goto(url)
        return page

    yield visit
    context.close()


def fetch(page, url, method="GET", body=None):
    """What the page's own script gets: status and text, or that it was blocked and why."""
    return page.evaluate(FETCH, [url, method, body])


def models(listener):
    """What the server has, asked as a program asks."""
    reply = httpx2.get(f"{listener.url}/api/tags", trust_env=False)
    return [model["name"] for model in reply.json()["models"]]


@pytest.mark.parametrize(
    "call",
    [
        ("GET", "/api/tags", None),
        ("GET", "/v1/models", None),
        ("DELETE", "/api/delete", f'{{"model": "{MODEL}"}}'),
        ("POST", "/api/generate", f'{{"model": "{MODEL}"}}'),
        ("POST", "/api/copy", f'{{"source": "{MODEL}", "destination": "stolen"}}'),
    ],
)
def test_a_page_of_others_can_neither_look_nor_change(open_page, pages, listener, call):
    method, path, body = call
    page = open_page(f"http://evil.test:{pages}/")
    outcome, reason = fetch(page, listener.url + path, method, body)
    assert (outcome, "Failed to fetch" in reason) == ("blocked", True)
    assert models(listener) == [MODEL]
    assert httpx2.get(f"{listener.url}/api/ps", trust_env=False).json() == {"models": []}


def test_even_what_needs_no_permission_of_the_browser_is_refused_by_the_server(open_page, pages, listener):
    """Such a fetch is sent, and only its answer is kept from the page: the server must not act on it."""
    page = open_page(f"http://evil.test:{pages}/")
    opaque = """async ([url, body]) => (await fetch(url, {method: "POST", mode: "no-cors", body})).type"""
    copied = f'{{"source": "{MODEL}", "destination": "stolen"}}'
    assert page.evaluate(opaque, [f"{listener.url}/api/copy", copied]) == "opaque"
    assert models(listener) == [MODEL]


def test_a_page_of_a_listed_origin_can(open_page, pages, listener):
    page = open_page(f"http://friend.test:{pages}/")
    status, text = fetch(page, f"{listener.url}/api/tags")
    assert (status, MODEL in text) == (200, True)
    assert fetch(page, f"{listener.url}/v1/models")[0] == 200
    assert (
        fetch(page, f"{listener.url}/api/copy", "POST", f'{{"source": "{MODEL}", "destination": "copied"}}')[0] == 200
    )
    assert fetch(page, f"{listener.url}/api/delete", "DELETE", '{"model": "copied"}')[0] == 200
    assert models(listener) == [MODEL]


def test_pages_of_this_machine_can_without_being_listed(open_page, pages, listener):
    for host in ("localhost", "127.0.0.1"):
        page = open_page(f"http://{host}:{pages}/")
        assert fetch(page, f"{listener.url}/api/tags")[0] == 200
        assert fetch(page, f"{listener.url}/api/delete", "DELETE", '{"model": "absent"}')[0] == 404


def test_a_page_that_has_rebound_its_name_to_the_server_is_refused(open_page, listener):
    """For the browser it is the page's own origin, so nothing but the Host header tells.

    The page itself comes from the test: it stands for the one that the name led to before it was rebound.
    """
    origin = f"http://rebind.test:{urlsplit(listener.url).port}"
    page = open_page(f"{origin}/page", html="<!doctype html><title>rebound</title>")
    for method, path, body in (
        ("GET", "/api/tags", None),
        ("GET", "/v1/models", None),
        ("DELETE", "/api/delete", f'{{"model": "{MODEL}"}}'),
    ):
        assert fetch(page, path, method, body) == [403, ""]
    assert models(listener) == [MODEL]
