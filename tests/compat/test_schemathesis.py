"""Schemathesis reads the document of the API and asks a real server all that the document allows, and much that it
does not. Most requests name no model that is here; some are given the real one, and few tokens to say."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from contextlib import nullcontext
from copy import deepcopy
from http.client import BAD_GATEWAY
from typing import Any, Final

import pytest
import requests
import schemathesis
from http_calls import client, complaints
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from malformed import ABLE, CONTEXT
from samples import SMOLLM2
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from ollama_nb.server.openapi.operations import OPERATIONS

SEED: Final = 20250730
EXAMPLES: Final = 40
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
MODEL: Final = "able"
CHEAP: Final = {"num_predict": 2, "num_thread": 1}
RELOADING: Final = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap")
"""Options for which a model is loaded anew, which takes longer than all other requests together."""

REAL: Final[dict[str, dict[str, Any]]] = {
    "/api/show": {"model": MODEL},
    "/api/copy": {"source": MODEL, "destination": "copied"},
    "/api/delete": {"model": "copied"},
    "/api/create": {"model": "made", "from": MODEL, "quantize": "", "quantization": ""},
    "/api/generate": {"model": MODEL},
    "/api/chat": {"model": MODEL},
    "/api/embed": {"model": MODEL},
    "/api/embeddings": {"model": MODEL},
    "/v1/chat/completions": {"model": MODEL, "max_tokens": 2, "max_completion_tokens": 2, "n": 1},
    "/v1/completions": {"model": MODEL, "max_tokens": 2, "n": 1, "best_of": 1},
    "/v1/embeddings": {"model": MODEL},
}
"""What makes a body one about the model that is here."""


@pytest.fixture(scope="module")
def server(tmp_path_factory, start):
    """A server of its own, whose store may be filled with anything."""
    folder = tmp_path_factory.mktemp("asked")
    with start(folder, OLLAMA_NUM_PARALLEL="2", OLLAMA_CONTEXT_LENGTH=str(CONTEXT)) as running:
        with client(running.url) as calls:
            body = {"model": MODEL, "from": SMOLLM2, "stream": False, **ABLE}
            assert calls.post("/api/create", json=body).json() == {"status": "success"}
        yield running
        assert not complaints(running)


@pytest.fixture(scope="module")
def session():
    with requests.Session() as calls:
        calls.trust_env = False
        yield calls


@pytest.fixture(scope="module")
def schema(server, session):
    return schemathesis.openapi.from_dict(session.get(f"{server.url}/openapi.json", timeout=60).json())


@pytest.fixture(scope="module")
def counted():
    """How many answers there were of each status."""
    return Counter()


@pytest.fixture(scope="module")
def ask(server, session, counted):
    """Sends a case, and counts it."""

    def send(case):
        response = case.call(base_url=server.url, session=session)
        counted[response.status_code] += 1
        return response

    return send


def can_be_asked_wrong(row):
    """Whether an operation has a body or a digest; a name in a path may be any text."""
    return row.takes is not None or "{digest}" in row.path


def checks_for(row, status):
    """A registry that cannot be reached, as none can here, is told by a documented 502."""
    told = status == BAD_GATEWAY and status in row.refuses
    return [check for check in CHECKS if not (told and check is not_a_server_error)]


def made_real(body: dict[str, Any], path: str) -> dict[str, Any]:
    """A request's body about the model that is here, without what it cannot do and what would make it slow."""
    real = body | REAL.get(path, {})
    options = real.get("options", {})
    if isinstance(options, dict) and not path.startswith("/v1/"):
        real["options"] = {name: value for name, value in options.items() if name not in RELOADING} | CHEAP
    for name in ("keep_alive", "images"):
        real.pop(name, None)
    if isinstance(real.get("messages"), list):
        real["messages"] = [_without_images(message) for message in real["messages"]]
    return real


def _without_images(message: object) -> object:
    if not isinstance(message, dict):
        return message
    return {name: value for name, value in message.items() if name != "images"}


def sent(case, row, *, real: bool):
    """The case as it is sent, or one about what is really here."""
    if row.takes is bytes:
        data = case.body if isinstance(case.body, bytes) else b"a file"
        case.body = data
        if real:
            case.path_parameters = {"digest": f"sha256:{hashlib.sha256(data).hexdigest()}"}
    elif real and isinstance(case.body, dict):
        case.body = made_real(case.body, row.path)
    return case


def check_lines(described: dict[str, Any], row, response) -> None:
    """Every line of NDJSON conforms to the document; Schemathesis itself knows server-sent events only."""
    if not response.headers.get("content-type", [""])[0].startswith("application/x-ndjson"):
        return
    schema = described["paths"][row.path][row.verb]["responses"]["200"]["content"]["application/x-ndjson"]["schema"]
    validator = Draft202012Validator({**schema, "components": described["components"]})
    for line in response.content.splitlines():
        validator.validate(json.loads(line))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
def test_every_answer_is_one_that_the_document_describes(schema, ask, row, mode):
    if mode is GenerationMode.NEGATIVE and not can_be_asked_wrong(row):
        return  # nothing can be said wrong
    operation = schema[row.path][row.verb]

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES if row.takes is not None or "{" in row.path else 1,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans())
    def run(case, real):
        case = sent(case, row, real=real)
        response = ask(case)
        case.validate_response(response, checks=checks_for(row, response.status_code))
        check_lines(schema.raw_schema, row, response)

    run()


def test_so_much_was_asked_and_no_answer_was_the_servers_fault(counted, capsys):
    with capsys.disabled():
        by_status = dict(sorted(counted.items()))
        print(f"\nschemathesis: {counted.total()} requests and answers that the document describes: {by_status}")
    assert counted.total() > 20 * len(OPERATIONS)
    assert not [status for status in counted if status >= 500 and status != BAD_GATEWAY]


# -- that it would be noticed ------------------------------------------------------------------------------------------

SAID: Final = [{"role": "user", "content": "Hi"}]
STREAMS: Final = {
    "/api/generate": ({"prompt": "Hi"}, "application/x-ndjson", "GenerateResponse"),
    "/api/chat": ({"messages": SAID}, "application/x-ndjson", "ChatResponse"),
    "/v1/chat/completions": ({"messages": SAID, "stream": True}, "text/event-stream", "ChatCompletionChunk"),
    "/v1/completions": ({"prompt": "Hi", "stream": True}, "text/event-stream", "Completion"),
}


@pytest.mark.parametrize(("path", "stream"), STREAMS.items(), ids=STREAMS)
def test_every_piece_of_a_stream_is_looked_at(schema, server, session, path, stream):
    body, medium, piece = stream
    row = next(row for row in OPERATIONS if row.path == path)
    wrong = deepcopy(schema.raw_schema)
    wrong["components"]["schemas"][piece]["properties"]["model"] = {"type": "integer"}
    for described, is_right in ((schema.raw_schema, True), (wrong, False)):
        operation = schemathesis.openapi.from_dict(described)[path]["post"]
        case = operation.Case(body={"model": MODEL, **body}, media_type="application/json")
        response = case.call(base_url=server.url, session=session)
        assert response.status_code == 200
        assert response.headers["content-type"][0].startswith(medium)
        with nullcontext() if is_right else pytest.raises((FailureGroup, ValidationError)):
            case.validate_response(response, checks=CHECKS)
            check_lines(described, row, response)
