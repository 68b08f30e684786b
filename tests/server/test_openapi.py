from __future__ import annotations

import json
import re

import pytest
from http_calls import OPTIONS
from jsonschema import Draft202012Validator
from jupyter_process import JupyterProcess
from jupyter_server.base.handlers import JupyterHandler
from openapi_spec_validator import OpenAPIV31SpecValidator
from samples import SMOLLM2
from tornado import web

from ollama_nb import __version__
from ollama_nb.server.openapi import document
from ollama_nb.server.openapi.operations import OPERATIONS
from ollama_nb.server.routes import ROUTES
from ollama_nb.wire.parameters import OPTIONS as KNOWN_OPTIONS

VERBS = ("get", "head", "post", "put", "patch", "delete", "options")


@pytest.fixture(scope="module")
def described():
    return document("/", in_jupyter=False)


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory, sample_store):
    folder = tmp_path_factory.mktemp("jupyter")
    arguments = ("--ServerApp.base_url=/user/jo/", f"--OllamaExtension.models={sample_store}")
    with JupyterProcess.start(folder, *arguments) as running:
        yield running


@pytest.fixture(scope="module")
def served(api, jupyter):
    """The document as each of the two mounts gives it, and below which address."""
    status, body = jupyter.get("/ollama/openapi.json")
    assert status == 200
    return {"/": api.get("/openapi.json").json(), "/user/jo/ollama": json.loads(body)}


def plain(pattern):
    """A route's pattern as OpenAPI writes paths, whatever its groups are called."""
    return re.sub(r"\([^)]*\)", "{}", pattern).replace("\\", "")


def verbs_of(handler):
    """The verbs that a handler answers, and not only refuses."""
    return {
        verb
        for verb in VERBS
        if getattr(handler, verb) not in (getattr(web.RequestHandler, verb), getattr(JupyterHandler, verb, None))
    }


def check(described, name, value):
    """Hold a value to one of the document's types."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
    Draft202012Validator(schema).validate(value)


# -- what is described -------------------------------------------------------------------------------------------------


def test_every_route_and_verb_is_described_and_nothing_else():
    routes = {(plain(pattern), verb) for pattern, handler in ROUTES for verb in verbs_of(handler)}
    assert {(re.sub(r"{\w+}", "{}", row.path), row.verb) for row in OPERATIONS} == routes


def test_every_operation_is_described_once_and_has_a_name_of_its_own():
    assert len({(row.path, row.verb) for row in OPERATIONS}) == len(OPERATIONS)
    assert len({row.name for row in OPERATIONS}) == len(OPERATIONS)


@pytest.mark.parametrize("in_jupyter", [True, False])
def test_the_document_is_valid(in_jupyter):
    OpenAPIV31SpecValidator(document("/ollama", in_jupyter=in_jupyter)).validate()


def test_every_mount_serves_it_with_its_own_address(served):
    for address, received in served.items():
        assert received["openapi"] == "3.1.0"
        assert received["info"]["version"] == __version__
        assert received["servers"] == [{"url": address}]
        assert received == document(address, in_jupyter=address != "/")


def test_only_jupyter_asks_for_a_token(served, jupyter):
    outside, inside = served.values()
    assert outside["security"] == [{}, {"bearer": []}]
    assert inside["security"] == [{"bearer": []}, {"query": []}]
    assert jupyter.request("GET", "/ollama/openapi.json")[0] == 403


def test_every_answer_is_described_and_has_a_body_unless_it_is_to_head(described):
    for row in OPERATIONS:
        replies = described["paths"][row.path][row.verb]["responses"]
        assert all(reply["description"] for reply in replies.values())
        assert {"401", "403", "500"} <= set(replies)
        errors = [reply for status, reply in replies.items() if status >= "400" and status != "403"]
        assert all(("content" in reply) == (row.verb != "head") for reply in errors), row


def test_the_options_are_the_parameters(described):
    options = described["components"]["schemas"]["Options"]["properties"]
    assert set(options) == set(KNOWN_OPTIONS)
    assert options["temperature"] == {"type": "number", "default": 0.8}


def test_descriptions_are_markdown(described):
    texts = [schema["description"] for schema in described["components"]["schemas"].values()]
    assert all(texts)
    assert not [text for text in texts if "``" in text or "\n    " in text]


# -- what it says of requests ------------------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    "value",
    [
        {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
        {"model": "m", "messages": [], "keep_alive": 0},
        {"model": "m", "keep_alive": "5m", "stream": False, "think": "high"},
        {"model": "m", "format": "json", "options": {"seed": 1, "stop": ["x"], "num_ctx": 100}},
        {"model": "m", "format": {"type": "object"}, "think": True, "tools": [TOOL], "tool_choice": "required"},
        {"model": "m", "messages": [{"role": "user", "content": "", "images": ["aGk="]}], "format": ""},
        {"model": "m", "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"model": "m", "keep_alive": None, "think": None, "format": None, "tool_choice": None},
    ],
    ids=json.dumps,
)
def test_requests_that_are_right_are_right_by_the_document(described, value):
    check(described, "ChatRequest", value)


@pytest.mark.parametrize(
    "value",
    [
        {"model": 1},
        {"messages": {}},
        {"messages": [{"role": 1}]},
        {"format": "xml"},
        {"keep_alive": True},
        {"think": "much"},
        {"tools": [{}]},
        {"tools": [{"function": {}}]},
        {"tool_choice": "perhaps"},
        {"options": []},
        {"options": {"temperature": "hot"}},
        {"options": {"stop": "x"}},
        {"stream": "yes"},
    ],
    ids=json.dumps,
)
def test_requests_that_are_refused_are_wrong_by_the_document(described, api, value):
    errors = list(
        Draft202012Validator(
            {"$ref": "#/components/schemas/ChatRequest", "components": described["components"]}
        ).iter_errors(value)
    )
    assert errors
    question = {"model": SMOLLM2, "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    response = api.post("/api/chat", json=question | {"options": OPTIONS} | value)
    assert response.status_code == 400, response.text
    check(described, "ErrorReply", response.json())
