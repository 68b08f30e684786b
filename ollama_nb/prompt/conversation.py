"""What a model is to see of a request: the messages of a chat, or a single prompt, with the model's own put in.

Pure: messages in, messages out, in the form of the API. Making text of them is left to ``driver``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ollama_nb.prompt.thinking import ThinkingParser
from ollama_nb.wire.native import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "chat_messages",
    "generate_messages",
    "plain",
    "rest_from",
    "rest_starts",
    "tag_images",
    "untagged",
    "without_old_thinking",
]


_TAG: Final = re.compile(r"\[img-[0-9]{1,18}\]")


def chat_messages(messages: Sequence[Message], *, system: str, history: Sequence[Message]) -> list[Message]:
    """The conversation as the model is to see it.

    A model's own MESSAGES come before the request's, its SYSTEM at the very front unless the request begins with a
    system message.
    """
    conversation = [*history, *messages]
    if system and messages and messages[0].role != "system":
        conversation.insert(0, Message(role="system", content=system))
    return conversation


def generate_messages(
    prompt: str, *, system: str, history: Sequence[Message], images: Sequence[str] = ()
) -> list[Message]:
    """A single prompt as a conversation: system text, the model's MESSAGES, a tag for each image, the prompt."""
    conversation = [*history]
    conversation.extend(Message(role="user", content=f"[img-{number}]") for number in range(len(images)))
    conversation.append(Message(role="user", content=prompt))
    if system:
        conversation.insert(0, Message(role="system", content=system))
    return conversation


def rest_starts(messages: Sequence[Message]) -> list[int]:
    """Where a conversation that does not fit may be cut, from the shortest rest to the longest: see ``rest_from``.

    A cut before a system message is left out: it is kept anyway, so nothing would be gained.
    """
    last = len(messages) - 1
    return [start for start in range(last, 0, -1) if start == last or messages[start].role != "system"]


def rest_from(messages: Sequence[Message], start: int) -> list[Message]:
    """The messages from ``start`` on, and the system messages before: they and the last message are always there."""
    return [message for message in messages[:start] if message.role == "system"] + list(messages[start:])


def tag_images(messages: Sequence[Message]) -> list[Message]:
    """Messages with ``[img-0]``, ``[img-1]``, … for their images, in the order in which they stand.

    A tag takes the place of an ``[img]`` in the text; without one it stands before it.
    """
    tagged: list[Message] = []
    number = 0
    for message in messages:
        content, front = message.content, ""
        for _ in message.images:
            tag = f"[img-{number}]"
            if "[img]" in content:
                content = content.replace("[img]", tag, 1)
            else:
                front += tag
            number += 1
        tagged.append(msgspec.structs.replace(message, content=front + content) if message.images else message)
    return tagged


def untagged(text: str) -> str:
    """A prompt without the tags of its images."""
    return _TAG.sub("", text)


def without_old_thinking(messages: Sequence[Message]) -> list[Message]:
    """Messages without the ``<think>…</think>`` that leads the answers before the last question."""
    last_question = max((at for at, message in enumerate(messages) if message.role == "user"), default=-1)
    return [
        _without_thinking(message) if message.role == "assistant" and at < last_question else message
        for at, message in enumerate(messages)
    ]


def _without_thinking(message: Message) -> Message:
    parser = ThinkingParser("<think>", "</think>")
    delta = parser.feed(message.content) + parser.close()
    return msgspec.structs.replace(message, content=delta.content)


def plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as the mappings that templates are given; fields that are empty are absent."""
    return [{"role": "", "content": "", **msgspec.to_builtins(message)} for message in messages]
