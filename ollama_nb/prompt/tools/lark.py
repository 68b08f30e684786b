"""Grammars for one call, in llguidance's Lark: what a model may write where it has to call a tool.

Two shapes serve all families: an object that names its tool, and a name with the arguments behind it. Both end where
the call is complete; what stands around is the families'.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ollama_nb.prompt.tools.schema import SPACING, arguments_schema, call_schema, tool_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.tools.call import Tool

__all__ = ["json_rule", "named_grammar", "nested_rule", "object_grammar", "quoted"]

_GUIDANCE = {"x-guidance": call_schema({})["x-guidance"]}
"""How llguidance is to read a schema; only whole calls say so themselves."""


def quoted(text: str) -> str:
    """A text as a Lark string."""
    return json.dumps(text, ensure_ascii=False)


def json_rule(
    name: str, schema: dict[str, Any], *, within: dict[str, Any] | None = None, is_lenient: bool = True
) -> str:
    """A rule for JSON of a schema; references of a part are resolved by the definitions of what it stands within.

    What no grammar can follow is passed over if ``is_lenient``, else the grammar does not compile.
    """
    guidance = _GUIDANCE if is_lenient else {"x-guidance": SPACING}
    shared = {key: value for key, value in (within or {}).items() if key in ("$defs", "definitions")}
    return f"{name}: %json {json.dumps(guidance | shared | schema, ensure_ascii=False)}\n"


def nested_rule(name: str, grammar: str) -> str:
    """A rule for what a whole grammar takes; the names of its rules stay its own."""
    return f"{name}: %lark {{\n{grammar}}}\n"


def object_grammar(
    tools: Sequence[Tool],
    *,
    before: str = "",
    behind: str = "",
    name_key: str = "name",
    arguments_key: str = "arguments",
) -> str:
    """``{"name": ..., "arguments": ...}`` between two texts."""
    parts = [f"({' | '.join(f'call_{index}' for index in range(len(tools)))})"]
    if before:
        parts.insert(0, quoted(before))
    if behind:
        parts.append(quoted(behind))
    rules = (
        json_rule(f"call_{index}", call_schema(tool, name_key=name_key, arguments_key=arguments_key))
        for index, tool in enumerate(tools)
    )
    return f"start: {' '.join(parts)}\n" + "".join(rules)


def named_grammar(tools: Sequence[Tool], *, between: str = "", marker: str = "") -> str:
    """A name, a text and the arguments; ``marker`` is Lark source for special tokens behind the text."""
    rules = [f"start: {' | '.join(f'call_{index}' for index in range(len(tools)))}\n"]
    for index, tool in enumerate(tools):
        rules.append(f"call_{index}: {quoted(tool_name(tool) + between)} {marker} arguments_{index}\n")
        rules.append(json_rule(f"arguments_{index}", arguments_schema(tool)))
    return "".join(rules)
