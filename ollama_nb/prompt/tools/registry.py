"""Which format a model's calls are in, as its chat template tells.

Templates name the markers that the model was trained on, in their instructions and where they print earlier calls. The
rarer a marker, the earlier it is looked for. What has none that is known is read by the algorithm that does for any
template of Ollama's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.tools.command_r import CommandRFormat
from ollama_nb.prompt.tools.deepseek import DeepSeekFormat
from ollama_nb.prompt.tools.functionary import FunctionaryFormat
from ollama_nb.prompt.tools.generic import GenericFormat
from ollama_nb.prompt.tools.granite import GraniteFormat
from ollama_nb.prompt.tools.harmony import HarmonyFormat
from ollama_nb.prompt.tools.hermes import HermesFormat
from ollama_nb.prompt.tools.infer import call_arguments_key, tool_call_tag
from ollama_nb.prompt.tools.llama3 import Llama3Format
from ollama_nb.prompt.tools.mistral import MistralFormat
from ollama_nb.prompt.tools.qwen3_coder import Qwen3CoderFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    from ollama_nb.prompt.gotemplate.tree import NodeList
    from ollama_nb.prompt.tools.call import ToolFormat

__all__ = ["tool_format"]

_LLAMA3: Final = ("<|python_tag|>", "{")
"""The tags that Llama 3's way goes with; a template with its headers may have another."""

_OTHER_TAGS: Final = ("<TOOLCALL>", "<toolcall>", "functools[")
"""Tags of Jinja templates with JSON behind them that are no family's own."""

_BEGUN: Final = re.compile(r">>>['\"]?\s*(?:-?[}%]\}|\{\{-?\s*end|$)")
"""A prompt that ends in Functionary's mark of a recipient, as a template writes it."""


def _granite(source: str) -> ToolFormat:
    if "<|tool_call|>" in source:
        return GraniteFormat()
    return GraniteFormat(tag="<tool_call>", is_list="</tool_call>" not in source)


def _recipients(source: str) -> ToolFormat:
    return FunctionaryFormat(speaks_in_channels=True, is_begun=bool(_BEGUN.search(source)))


_MARKED: Final[tuple[tuple[tuple[str, ...], Callable[[str], ToolFormat]], ...]] = (
    (("<|channel|>", "<|message|>"), lambda _: HarmonyFormat()),
    (("<\uff5ctool\u2581call",), lambda source: DeepSeekFormat(is_fenced="```json" in source)),
    (("[TOOL_CALLS]",), lambda source: MistralFormat(is_named="[ARGS]" in source)),
    (("<|START_ACTION|>",), lambda _: CommandRFormat(speaks_in_channels=True)),
    (("Action:", "tool_name"), lambda _: CommandRFormat()),
    (("<function=", "<parameter="), lambda _: Qwen3CoderFormat()),
    (("<function=",), lambda _: FunctionaryFormat()),
    (("<|tool_call|>",), _granite),
    (("<tool_call>", "<|start_of_role|>"), _granite),
    (("<tool_call>",), lambda _: HermesFormat()),
    ((">>>'",), _recipients),
    (('>>>"',), _recipients),
    ((">>>{",), _recipients),
    ((">>>all",), _recipients),
)
"""Texts that are all in a template, and the format that they tell."""


def tool_format(source: str, root: NodeList | None) -> ToolFormat:
    """The format for a template's source; ``root`` is the tree of a Go template, None for Jinja."""
    tag = None if root is None else tool_call_tag(root)
    for markers, make in _MARKED:
        if all(marker in source for marker in markers):
            return make(source)
    return _by_header(source, tag) or _generic(source, root, tag)


def _by_header(source: str, tag: str | None) -> ToolFormat | None:
    """Llama 3, of which most templates have no marker but the headers, and JSON with parameters."""
    has_marker = "<|python_tag|>" in source or ("<|start_header_id|>" in source and '"parameters"' in source)
    is_own = tag in _LLAMA3 if tag is not None else not any(other in source for other in _OTHER_TAGS)
    return Llama3Format() if has_marker and is_own else None


def _generic(source: str, root: NodeList | None, tag: str | None) -> ToolFormat:
    if root is None or tag is None:
        return GenericFormat(next((other for other in _OTHER_TAGS if other in source), "{"))
    return GenericFormat(tag, arguments_key=call_arguments_key(root))
