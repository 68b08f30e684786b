"""A chat completion as native chats: one for each of the answers that are wanted. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ollama_nb.prompt.tools.choice import choose_tools
from ollama_nb.server.openai.errors import FieldError
from ollama_nb.server.openai.messages import native_messages
from ollama_nb.server.openai.options import answer_format, answer_options, think_of
from ollama_nb.wire.native import ChatRequest

if TYPE_CHECKING:
    from ollama_nb.wire.openai_chat import ChatCompletionRequest

__all__ = ["native_chats"]


def native_chats(request: ChatCompletionRequest) -> list[ChatRequest]:
    """What ``/api/chat`` would be asked, ``n`` times; raises ``FieldError``."""
    for modality in request.modalities:
        if modality != "text":
            raise FieldError(
                f"the modality '{modality}' is not supported", "modalities", hint='models here write text: ["text"]'
            )
    if request.top_logprobs is not None and not request.logprobs:
        raise FieldError("top_logprobs needs logprobs", "top_logprobs", hint='set "logprobs": true')
    messages = native_messages(request.messages)
    tools, choice = _tools(request)
    form = answer_format(request.response_format)
    think = think_of(request)
    max_tokens = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    return [
        ChatRequest(
            model=request.model,
            messages=messages,
            stream=request.stream,
            format=form,
            tools=tools,
            tool_choice=choice,
            options=options,
            think=think,
            logprobs=request.logprobs,
            top_logprobs=request.top_logprobs or 0,
        )
        for options in answer_options(request, max_tokens)
    ]


def _tools(request: ChatCompletionRequest) -> tuple[list[dict[str, Any]], Any]:
    """Tools and choice, those of the older form too; without tools there is nothing that could be left to a choice."""
    if request.tools or not request.functions:
        tools, choice = request.tools, request.tool_choice
    else:
        tools = [{"type": "function", "function": function} for function in request.functions]
        choice = request.function_call
        if isinstance(choice, dict):
            choice = {"type": "function", "function": choice}
    choose_tools(tools, choice)  # refuses what cannot be
    return tools, choice
