"""The table of the API's surface is whole: every route, every field, and only tests that there are."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
import pytest
from jupyter_server.base.handlers import JupyterHandler
from surface import FILES, rows
from tornado import web

from ollama_nb.server.routes import ROUTES
from ollama_nb.wire import models, native, openai, openai_chat
from ollama_nb.wire.parameters import OPTIONS

VERBS = ("get", "head", "post", "put", "patch", "delete")
TESTS = Path(__file__).parent
ALL = list(rows())
PROMISED = {(row.route, row.part, row.what) for row in ALL}

GENERATE, CHAT, EMBED, EMBEDDINGS = (f"POST /api/{name}" for name in ("generate", "chat", "embed", "embeddings"))
CHATS, COMPLETIONS, VECTORS = (f"POST /v1/{name}" for name in ("chat/completions", "completions", "embeddings"))

PLACES: Final = {
    native.GenerateRequest: (GENERATE, "request", ""),
    native.GenerateResponse: (GENERATE, "response", ""),
    native.TokenLogprob: (GENERATE, "response", "logprobs."),
    native.TopLogprob: (GENERATE, "response", "logprobs.top_logprobs."),
    native.DebugInfo: (GENERATE, "response", "_debug_info."),
    native.ChatRequest: (CHAT, "request", ""),
    native.Message: (CHAT, "request", "messages."),
    native.CallMessage: (CHAT, "request", "messages.tool_calls."),
    native.CalledFunction: (CHAT, "response", "message.tool_calls.function."),
    native.ChatResponse: (CHAT, "response", ""),
    native.AnswerMessage: (CHAT, "response", "message."),
    native.EmbedRequest: (EMBED, "request", ""),
    native.EmbedResponse: (EMBED, "response", ""),
    native.EmbeddingRequest: (EMBEDDINGS, "request", ""),
    native.EmbeddingResponse: (EMBEDDINGS, "response", ""),
    models.CreateRequest: ("POST /api/create", "request", ""),
    models.Progress: ("POST /api/create", "response", ""),
    models.PullRequest: ("POST /api/pull", "request", ""),
    models.PushRequest: ("POST /api/push", "request", ""),
    models.ShowRequest: ("POST /api/show", "request", ""),
    models.ShowResponse: ("POST /api/show", "response", ""),
    models.Tensor: ("POST /api/show", "response", "tensors."),
    models.CopyRequest: ("POST /api/copy", "request", ""),
    models.DeleteRequest: ("DELETE /api/delete", "request", ""),
    models.ListResponse: ("GET /api/tags", "response", ""),
    models.ModelSummary: ("GET /api/tags", "response", "models."),
    models.ModelDetails: ("GET /api/tags", "response", "models.details."),
    models.ProcessResponse: ("GET /api/ps", "response", ""),
    models.RunningModel: ("GET /api/ps", "response", "models."),
    openai_chat.ChatCompletionRequest: (CHATS, "request", ""),
    openai_chat.OpenAIMessage: (CHATS, "request", "messages."),
    openai_chat.FunctionCall: (CHATS, "request", "messages.function_call."),
    openai.StreamOptions: (CHATS, "request", "stream_options."),
    openai.ResponseFormat: (CHATS, "request", "response_format."),
    openai.JsonSchemaFormat: (CHATS, "request", "response_format.json_schema."),
    openai_chat.ReasoningOptions: (CHATS, "request", "reasoning."),
    openai_chat.ChatCompletion: (CHATS, "response", ""),
    openai_chat.ChatChoice: (CHATS, "response", "choices."),
    openai_chat.ChatAnswer: (CHATS, "response", "choices.message."),
    openai_chat.MessageToolCall: (CHATS, "response", "choices.message.tool_calls."),
    openai_chat.ChatLogprobs: (CHATS, "response", "choices.logprobs."),
    openai_chat.ChatTokenLogprob: (CHATS, "response", "choices.logprobs.content."),
    openai.Usage: (CHATS, "response", "usage."),
    openai_chat.ChatCompletionChunk: (CHATS, "response", "chunk."),
    openai_chat.ChunkChoice: (CHATS, "response", "chunk.choices."),
    openai_chat.ChatDelta: (CHATS, "response", "chunk.choices.delta."),
    openai.OpenAIErrorReply: (CHATS, "response", ""),
    openai.ErrorDetail: (CHATS, "response", "error."),
    openai.CompletionRequest: (COMPLETIONS, "request", ""),
    openai.Completion: (COMPLETIONS, "response", ""),
    openai.CompletionChoice: (COMPLETIONS, "response", "choices."),
    openai.CompletionLogprobs: (COMPLETIONS, "response", "choices.logprobs."),
    openai.EmbeddingsRequest: (VECTORS, "request", ""),
    openai.EmbeddingList: (VECTORS, "response", ""),
    openai.Embedding: (VECTORS, "response", "data."),
    openai.EmbeddingUsage: (VECTORS, "response", "usage."),
    openai.ModelList: ("GET /v1/models", "response", ""),
    openai.Model: ("GET /v1/models", "response", "data."),
}
"""Where in the table the fields of a type stand."""


def verbs_of(handler):
    """The verbs that a handler answers, and not only refuses."""
    return [
        verb.upper()
        for verb in VERBS
        if getattr(handler, verb) not in (getattr(web.RequestHandler, verb), getattr(JupyterHandler, verb, None))
    ]


def bare(route):
    """A route whose groups are ``{}``, whatever they are called."""
    return re.sub(r"\([^)]*\)|:\w+", "{}", route).replace("\\", "")


@cache
def functions_of(file):
    """The functions of a file of tests, found without running it."""
    tree = ast.parse((TESTS.parent / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def structs(module):
    """The types of a module that travel."""
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)]
    return {kind for kind in found if kind.__module__ == module.__name__}


def test_every_route_has_rows_and_no_other_has():
    served = {bare(f"{verb} {path}") for path, handler in ROUTES for verb in verbs_of(handler)}
    promised = {bare(row.route) for row in ALL if not row.route.startswith("every route")}
    assert promised == served


def test_every_type_that_travels_has_its_place():
    assert set().union(*map(structs, (native, models, openai, openai_chat))) == set(PLACES)


@pytest.mark.parametrize("kind", PLACES, ids=lambda kind: f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}")
def test_every_field_has_a_row(kind):
    route, part, prefix = PLACES[kind]
    missing = [name for name in kind.__struct_encode_fields__ if (route, part, prefix + name) not in PROMISED]
    assert not missing


def test_every_option_has_a_row():
    assert not [name for name in OPTIONS if (GENERATE, "request", f"options.{name}") not in PROMISED]


def test_no_row_is_empty_or_stands_twice():
    assert all(row.tests and row.what for row in ALL)
    assert len(ALL) == len(PROMISED)


def test_every_test_of_a_row_is_there():
    nodes = {node for row in ALL for node in row.tests}
    missing = [node for node in nodes if node.partition("::")[2] not in functions_of(node.partition("::")[0])]
    assert not missing


def test_every_file_that_has_a_name_is_used():
    assert {node.partition("::")[0] for row in ALL for node in row.tests} == set(FILES.values())
