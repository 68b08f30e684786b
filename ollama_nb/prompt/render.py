"""A Go template as it drives a model: from a conversation, or a prompt and its suffix, to the text that is continued.

Ollama drives a template in one of three ways: once with a prompt and its suffix, once with all messages, or turn by
turn for templates that know no messages. What a template is asked, in which order and what it is given, is here;
the language itself is in ``gotemplate``. Pure: values in, text out. Which way a *model* goes is left to ``driver``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.prompt.cut import cut_behind_response
from ollama_nb.prompt.gotemplate import Template, template_data
from ollama_nb.prompt.gotemplate.tree import (
    Action,
    Command,
    Field,
    If,
    NodeList,
    Pipe,
    Range,
    TemplateCall,
    Variable,
    With,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ollama_nb.prompt.gotemplate.tree import AnyNode

__all__ = ["PromptTemplate", "collate", "prompt_template", "render_prompt", "template_data"]

Think = bool | str | None
"""The ``think`` of a request: on or off, a level such as ``high``, or not said."""

_RESPONSE: Final = Action(Pipe((Command((Field(("Response",)),)),)))


def render_prompt(
    *,
    template: str,
    messages: Sequence[Mapping[str, Any]] | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    system: str | None = None,
    prompt: str | None = None,
    suffix: str | None = None,
    think: Think = None,
) -> str:
    """The prompt that Ollama would make of a Go template and a conversation, or a prompt with system and suffix.

    Messages and tools are as in the body of ``/api/chat``. Raises ``TemplateError``.
    """
    driven = prompt_template(template)
    if prompt and suffix:
        return driven.insert(prompt, suffix, think=think)
    conversation = list(messages or ())
    if messages is None:
        conversation = [{"role": "system", "content": system}] if system else []
        conversation.append({"role": "user", "content": prompt or ""})
    return driven.chat(conversation, tools=tools, think=think)


@functools.lru_cache(maxsize=64)
def prompt_template(source: str) -> PromptTemplate:
    """The template of a source text, parsed once; raises ``TemplateError``."""
    return PromptTemplate(source)


class PromptTemplate:
    """A parsed template with what Ollama wants to know of it.

    ``variables`` are all names of fields that it uses, in small letters (``messages``, ``tools``, ``suffix``).
    """

    def __init__(self, source: str) -> None:
        """Parse; raises ``TemplateError``."""
        parsed = Template(source)
        self.source = source
        self.root: NodeList = parsed.root
        trees = [parsed.root, *parsed.definitions.values()]
        self.variables = frozenset(name.lower() for tree in trees for name in _identifiers(tree))
        if not self.variables & {"messages", "response"}:
            self.root = NodeList((*parsed.root.nodes, _RESPONSE))
        self._whole = Template.from_tree(self.root, parsed.definitions)
        # Ollama runs the last turn as a bare template: without functions of its own and without named templates.
        last = cut_behind_response(self.root)
        self._last_turn = Template.from_tree(last, {}, functions=(), missing_key_zero=False)

    def insert(self, prompt: str, suffix: str, *, think: Think = None) -> str:
        """The text for filling in what stands between a prompt and a suffix."""
        return self._whole.render({"Prompt": prompt, "Suffix": suffix, "Response": "", **_thinking(think)})

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: Think = None,
    ) -> str:
        """The text behind which the next message of a conversation begins."""
        system, collated = collate(messages)
        if "messages" not in self.variables:
            return self._turn_by_turn(collated, think)
        typed = template_data({"Messages": collated, "Tools": tools or None})
        return self._whole.render({"System": system, **typed, "Response": "", **_thinking(think)})

    def _turn_by_turn(self, messages: Sequence[Mapping[str, Any]], think: Think) -> str:
        parts: list[str] = []
        turn = _Turn()
        extra = _thinking(think)
        for message in messages:
            role, content = message["role"], message["content"]
            if turn.is_closed_by(role):
                parts.append(self._whole.render(turn.data() | extra))
                turn = _Turn()
            if role == "system":
                turn.system = content
            elif role == "user":
                turn.prompt = content
            elif role == "assistant":
                turn.response = content
        parts.append(self._last_turn.render(turn.data() | extra))
        return "".join(parts)


@dataclass
class _Turn:
    """One run of a template that knows no messages."""

    system: str = ""
    prompt: str = ""
    response: str = ""

    def is_closed_by(self, role: str) -> bool:
        """Whether a message of ``role`` begins the next turn."""
        if role == "system":
            return bool(self.prompt or self.response)
        return role == "user" and bool(self.response)

    def data(self) -> dict[str, Any]:
        return {"System": self.system, "Prompt": self.prompt, "Response": self.response}


def collate(messages: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """All system texts together, and the messages with neighbours of one role made one, but for tools' results.

    Contents are joined by an empty line; all other fields are those of the first, as in Ollama.
    """
    collated: list[dict[str, Any]] = []
    for message in messages:
        role, content = str(message.get("role") or "").lower(), message.get("content") or ""
        if collated and role == collated[-1]["role"] != "tool":
            collated[-1]["content"] += f"\n\n{content}"
        else:
            collated.append({**message, "role": role, "content": content})
    system = "\n\n".join(message["content"] for message in collated if message["role"] == "system")
    return system, collated


def _thinking(think: Think) -> dict[str, Any]:
    level = think if isinstance(think, str) else ""
    return {"Think": bool(think), "ThinkLevel": level, "IsThinkSet": think is not None}


def _identifiers(node: AnyNode) -> Iterator[str]:
    """The names in fields and behind variables; those inside a chain Ollama does not see, nor do we."""
    if isinstance(node, Field):
        yield from node.names
    elif isinstance(node, Variable):
        yield node.name
        yield from node.names
    else:
        for child in _children(node):
            yield from _identifiers(child)


def _children(node: AnyNode) -> Sequence[AnyNode]:
    if isinstance(node, NodeList):
        return node.nodes
    if isinstance(node, If | With | Range):
        return (node.pipe, node.body) if node.otherwise is None else (node.pipe, node.body, node.otherwise)
    if isinstance(node, Pipe):
        return node.commands
    if isinstance(node, Command):
        return node.arguments
    if isinstance(node, Action | TemplateCall):
        return () if node.pipe is None else (node.pipe,)
    return ()
