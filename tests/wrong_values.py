"""What a request can have wrong: values for any field, values for certain fields, names, digests, paths, verbs."""

from __future__ import annotations

import json
from typing import Any, Final

HUGE: Final = 10**400
DEEP: Final[list[Any]] = json.loads("[" * 150 + "]" * 150)
_NO_BLOB: Final = f"sha256:{'0' * 64}"
_LONG: Final = "word " * 300


def _function(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": fields}


def _user(content: Any, **fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content, **fields}]


ANYWHERE: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 0.5, 1e308, HUGE, "", "x", "\ud800", "\x00", "x" * 500, [], [None], [[]], ["x"], {},
    {"": {}}, {"a": [1]}, DEEP,
)  # fmt: skip
"""For every field: some are right in some of them."""

NAMES: Final = (
    "", ".", "..", "../../etc/passwd", "/", "a//b", "a/b/c/d/e", "a:b:c", ":", "@", "a@sha256:0", "http://x", "-a",
    "a b", "A" * 400, "a\x00b", "\ud83d", "模型", "registry.ollama.ai/library/..", "x" * 100_000, "able/..", "\\",
)  # fmt: skip
"""For every field that names a model."""

IN_FIELDS: Final[dict[str, tuple[Any, ...]]] = {
    "keep_alive": ("5", "abc", "5x", "1h1", "--5m", "9" * 400 + "s", "5m ", "∞", True, [], {}, ["5m"], "", " "),
    "think": ("", "yes", "HIGH", 1, 0, [], {}, "x" * 5000),
    "format": (
        "xml", "JSON", 1, True, [], ["json"], {"type": "nothing"}, {"$ref": "#/nowhere"}, {"$ref": "#"}, {"type": []},
        {"properties": 1}, {"type": "object", "required": "a"}, {"enum": []}, {"pattern": "("}, {"pattern": "(a+)+$"},
        {"type": "string", "minLength": 10**9}, {"type": "array", "minItems": 10**9, "items": {}}, {"anyOf": {}},
        {"type": "string", "minLength": -1}, {"allOf": [{"type": "string"}, {"type": "integer"}]}, {"const": DEEP},
        {"type": "object", "additionalProperties": 7}, {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    ),
    "images": (
        ["x"], ["data:image/png;base64,aGk="], [""], ["aGk"], ["aGk=" * 1000], [1], "aGk=", {}, [None], [[]],
    ),
    "tools": (
        [{}], [{"function": {}}], [{"function": "f"}], [[]], [None], "tools", {}, [_function(name=1)],
        [_function(name="")], [_function(name="f", parameters=[])], [_function(name="f", parameters=1)],
        [_function(name="f", parameters={"properties": [1]})], [_function(name="f")] * 200,
        [_function(name="f", parameters={"type": 5, "properties": {"a": 1, "b": None, "c": {"type": {}}}})],
    ),
    "tool_choice": (
        "must", "", 1, [], {}, {"function": {}}, {"function": {"name": 1}}, {"function": {"name": "nobody"}},
    ),
    "messages": (
        "Hi", {}, [1], ["Hi"], [[]], [{"role": 1}], [{"content": 1}], [{"role": "", "content": ""}], [{}], [None],
        [{"role": "nobody", "content": "x"}], [{"role": "user"}] * 500, [{"role": "assistant", "tool_calls": [{}]}],
        [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}],
        [{"role": "tool", "content": "x", "tool_call_id": "none"}],
        _user(_LONG), _user("\x00\ufffe\u2028"), _user("<|im_end|>" * 50), _user([{}]), _user("x", images=["x"]),
        _user([{"type": "image_url", "image_url": {"url": "http://localhost/x.png"}}]),
        _user([{"type": "image_url", "image_url": "data:image/png;base64,####"}]),
        _user([{"type": "text"}, {"type": "nothing"}, 1, None]),
    ),
    "template": (
        "{{", "{{ if }}", "{{ .Prompt.X }}", "{{ index .Messages 99 }}", '{{ template "x" }}', "}}", "{{ 1 | 2 }}",
        "{{ range .Messages }}", "{{ end }}", "{{ nosuch }}", "{{ len 5 }}", "{{ .Nothing.At.All }}", "{{/*",
    ),
    "context": ([-1], [10**9], [2**62], ["a"], [1.5], [None], "1", {}, [0] * 300, [HUGE]),
    "top_logprobs": (-1, 21, 10**9, 1.5, "2", -(2**62)),
    "dimensions": (-1, 10**9, 2**62, 1.5, "8"),
    "input": (
        1, {}, [1, "a"], [None], [[]], [["a"]], [""], "", [], [_LONG], [-1], [10**9], [[10**9]], [["a"], [1]],
    ),
    "n": (0, -1, 129, 10**9, 1.5, "1"),
    "best_of": (0, -1, 50, "1"),
    "logit_bias": (
        {"x": 1}, {"5": "a"}, {"-1": 5}, {"99999999": 5}, {"5": 1e308}, {"5": None}, [1], {"": 0}, {str(HUGE): 1},
    ),
    "response_format": (
        {}, {"type": "xml"}, {"type": 1}, {"type": "json_schema"}, [],
        {"type": "json_schema", "json_schema": {"schema": 1}},
    ),
    "encoding_format": ("", "hex", 1, None),
    "reasoning_effort": ("", "huge", 1),
    "stop": (1, {}, [1], [None], [""], "", ["a"] * 3000, ["x" * 10_000], [["a"]]),
    "echo": (True, 1, "yes"),
    "files": ({}, {"a.gguf": "x"}, {"../a.gguf": _NO_BLOB}, {"a": 1}, [], {"": ""}, {"a.gguf": _NO_BLOB}),
    "adapters": ({"a.gguf": "x"}, {"a": _NO_BLOB}, [], {"/a": "b"}),
    "license": (1, {}, [1], [None]),
    "parameters": (
        {"temperature": "hot"}, {"stop": 1}, {"nosuch": 1}, [], {"temperature": {"a": 1}}, {"num_ctx": [1]},
    ),
}  # fmt: skip
"""For the fields of these names, in ways of their own."""

