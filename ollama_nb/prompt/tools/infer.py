"""What a Go template tells about the calls of its model: the tag in front of them and the key of their arguments.

A template prints the calls of earlier turns as the model is to write new ones. Reading them is left to ``generic``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_nb.prompt.gotemplate.tree import Action, Chain, Field, If, NodeList, Text, Variable, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ollama_nb.prompt.gotemplate.tree import Pipe

__all__ = ["call_arguments_key", "tool_call_tag"]


def tool_call_tag(root: NodeList) -> str:
    """The text with which calls begin, for instance ``<tool_call>``; ``{`` where a template tells none.

    It is the text that is printed first where ``.ToolCalls`` are, up to the object of the call.
    """
    branch = _calls_branch(root)
    for node in _printed(branch.body) if branch else ():
        if not isinstance(node, Text):
            break
        if node.text.strip():
            tag, _, _ = node.text.replace("\r\n", "\n").partition("{")
            return tag.strip() or "{"
    return "{"


def call_arguments_key(root: NodeList) -> str:
    """``parameters`` where the template writes calls with this key, else ``arguments``."""
    branch = _calls_branch(root)
    texts = (node.text for node in (walk(branch.body) if branch else ()) if isinstance(node, Text))
    return "parameters" if '"parameters"' in "".join(texts) else "arguments"


def _calls_branch(root: NodeList) -> If | None:
    """The first ``if`` that asks for ``.ToolCalls``, in the order of the source."""
    return next((node for node in walk(root) if isinstance(node, If) and _asks_for_calls(node.pipe)), None)


def _asks_for_calls(pipe: Pipe) -> bool:
    return any(isinstance(part, (Field, Variable, Chain)) and "ToolCalls" in part.names for part in walk(pipe))


def _printed(nodes: NodeList) -> Iterator[Text | Action]:
    """Texts and actions, those in branches too, in the order of the source."""
    return (node for node in walk(nodes) if isinstance(node, (Text, Action)))
