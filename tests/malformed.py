"""A fuzzer of requests: what is right is made wrong in one place, by chance that a seed repeats.

Wrong are types in every field at every nesting, the text of the JSON, names, digests, verbs and paths. Nothing here
knows what the answer should be, but what would only take long is left out: answers without an end, and options for
which a model is loaded anew.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wrong_values import ANYWHERE, DIGESTS, HUGE, IN_FIELDS, IN_OPTIONS, NAMES, PATHS, VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ABLE", "CONTEXT", "Request", "malformed_requests", "positions", "put", "right_requests"]

ABLE: Final[dict[str, Any]] = {
    "template": """{{ if .Suffix }}{{ .Prompt }}|{{ .Suffix }}{{ else }}
{{- range .Tools }}{{ .Function.Name }} {{ end }}
{{- range .Messages }}{{ .Role }}: {{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}
{{- range .ToolCalls }}<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>{{ end }}
{{ end }}{{ if .Think }}<think>{{ end }}{{ end }}""",
    "parameters": {"num_predict": 2, "num_thread": 1},
}
"""What makes a model one that takes every field, in few tokens, and gives short answers."""

Position = tuple[str | int, ...]

CONTEXT: Final = 128
"""Tokens: whatever is asked, no more has to be computed."""


@dataclass(frozen=True)
class Request:
    """What is sent: ``what`` says what is wrong with it."""

    what: str
    verb: str
    path: str
    body: bytes


_ENDLESS: Final = ("num_predict", "max_tokens", "max_completion_tokens")
_RELOADING: Final = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "use_mmap", "keep_alive")

_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris"]}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
_SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "array"}}, "required": ["a"]}
_OPTIONS: Final[dict[str, Any]] = {
    "num_predict": 2, "num_thread": 1, "seed": 1, "temperature": 0.5, "top_k": 5, "top_p": 0.9, "min_p": 0.1,
    "typical_p": 0.9, "repeat_last_n": 8, "repeat_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.1,
    "num_keep": 2, "num_ctx": CONTEXT, "num_batch": 512, "use_mmap": None, "stop": ["\n\n", "END"],
}  # fmt: skip

_CHOICE: Final = {"tools": [_TOOL], "tool_choice": "auto"}
_SHARED: Final = {"keep_alive": "5m", "options": _OPTIONS}
_ANSWER: Final = {
    **_SHARED, "format": _SCHEMA, "think": False, "truncate": True, "shift": True, "logprobs": True, "top_logprobs": 2,
}  # fmt: skip
_MESSAGES: Final = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "assistant",
        "content": "",
        "thinking": "Hm.",
        "tool_calls": [{"id": "c1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Paris"}}}],
    },
    {"role": "tool", "content": "Rain", "tool_name": "weather", "tool_call_id": "c1"},
    {"role": "user", "content": "Hi", "images": []},
]
_OPENAI: Final = {
    "max_tokens": 2, "n": 1, "seed": 1, "stop": ["END"], "temperature": 0.5, "top_p": 0.9, "frequency_penalty": 0.1,
    "presence_penalty": 0.1, "logit_bias": {"5": -1}, "stream_options": {"include_usage": True},
}  # fmt: skip
_OPENAI_MESSAGES: Final = [
    {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
        ],
    },
    {"role": "tool", "content": "Rain", "tool_call_id": "c1"},
    {"role": "user", "content": "Hi", "name": "me"},
]


def right_requests(model: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Verb, path and body of requests about ``model`` that are right, with every field that there is."""
    return [
        ("POST", "/api/generate", {"model": model, "prompt": "Hi", "system": "S", "stream": False, **_ANSWER}),
        ("POST", "/api/generate", {"model": model, "prompt": "a", "suffix": "b", "context": [1, 2], **_SHARED}),
        ("POST", "/api/generate", {"model": model, "prompt": "a", "template": "{{ .Prompt }}", "images": []}),
        ("POST", "/api/generate", {"model": model, "prompt": "a", "raw": True, "_debug_render_only": False}),
        ("POST", "/api/chat", {"model": model, "messages": _MESSAGES, "stream": False, "tools": [_TOOL], **_ANSWER}),
        (
            "POST",
            "/api/chat",
            {"model": model, "messages": _MESSAGES, **_CHOICE, "_debug_render_only": True},
        ),
        ("POST", "/api/embed", {"model": model, "input": ["a", "b"], "truncate": True, "dimensions": 0, **_SHARED}),
        ("POST", "/api/embeddings", {"model": model, "prompt": "a", **_SHARED}),
        ("POST", "/api/show", {"model": model, "name": "", "system": "S", "verbose": False, "options": _OPTIONS}),
        ("POST", "/api/copy", {"source": model, "destination": "copied"}),
        ("DELETE", "/api/delete", {"model": "copied", "name": ""}),
        (
            "POST",
            "/api/create",
            {
                "model": "made", "from": model, "template": "{{ .Prompt }}", "license": ["L"], "system": "S",
                "parameters": _OPTIONS, "messages": [{"role": "user", "content": "Hi"}], "stream": False,
                "adapters": {}, "quantize": "",
            },
        ),
        (
            "POST",
            "/v1/chat/completions",
            {
                "model": model, "messages": _OPENAI_MESSAGES, "tools": [_TOOL], "tool_choice": "auto", **_OPENAI,
                "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": _SCHEMA}},
                "logprobs": True, "top_logprobs": 2, "reasoning_effort": "none", "parallel_tool_calls": True,
            },
        ),
        ("POST", "/v1/completions", {"model": model, "prompt": "Hi", "suffix": "", "logprobs": 1, **_OPENAI}),
        ("POST", "/v1/embeddings", {"model": model, "input": ["a"], "encoding_format": "float", "dimensions": 0}),
    ]  # fmt: skip