IN_OPTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "top_k": (-5, 0, 2**31, 2**62), "top_p": (-1, 0, 2, 1e300), "temperature": (-1, 1e-300, 1e300, 1e39),
    "repeat_last_n": (-1, -(2**62), 2**62), "repeat_penalty": (0, -1, 1e300, 1e-300), "min_p": (-1, 5, 1e300),
    "typical_p": (0, -1, 1e300), "presence_penalty": (1e308, -1e308), "frequency_penalty": (1e308, -1e308),
    "seed": (-(2**63), 2**63 - 1, 2**63, -1.5), "num_keep": (-5, 2**62, 10**9),
    "stop": ([""], ["a"] * 2000, ["\ud800"]),
}  # fmt: skip
"""For options: of the right type, and as extreme as that allows."""

DIGESTS: Final = (
    "x", "sha256", "sha256:", "sha256:xyz", "sha256:" + "g" * 64, "sha256:" + "A" * 64, "md5:" + "0" * 32, "..",
    "sha256-" + "0" * 64, "sha256:" + "0" * 63, "sha256:" + "0" * 65, _NO_BLOB, "%00", "%ff", "a" * 5000, "%2e%2e",
)  # fmt: skip
PATHS: Final = (
    "/api", "/api/", "/api/nothing", "/v1", "/v1/", "/v2/models", "/api/generate/more", "/api/%67enerate", "/%", "/%zz",
    "/api/chat%00", "/api/../etc/passwd", "//api/chat", "/api/chat//", "/api/chat?a=b", "/api/chat#x", "/" + "a" * 5000,
    "/v1/models/", "/v1/models/nobody", "/v1/models/%2e%2e", "/v1/models/a/b/c/d", "/v1/models/%ff", "/api/blobs",
)  # fmt: skip
VERBS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get")
