"""OpenAI's messages as native ones: roles, parts, images, and the calls of earlier answers.

Ollama makes a message of each part, and joins neighbours of one role with an empty line when it renders them. Here
the parts of a message are joined at once, an image by the tag that stands for it, which is the same prompt wherever
neighbours are joined, and stays one turn in chat templates that want user and assistant to take turns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ollama_nb.server.openai.errors import FieldError, go_type
from ollama_nb.service.images import check_images
from ollama_nb.wire import gojson
from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.native import CalledFunction, CallMessage, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.wire.openai_chat import FunctionCall, OpenAIMessage

__all__ = ["native_messages"]

_ROLES: Final = {"developer": "system", "function": "tool"}
_DATA_URL: Final = re.compile(r"data:(?:image/(?:jpeg|jpg|png|webp))?;base64,")
_IMAGE_TAG: Final = "[img]"
_TEXTS: Final = {"text": "text", "refusal": "refusal", "input_text": "text", "output_text": "text"}
"""Types of parts that are texts, and the field that each has its text in."""


def native_messages(messages: Sequence[OpenAIMessage]) -> list[Message]:
    """The conversation as ``/api/chat`` takes it; raises ``FieldError``."""
    if not messages:
        raise FieldError("[] is too short - 'messages'", "messages", hint="send at least one message")
    called: dict[str, str] = {}
    return [_message(message, f"messages.{at}", called) for at, message in enumerate(messages)]


def _message(message: OpenAIMessage, place: str, called: dict[str, str]) -> Message:
    """One message; ``called`` are the names of the functions that were called before, by the ids of their calls."""
    if not message.role:
        raise FieldError("a message has no role", f"{place}.role", hint="system, user, assistant or tool")
    calls = [
        CallMessage(id=call.id, function=_function(call.function, at, f"{place}.tool_calls.{at}"))
        for at, call in enumerate(message.tool_calls)
    ]
    if message.function_call is not None and not calls:
        calls = [CallMessage(function=_function(message.function_call, 0, f"{place}.function_call"))]
    called.update({call.id: call.function.name for call in calls if call.id})
    role = _ROLES.get(message.role.lower(), message.role)
    said = message.content
    if said is None and (calls or message.refusal or message.reasoning):
        said = message.refusal
    content, images = _content(said, f"{place}.content")
    answers = role.lower() == "tool"
    return Message(
        role=role,
        content=content,
        thinking=message.reasoning,
        images=images,
        tool_calls=calls,
        tool_name=(message.name or called.get(message.tool_call_id, "")) if answers else "",
        tool_call_id=message.tool_call_id if answers else "",
    )


def _function(function: FunctionCall, index: int, place: str) -> CalledFunction:
    """A call whose arguments came as a text; none are an empty object."""
    text = function.arguments.strip() or "{}"
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])  # one object and nothing behind it
        arguments = gojson.decode(f'{{"arguments":{text}}}'.encode(), CalledFunction, "FunctionCall").arguments
    except (msgspec.MsgspecError, BadRequestError) as error:
        raise FieldError(
            "invalid tool call arguments", f"{place}.arguments", hint="arguments are a JSON object, written as a text"
        ) from error
    return CalledFunction(index=index, name=function.name, arguments=arguments)


def _content(content: Any, place: str) -> tuple[str, list[str]]:  # noqa: ANN401 - any JSON value
    """Text and images of a content."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise FieldError(
            f"invalid message content type: {go_type(content)}", place, hint="content is a text or a list of parts"
        )
    texts: list[str] = []
    images: list[str] = []
    for at, part in enumerate(content):
        text, image = _part(part, f"{place}.{at}")
        texts.append(text)
        images += image
    return "\n\n".join(texts), images


def _part(part: Any, place: str) -> tuple[str, list[str]]:  # noqa: ANN401 - any JSON value
    """The text of a part; that of an image is the tag in whose place it will be seen."""
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind in _TEXTS:
        text = part.get(_TEXTS[kind])
        if isinstance(text, str):
            return text, []
    elif kind == "image_url":
        return _IMAGE_TAG, [_image(part.get("image_url"), f"{place}.image_url")]
    raise FieldError(
        "invalid message format",
        place,
        hint='a part is {"type": "text", "text": …} or {"type": "image_url", "image_url": {"url": "data:…"}}',
    )


def _image(value: Any, place: str) -> str:  # noqa: ANN401 - any JSON value
    """The base64 of an image's data URL."""
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str):
        raise FieldError("invalid message format", place, hint='an image_url is {"url": "data:image/png;base64,…"}')
    if url.startswith(("http://", "https://")):
        raise FieldError(
            "image URLs are not currently supported, please use base64 encoded data instead", f"{place}.url"
        )
    head = _DATA_URL.match(url)
    if head is None:
        raise FieldError(
            "invalid image input", f"{place}.url", hint="data:image/png;base64,… (or jpeg, webp) is what is taken"
        )
    data = url[head.end() :]
    try:
        check_images([data])
    except BadRequestError as error:
        raise FieldError("invalid message format", f"{place}.url", hint=error.message) from error
    return data
