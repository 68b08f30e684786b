"""The three ways to a prompt: a chat, a single prompt, and raw text.

Pure: messages and a template in, text out. Counting tokens and cutting what does not fit is the runner's work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ollama_nb.wire.native import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.jinja import ChatTemplate

__all__ = ["chat_messages", "generate_messages", "render_prompt"]


def chat_messages(messages: Sequence[Message], *, system: str, history: Sequence[Message]) -> list[Message]:
    """The conversation as the model is to see it.

    A model's own MESSAGES come before the request's, its SYSTEM at the very front unless the request begins with a
    system message.
    """
    conversation = [*history, *messages]
    if system and messages and messages[0].role != "system":
        conversation.insert(0, Message(role="system", content=system))
    return conversation


def generate_messages(prompt: str, *, system: str, history: Sequence[Message]) -> list[Message]:
    """A single prompt as a conversation: system text, the model's MESSAGES, the prompt."""
    conversation = [*history, Message(role="user", content=prompt)]
    if system:
        conversation.insert(0, Message(role="system", content=system))
    return conversation


def render_prompt(template: ChatTemplate | None, messages: Sequence[Message], *, adds_bos: bool) -> str:
    """The text that the model continues.

    Without a template only the contents are said, a blank line between them. Where the tokenizer puts BOS in front
    by itself (``adds_bos``), the one that the template wrote is taken away: two would be one too many.
    """
    if template is None:
        return "\n\n".join(message.content for message in messages if message.content)
    text = template.render([_plain(message) for message in messages])
    if adds_bos and template.bos and text.startswith(template.bos):
        text = text[len(template.bos) :]
    return text


def _plain(message: Message) -> dict[str, Any]:
    """A message as chat templates expect it; empty fields are absent, since templates test for presence."""
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        plain["reasoning_content"] = message.thinking
    if message.tool_calls:
        plain["tool_calls"] = message.tool_calls
    if message.tool_name:
        plain["name"] = message.tool_name
    return plain
