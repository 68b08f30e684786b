"""Which tools a request offers, and which of them it demands: the ``tools`` and ``tool_choice`` of a chat.

``tool_choice`` is OpenAI's field: ``none`` hides the tools, ``auto`` leaves it to the model, ``required`` demands a
call of any of them, ``{"type": "function", "function": {"name": …}}`` of one. How a call is demanded of a model, is
left to the service and the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ollama_nb.wire.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.tools.call import Tool

__all__ = ["choose_tools"]


def choose_tools(tools: Sequence[Tool], choice: object) -> tuple[list[Tool], list[Tool]]:
    """The tools that the model is shown, and those of which it has to call one (none: it may do as it likes).

    Raises ``BadRequestError`` for a tool without a name and for a choice that cannot be.
    """
    names = [_name_of(tool) for tool in tools]
    if choice is None or choice == "auto":
        return list(tools), []
    if choice == "none":
        return [], []
    if not tools:
        raise BadRequestError("tool_choice is set but there are no tools", hint="send tools, or leave tool_choice out")
    if choice == "required":
        return list(tools), list(tools)
    wanted = _wanted(choice)
    if wanted not in names:
        raise BadRequestError(
            f"tool_choice names a function that is not among the tools: {wanted}", hint=f"one of: {', '.join(names)}"
        )
    return list(tools), [tools[names.index(wanted)]]


def _name_of(tool: Tool) -> str:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise BadRequestError(
            "a tool has no function name", hint='a tool is {"type": "function", "function": {"name": …, …}}'
        )
    return name


def _wanted(choice: Any) -> str:  # noqa: ANN401 - any JSON value
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise BadRequestError(
            "invalid tool_choice",
            hint='"none", "auto", "required", or {"type": "function", "function": {"name": …}}',
        )
    return name
