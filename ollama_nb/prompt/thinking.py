"""Thinking in a model's answer: by which tags a template marks it, and how it is told from content as it streams.

The tags are read off the template; whether they are used for an answer is the caller's decision. Tools are parsed
from the content that comes out here (``ollama_nb.prompt.tools``).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.gotemplate.tree import Field, NodeList, Range, Text, Variable, walk
from ollama_nb.prompt.tools.call import Delta

if TYPE_CHECKING:
    from ollama_nb.prompt.gotemplate.tree import AnyNode, Node

__all__ = ["ThinkingParser", "ends_in_opening", "jinja_thinking_tags", "thinking_tags"]

_JINJA_TAGS: Final = (
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<thought>", "</thought>"),
    ("◁think▷", "◁/think▷"),
)
"""The pairs that families of models use, the most common one first."""


def thinking_tags(root: NodeList) -> tuple[str, str] | None:
    """Opening and closing tag of a Go template, or None where it prints no thinking.

    The tags are the texts around ``.Thinking`` in the innermost list of nodes that has it, inside a range over
    ``.Messages``. The last place that has a text on both sides counts.
    """
    found: tuple[str, str] | None = None
    lists: list[tuple[NodeList, Range | None]] = [(root, None)]
    while lists:
        nodes, loop = lists.pop()
        inner: list[tuple[NodeList, Range | None]] = []
        for index, node in enumerate(nodes.nodes):
            if loop is not None and _mentions(_own_pipe(node), "Thinking") and _mentions(loop.pipe, "Messages"):
                found = _tags_around(nodes, index) or found
            parts = (getattr(node, "body", None), getattr(node, "otherwise", None))
            inner += [(part, node if isinstance(node, Range) else loop) for part in parts if part is not None]
        lists.extend(reversed(inner))
    return found


def jinja_thinking_tags(source: str) -> tuple[str, str] | None:
    """Opening and closing tag that a Jinja chat template speaks of; one of the two in it is enough."""
    return next((pair for pair in _JINJA_TAGS if pair[0] in source or pair[1] in source), None)


def ends_in_opening(prompt: str, opening: str) -> bool:
    """Whether a prompt has opened the thinking already, so that the answer starts inside it."""
    return bool(opening) and prompt.rstrip().endswith(opening)


def _own_pipe(node: Node) -> AnyNode | None:
    pipe: AnyNode | None = getattr(node, "pipe", None)
    return pipe


def _mentions(node: AnyNode | None, name: str) -> bool:
    """Whether a field of that name is used: ``.Name``, ``.Name.Other`` or ``$x.Name``."""
    if node is None:
        return False
    return any(isinstance(part, (Field, Variable)) and name in part.names[:1] for part in walk(node))


def _tags_around(nodes: NodeList, index: int) -> tuple[str, str] | None:
    """The text before and the text after a node, of each the line next to it."""
    before = [node.text.strip() for node in nodes.nodes[:index] if isinstance(node, Text) and node.text.strip()]
    after = [node.text.strip() for node in nodes.nodes[index + 1 :] if isinstance(node, Text) and node.text.strip()]
    if not before or not after:
        return None
    return before[-1].splitlines()[-1].strip(), after[0].splitlines()[0].strip()


class _State(enum.Enum):
    """Where in the answer the parser is."""

    BEFORE = enum.auto()  # nothing but blanks came, the opening tag may follow
    STARTED = enum.auto()  # the prompt opened the thinking; a model may write the tag once more
    AFTER_OPENING = enum.auto()  # blanks here are dropped
    THINKING = enum.auto()
    AFTER_CLOSING = enum.auto()  # blanks here are dropped
    CONTENT = enum.auto()


class ThinkingParser:
    """Tells thinking from content.

    Before the opening tag only white space may come, or there is no thinking and all is content. White space behind
    either tag is dropped. A closing tag counts once; later ones are content.
    """

    def __init__(self, opening: str, closing: str, *, started: bool = False) -> None:
        self._opening = opening
        self._closing = closing
        self._state = _State.STARTED if started else _State.BEFORE
        self._blanks: list[str] = []  # white space that is content if no opening tag follows
        self._held = ""  # shorter than a tag

    def feed(self, text: str) -> Delta:
        """What a piece of the answer brings: content and thinking."""
        delta = Delta()
        rest = self._held + text
        self._held = ""
        while rest:
            state = self._state
            if state is _State.CONTENT:
                return delta + Delta(content=rest)
            if state in (_State.BEFORE, _State.STARTED):
                rest = self._before(rest)
            elif state is _State.THINKING:
                thinking, rest = self._thinking(rest)
                delta += Delta(thinking=thinking)
            else:
                rest = rest.lstrip()
                if rest:
                    self._state = _State.THINKING if state is _State.AFTER_OPENING else _State.CONTENT
        return delta

    def close(self) -> Delta:
        """What was held back because a tag might have come."""
        held, self._held = "".join(self._blanks) + self._held, ""
        self._blanks.clear()
        inside = self._state in (_State.STARTED, _State.THINKING)
        self._state = _State.CONTENT
        return Delta(thinking=held) if inside else Delta(content=held)

    def _before(self, text: str) -> str:
        """Looks for the opening tag; what is left to read, nothing while it is undecided."""
        stripped = text.lstrip()
        if self._state is _State.BEFORE:
            self._blanks.append(text[: len(text) - len(stripped)])
        if stripped.startswith(self._opening):
            self._blanks.clear()
            self._state = _State.AFTER_OPENING
            return stripped[len(self._opening) :]
        if self._opening.startswith(stripped):
            self._held = stripped
            return ""
        if self._state is _State.STARTED:
            self._state = _State.THINKING
            return stripped
        self._state = _State.CONTENT
        blanks = "".join(self._blanks)
        self._blanks.clear()
        return blanks + stripped

    def _thinking(self, text: str) -> tuple[str, str]:
        """The thinking in a text, and what is left to read behind the closing tag."""
        thinking, closing, rest = text.partition(self._closing)
        if closing:
            self._state = _State.AFTER_CLOSING
            return thinking, rest
        kept = len(text) - _partial_length(text, self._closing)
        self._held = text[kept:]
        return text[:kept], ""


def _partial_length(text: str, tag: str) -> int:
    """Length of the longest end of a text with which the tag begins, the whole tag excepted."""
    longest = min(len(text), len(tag) - 1)
    return next((length for length in range(longest, 0, -1) if tag.startswith(text[-length:])), 0)