_OTHERS: Final[list[tuple[str, str, dict[str, Any]]]] = [
    ("POST", "/api/create", {"model": "made", "files": {}, "stream": False}),
    ("POST", "/v1/completions", {"prompt": "a", "max_tokens": 2, "best_of": 1, "echo": True}),
]
"""Fields that a request with all others cannot have."""


def malformed_requests(model: str, *, broken: int, seed: int) -> list[Request]:
    """Requests about ``model``: for every field and every value of the tables, and ``broken`` ones that are no JSON."""
    chance = random.Random(seed)
    found = [*_every_field(model, chance), *_special_values(model, chance), *_elsewhere()]
    for _ in range(broken):
        verb, path, body = chance.choice(right_requests(model))
        found.append(Request("text", verb, path, _broken(json.dumps(body), chance)))
    return found


def _every_field(model: str, chance: random.Random) -> Iterator[Request]:
    for verb, path, body in right_requests(model):
        for position in positions(body):
            value = chance.choice([value for value in ANYWHERE if _is_quick(position, value)])
            yield Request(f"{position} = {_short(value)}", verb, path, _written(put(body, position, value)))
        for value in (None, [], [body], "x", 1, True):
            yield Request(f"body = {_short(value)}", verb, path, _written(value))


def _special_values(model: str, chance: random.Random) -> Iterator[Request]:
    for verb, path, body in right_requests(model):
        if "options" in body and path == "/api/generate":
            for name, values in IN_OPTIONS.items():
                for value in values:
                    yield Request(
                        f"{name} = {_short(value)}", verb, path, _written(put(body, ("options", name), value))
                    )
        for name in ("model", "source", "destination", "from"):
            for value in chance.sample(NAMES, 6) if name in body else ():
                yield Request(f"{name} = {_short(value)}", verb, path, _written({**body, name: value}))
    everywhere = [*right_requests(model), *_OTHERS]
    for name, values in IN_FIELDS.items():
        takers = {path: (verb, body) for verb, path, body in everywhere if name in body}
        for path, (verb, body) in takers.items():
            for value in values:
                yield Request(f"{name} = {_short(value)}", verb, path, _written({"model": model, **body, name: value}))


def _elsewhere() -> Iterator[Request]:
    for path in PATHS:
        yield Request("path", "GET", path, b"")
        yield Request("path", "POST", path, b"{}")
    for digest in DIGESTS:
        yield Request("digest", "HEAD", f"/api/blobs/{digest}", b"")
        yield Request("digest", "POST", f"/api/blobs/{digest}", b"no such file")
    for verb in VERBS:
        for path in ("/", "/api/tags", "/api/chat", "/api/delete", "/v1/chat/completions", "/openapi.json"):
            yield Request("verb", verb, path, b"")


def positions(value: Any, above: Position = ()) -> Iterator[Position]:
    """Where in a JSON value something stands, fields and elements, from the outside to the inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*above, key)
        yield from positions(item, (*above, key))


def put(value: Any, position: Position, new: Any) -> Any:
    """The value with something else at a position."""
    if not position:
        return new
    copy = value.copy()
    copy[position[0]] = put(value[position[0]], position[1:], new) if position[1:] else new
    return copy


def _is_quick(position: Position, value: Any) -> bool:
    """Whether an answer, if there is one, ends soon and leaves the model as it is loaded."""
    number = isinstance(value, int | float)
    return not (number and position[-1] in (*_ENDLESS, *_RELOADING))


def _short(value: Any) -> str:
    """A value for people: an int of many digits has no ``repr``."""
    return "a huge number" if value == HUGE else f"{value!r:.60}"


def _written(value: Any) -> bytes:
    return json.dumps(value).encode()


def _broken(text: str, chance: random.Random) -> bytes:
    """JSON that is none any more, or hardly."""
    place = chance.randrange(len(text))
    data = text.encode()
    return chance.choice(
        (
            data[:place],
            data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :],
            data[:place] + b"\xff\xfe\x80" + data[place:],
            data[:place] + chance.choice((b",", b"}", b"]", b'"', b"\\", b"\x00", b"\\ud800", b"//")) + data[place:],
            data.replace(b"2", chance.choice((b"NaN", b"Infinity", b"-", b"01", b"1.", b"+1", b"0x1", b"1e400"))),
            data.replace(b"true", b"True").replace(b"null", b"None"),
            data[:-1] + b"," + data[1:],
            data[:-1] + b', "model": 1, "MODEL": [], "stream": "no"}',
            data + data,
            b"[" * chance.randrange(1, 100_000),
            b'{"messages":' * 2000 + b"1",
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
            b"9" * 20_000,
            b'{"model": "\\u0000\\uDEAD", "options": {"seed": -' + b"9" * 5000 + b"}}",
            data.replace(b'"', b"'"),
            b" " * 1000,
            b"",
            b"\xef\xbb\xbf" + data,
            text.encode("utf-16"),
        )
    )
