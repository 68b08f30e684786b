"""The document itself: the table of operations and the wire types put into OpenAPI's form.

The schemas are those that msgspec makes of the types that decode requests and write answers, so the document cannot
say something else. What a request may look like beyond them (keys in other cases, nulls) is not told.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ollama_nb import __version__
from ollama_nb.server.base import ApiHandler, JupyterBase
from ollama_nb.server.openapi.operations import BYTES, JSON, NDJSON, OPERATIONS, SSE, Operation, Reply
from ollama_nb.wire.fields import SCHEMAS
from ollama_nb.wire.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DocumentHandler", "document"]

Schema = dict[str, Any]

_PATH: Final = "/openapi.json"
_PARAMETERS: Final[dict[str, Schema]] = {
    "digest": {
        "description": "The SHA-256 of the file.",
        "schema": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
    },
    "model": {"description": "The name of a model.", "schema": {"type": "string", "minLength": 1}},
}
_ERRORS: Final = {
    HTTPStatus.BAD_REQUEST: "The request is wrong; the text says what, and often what to do.",
    HTTPStatus.UNAUTHORIZED: "This server has keys, and the request has none of them.",
    HTTPStatus.NOT_FOUND: "There is no such thing here.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is past the limit for JSON.",
    HTTPStatus.BAD_GATEWAY: "The registry refused, cannot be reached, or answered what is none of its answers.",
    HTTPStatus.INSUFFICIENT_STORAGE: "The disk has no room for the model.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The server is to blame, or the model's process.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Too many requests wait already, or the server is shutting down.",
}
_CLOSED: Final = "The stand-alone port does not know the Host or the Origin that the request names."
_FORBIDDEN: Final = "Jupyter's token is missing, or its bearer may not do this."
_TOKEN: Final[Schema] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Jupyter's token."},
    "query": {"type": "apiKey", "in": "query", "name": "token", "description": "Jupyter's token."},
}
_KEY: Final[Schema] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, where the server has some."},
}


class DocumentHandler(ApiHandler):
    """``/openapi.json``."""

    async def get(self) -> None:
        """The document, fitting the door through which it is asked for."""
        prefix = self.request.path.removesuffix(_PATH)
        self.reply(document(prefix or "/", in_jupyter=isinstance(self, JupyterBase)))


@functools.lru_cache(maxsize=4)
def document(url: str, *, in_jupyter: bool) -> Schema:
    """The API as OpenAPI 3.1, served below ``url``; inside Jupyter it asks for Jupyter's token."""
    schemes = _TOKEN if in_jupyter else _KEY
    whole: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "ollama_nb",
            "version": __version__,
            "summary": "Ollama's API and its OpenAI-compatible one, for people who live in notebooks.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": url}],
        "security": [*([] if in_jupyter else [{}]), *({name: []} for name in schemes)],
        "paths": _paths(in_jupyter=in_jupyter),
        "components": {"schemas": _schemas(), "securitySchemes": schemes},
    }
    plain: Schema = msgspec.json.decode(msgspec.json.encode(whole))  # defaults may be tuples
    return plain


def _types() -> list[type]:
    """Every type that some operation speaks of, once."""
    spoken = [kind for row in OPERATIONS for kind in (row.takes, row.error, *(reply.what for reply in row.gives))]
    found = [kind for kind in spoken if kind is not None and issubclass(kind, msgspec.Struct)]
    return list(dict.fromkeys([*found, Options]))


@functools.cache
def _references() -> tuple[dict[type, Schema], Schema]:
    """Where each type stands, and all types that stand there, by name."""
    types = _types()
    references, schemas = msgspec.json.schema_components(types, ref_template=f"{SCHEMAS}{{name}}")
    return dict(zip(types, references, strict=True)), dict(sorted(schemas.items()))


def _schemas() -> Schema:
    return {name: _with_widths(schema | _said(schema)) for name, schema in _references()[1].items()}


def _said(schema: Schema) -> Schema:
    """The docstring of a type as Markdown."""
    return {"description": inspect.cleandoc(schema["description"]).replace("``", "`")}


def _with_widths(schema: Any) -> Any:  # noqa: ANN401 - any part of a schema
    """The same schema, its integers of 64 bits: durations in nanoseconds need them, and more the decoder refuses."""
    if isinstance(schema, list):
        return [_with_widths(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    width = {"format": "int64"} if schema.get("type") == "integer" else {}
    return {name: _with_widths(item) for name, item in schema.items()} | width


def _schema(kind: type) -> Schema:
    """A type as a schema: a reference for a wire type."""
    return _references()[0].get(kind) or msgspec.json.schema(kind)


def _paths(*, in_jupyter: bool) -> Schema:
    paths: Schema = {}
    for path, rows in itertools.groupby(OPERATIONS, key=lambda row: row.path):
        names = re.findall(r"{(\w+)}", path)
        paths[path] = {row.verb: _operation(row, in_jupyter=in_jupyter) for row in rows}
        if names:
            paths[path]["parameters"] = [
                {"name": name, "in": "path", "required": True, **_PARAMETERS[name]} for name in names
            ]
    return paths


def _operation(row: Operation, *, in_jupyter: bool) -> Schema:
    described: Schema = {"operationId": row.name, "summary": row.summary, "tags": [row.api]}
    if row.takes is bytes:
        described["requestBody"] = {"required": True, "content": {BYTES: {}}}
    elif row.takes is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": _schema(row.takes)}}}
    return described | {"responses": _responses(row, in_jupyter=in_jupyter)}


def _responses(row: Operation, *, in_jupyter: bool) -> Schema:
    """All that can come back, by status."""
    responses: Schema = {}
    for status, replies in itertools.groupby(row.gives, key=lambda reply: reply.status):
        responses[str(int(status))] = _success(list(replies), row.error)
    failure = {} if row.verb == "head" else {"content": {JSON: {"schema": _schema(row.error)}}}
    for status in _refusals(row, in_jupyter=in_jupyter):
        responses[str(int(status))] = {"description": _ERRORS[HTTPStatus(status)], **failure}
    responses["403"] = {"description": _FORBIDDEN, **failure} if in_jupyter else {"description": _CLOSED}
    return dict(sorted(responses.items()))


def _refusals(row: Operation, *, in_jupyter: bool) -> Iterator[int]:
    """The statuses of an operation's own errors, and of those that every one can give."""
    yield from row.refuses
    yield HTTPStatus.INTERNAL_SERVER_ERROR
    if not in_jupyter:
        yield HTTPStatus.UNAUTHORIZED
        if row.takes not in {None, bytes}:
            yield HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def _success(replies: list[Reply], error: type) -> Schema:
    described: Schema = {"description": " ".join(reply.when for reply in replies)}
    content = {reply.medium: _medium(reply, error) for reply in replies if reply.what is not None}
    return described | ({"content": content} if content else {})


def _medium(reply: Reply, error: type) -> Schema:
    """A body. The schema of a stream is that of each piece, of which the last may be an error."""
    if reply.what is None:
        raise ValueError("a reply without a body has no medium")
    schema = _schema(reply.what)
    piece = {"anyOf": [schema, _schema(error)]}
    if reply.medium == NDJSON:
        return {"schema": {"description": "One JSON object a line.", **piece}}
    if reply.medium == SSE:
        data = {"type": "string", "contentMediaType": "application/json", "contentSchema": piece}
        end = {"const": "[DONE]", "description": "The end of the stream."}
        event = {"type": "object", "properties": {"data": {"anyOf": [end, data]}}, "required": ["data"]}
        return {"schema": {"description": "Server-sent events without names.", **event}}
    return {"schema": schema}
