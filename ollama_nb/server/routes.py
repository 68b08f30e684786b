"""The one table of routes, and the two ways to mount it."""

from __future__ import annotations

import posixpath
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.server import blobs, native, openai, openapi
from ollama_nb.server.base import ApiHandler

if TYPE_CHECKING:
    from tornado import web

    from ollama_nb.service.runtime import Runtime

__all__ = ["ROUTES", "mount"]

ROUTES: Final[tuple[tuple[str, type[ApiHandler]], ...]] = (
    (r"/", native.RootHandler),
    (r"/api/version", native.VersionHandler),
    (r"/api/tags", native.TagsHandler),
    (r"/api/ps", native.RunningHandler),
    (r"/api/show", native.ShowHandler),
    (r"/api/copy", native.CopyHandler),
    (r"/api/delete", native.DeleteHandler),
    (r"/api/create", native.CreateHandler),
    (r"/api/blobs/([^/]+)", blobs.BlobHandler),
    (r"/api/generate", native.GenerateHandler),
    (r"/api/chat", native.ChatHandler),
    (r"/api/embed", native.EmbedHandler),
    (r"/api/embeddings", native.EmbeddingsHandler),
    (r"/api/pull", native.PullHandler),
    (r"/api/push", native.PushHandler),
    (r"/v1/chat/completions", openai.ChatCompletionsHandler),
    (r"/v1/completions", openai.CompletionsHandler),
    (r"/v1/embeddings", openai.EmbeddingsHandler),
    (r"/v1/models", openai.ModelsHandler),
    (r"/v1/models/(.*[^/])", openai.ModelHandler),
    (r"/openapi\.json", openapi.DocumentHandler),
)
"""Path pattern and handler; a group is one path segment, or a model's name, which may have slashes."""


class _RedirectSlash(ApiHandler):
    """A known path with a slash too many: 301 for GET, 307 for the rest, as Go's router does."""

    def redirect_back(self, *_segments: str) -> None:
        """To the same address without the slash."""
        path, _question, query = (self.request.uri or "").partition("?")
        target = path.rstrip("/") + (f"?{query}" if query else "")
        self.redirect(target, status=301 if self.request.method == "GET" else 307)

    get = head = post = put = patch = delete = redirect_back


class _Elsewhere(ApiHandler):
    """Every path that is in no route: the clean form of one with ``//`` or dots, as Go's router cleans it, or 404."""

    def answer(self) -> None:
        """301 to the clean path, else Go's text."""
        path, _question, query = (self.request.uri or "").partition("?")
        clean = _clean(path)
        if clean == path:
            self.reply_text("404 page not found", HTTPStatus.NOT_FOUND)
        else:
            self.redirect(clean + (f"?{query}" if query else ""), status=HTTPStatus.MOVED_PERMANENTLY)

    get = head = post = put = patch = delete = options = answer


def _clean(path: str) -> str:
    """A path without empty and dot segments, its last slash kept.

    It begins with exactly one slash, and browsers take a backslash for another one: so a redirect to it never
    leaves this server.
    """
    clean = "/" + posixpath.normpath(path).lstrip("/")
    if path.endswith("/") and clean != "/":
        clean += "/"
    return clean.replace("\\", "%5C")


def mount(base: type[web.RequestHandler], runtime: Runtime, prefix: str = "") -> list[tuple[str, type, dict[str, Any]]]:
    """The table as Tornado's rules, every handler standing on ``base``; paths begin with ``prefix``."""
    keywords = {"runtime": runtime}
    rules: list[tuple[str, type, dict[str, Any]]] = []
    for path, handler in ROUTES:
        rules.append((f"{prefix}{path}", _on(handler, base), keywords))
        if path != "/":
            rules.append((f"{prefix}{path}/", _on(_RedirectSlash, base), keywords))
    # A port of its own has nothing else on it, so there every request comes through the door, ``OPTIONS *`` too.
    rules.append((f"{prefix}/.*" if prefix else ".*", _on(_Elsewhere, base), keywords))
    return rules


def _on(handler: type[ApiHandler], base: type[web.RequestHandler]) -> type[web.RequestHandler]:
    """The handler standing on a base: the mixin decides what is done, the base who may ask."""
    return type(handler.__name__, (handler, base), {"__doc__": handler.__doc__, "__module__": handler.__module__})
