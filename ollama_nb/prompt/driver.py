"""What drives a model: its Go template, or the Jinja template of its GGUF where it has no other.

Both make the text that the model continues, and both tell what the model can do and how it writes thinking and tool
calls. Which of the two a model has, the service knows; what the text may cost, the runner.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol

from ollama_nb.prompt.gotemplate import TemplateError
from ollama_nb.prompt.render import prompt_template
from ollama_nb.prompt.thinking import jinja_thinking_tags, thinking_tags
from ollama_nb.prompt.tools import tool_format
from ollama_nb.prompt.tools.harmony import HarmonyFormat
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ollama_nb.prompt.render import Think
    from ollama_nb.prompt.tools import ToolFormat

__all__ = ["Driver", "GoDriver", "JinjaDriver", "go_driver"]


class JinjaTemplate(Protocol):
    """A Jinja template, here (``jinja``) or in a process of its own (``sandbox``)."""

    source: str
    variables: frozenset[str]

    def render(self, messages: list[dict[str, Any]], **variables: Any) -> str:  # noqa: ANN401 - any JSON value
        """The prompt for messages; raises ``OllamaError``."""


class Driver(Protocol):
    """A template that a model is driven by."""

    @property
    def abilities(self) -> tuple[str, ...]:
        """What the template adds to completion: of ``tools``, ``insert`` and ``thinking``, in this order."""

    @property
    def thinking(self) -> tuple[str, str] | None:
        """The tags around what the model thinks; None for one that does not."""

    @property
    def calls(self) -> ToolFormat:
        """How the model writes tool calls."""

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: Think = None,
    ) -> str:
        """The text behind which the next message begins; raises ``OllamaError``."""

    def insert(self, prompt: str, suffix: str, *, think: Think = None) -> str:
        """The text for what stands between prompt and suffix; raises ``OllamaError``."""


@functools.lru_cache(maxsize=64)
def go_driver(source: str) -> GoDriver:
    """The driver of a Go template; raises ``OllamaError`` for one that does not parse."""
    return GoDriver(source)


class GoDriver:
    """A Go template, as every model of Ollama's library has one."""

    def __init__(self, source: str) -> None:
        """Parse; raises ``OllamaError``."""
        try:
            self._template = prompt_template(source)
        except TemplateError as error:
            raise OllamaError(str(error)) from error

    @functools.cached_property
    def thinking(self) -> tuple[str, str] | None:
        """The tags around ``.Thinking``."""
        return thinking_tags(self._template.root)

    @functools.cached_property
    def calls(self) -> ToolFormat:
        """As the template writes the calls of the history."""
        return tool_format(self._template.source, self._template.root)

    @functools.cached_property
    def abilities(self) -> tuple[str, ...]:
        """By the variables that the template uses, and by its tags of thinking."""
        known = self._template.variables
        found = {"tools": "tools" in known, "insert": "suffix" in known, "thinking": self.thinking is not None}
        return tuple(name for name, there in found.items() if there)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: Think = None,
    ) -> str:
        """The template, given all messages or turn by turn."""
        try:
            return self._template.chat(messages, tools=tools, think=think)
        except TemplateError as error:
            raise OllamaError(str(error)) from error

    def insert(self, prompt: str, suffix: str, *, think: Think = None) -> str:
        """The template, given prompt and suffix."""
        try:
            return self._template.insert(prompt, suffix, think=think)
        except TemplateError as error:
            raise OllamaError(str(error)) from error


class JinjaDriver:
    """The chat template of a GGUF, for models that nobody wrote a Go template for."""

    def __init__(self, template: JinjaTemplate) -> None:
        self._template = template

    @functools.cached_property
    def thinking(self) -> tuple[str, str] | None:
        """The tags that the template's text has."""
        return jinja_thinking_tags(self._template.source)

    @functools.cached_property
    def calls(self) -> ToolFormat:
        """As the template's text tells."""
        return tool_format(self._template.source, None)

    @functools.cached_property
    def abilities(self) -> tuple[str, ...]:
        """By the variables that the template asks for, and by tags or a channel for thinking; none can insert."""
        thinks = self.thinking is not None or isinstance(self.calls, HarmonyFormat)
        found = {"tools": "tools" in self._template.variables, "thinking": thinks}
        return tuple(name for name, there in found.items() if there)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: Think = None,
    ) -> str:
        """The template with messages and tools in the form of the transformers library."""
        variables: dict[str, Any] = {}
        if tools:
            variables["tools"] = list(tools)
        if think is not None:
            # The names under which today's families ask: Qwen 3, Granite and DeepSeek, gpt-oss.
            variables |= {"enable_thinking": bool(think), "thinking": bool(think)}
        if isinstance(think, str):
            variables["reasoning_effort"] = think
        return self._template.render([_as_transformers(message) for message in messages], **variables)

    def insert(self, prompt: str, suffix: str, *, think: Think = None) -> str:  # noqa: ARG002 - it never comes to this
        """Chat templates are for chats; a request for this has been refused by then."""
        raise OllamaError("the model's chat template cannot insert")


def _as_transformers(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as chat templates expect it; empty fields are absent, since templates test for presence."""
    plain: dict[str, Any] = {"role": message["role"], "content": message["content"]}
    if thinking := message.get("thinking"):
        plain["reasoning_content"] = thinking
    if calls := message.get("tool_calls"):
        plain["tool_calls"] = [
            {"type": "function", **({"id": call["id"]} if call.get("id") else {}), "function": call["function"]}
            for call in calls
        ]
    for name, key in (("tool_name", "name"), ("tool_call_id", "tool_call_id")):
        if value := message.get(name):
            plain[key] = value
    return plain
