"""The tree of a template: what the parser makes, the evaluator runs and others read to learn about a template.

The nodes are those of Go's ``text/template/parse``. ``str(node)`` is source text that parses to the same tree.
``position`` is the offset in the source, which is no part of a node's identity: two templates that differ by
blanks inside their actions are equal. Pure data; nothing is evaluated here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Action",
    "Bool",
    "Break",
    "Chain",
    "Command",
    "Continue",
    "Dot",
    "Field",
    "Identifier",
    "If",
    "Nil",
    "Node",
    "NodeList",
    "Number",
    "Operand",
    "Pipe",
    "Range",
    "String",
    "TemplateCall",
    "Text",
    "Variable",
    "With",
    "walk",
]


@dataclass(frozen=True, kw_only=True)
class _Base:
    position: int = field(default=0, compare=False, repr=False)


# -- operands: what stands in a command ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Dot(_Base):
    """The dot, ``.``."""

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True)
class Nil(_Base):
    """``nil``, which Go allows as an argument only."""

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True)
class Bool(_Base):
    """``true`` or ``false``."""

    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(frozen=True)
class Number(_Base):
    """An untyped constant. ``text`` is as written (``1e3``, ``0x1F``, ``'a'``); the others are the kinds it can be."""

    text: str
    integer: int | None
    real: float | None
    imaginary: complex | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class String(_Base):
    """A text constant; ``quoted`` is as written, with its quotes, ``text`` what it says."""

    quoted: str
    text: str

    def __str__(self) -> str:
        return self.quoted


@dataclass(frozen=True)
class Identifier(_Base):
    """The name of a function."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Field(_Base):
    """``.Function.Name`` as ``("Function", "Name")``, of the dot."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(frozen=True)
class Variable(_Base):
    """``$``, ``$x``, and ``$x.Name`` as ``$x`` with the fields ``("Name",)``."""

    name: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name + "".join(f".{name}" for name in self.names)


@dataclass(frozen=True)
class Chain(_Base):
    """Fields of something in brackets: ``(index .Messages 0).Content``."""

    operand: Operand
    names: tuple[str, ...]

    def __str__(self) -> str:
        inner = f"({self.operand})" if isinstance(self.operand, Pipe) else str(self.operand)
        return inner + "".join(f".{name}" for name in self.names)


@dataclass(frozen=True)
class Command(_Base):
    """A function and its arguments, or one value: ``printf "%d" 1``."""

    arguments: tuple[Operand, ...]

    def __str__(self) -> str:
        return " ".join(f"({item})" if isinstance(item, Pipe) else str(item) for item in self.arguments)


@dataclass(frozen=True)
class Pipe(_Base):
    """Commands, each getting the result of the one before; with declarations ``$i, $x := .List`` or ``$x = 1``."""

    commands: tuple[Command, ...]
    declared: tuple[str, ...] = ()
    assigns: bool = False

    def __str__(self) -> str:
        body = " | ".join(map(str, self.commands))
        if not self.declared:
            return body
        return f"{', '.join(self.declared)} {'=' if self.assigns else ':='} {body}"


Operand: TypeAlias = Dot | Nil | Bool | Number | String | Identifier | Field | Variable | Chain | Pipe


# -- nodes: what a template is a list of --------------------------------------------------------------------------


@dataclass(frozen=True)
class Text(_Base):
    """What is copied to the output, trim markers applied."""

    text: str

    def __str__(self) -> str:
        # Two braces would open an action, and so would one before an action: a comment parts them, whose trim
        # marker takes back the blank.
        return re.sub(r"\{(?=\{|\Z)", "{ {{- /**/}}", self.text)


@dataclass(frozen=True)
class Action(_Base):
    """``{{ pipe }}``: its value is printed, unless it declares a variable."""

    pipe: Pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


@dataclass(frozen=True)
class NodeList(_Base):
    """Nodes in order."""

    nodes: tuple[Node, ...] = ()

    def __str__(self) -> str:
        return "".join(map(str, self.nodes))


@dataclass(frozen=True)
class _Branch(_Base):
    pipe: Pipe
    body: NodeList
    otherwise: NodeList | None = None

    def __str__(self) -> str:
        otherwise = "" if self.otherwise is None else f"{{{{else}}}}{self.otherwise}"
        return f"{{{{{type(self).__name__.lower()} {self.pipe}}}}}{self.body}{otherwise}{{{{end}}}}"


@dataclass(frozen=True)
class If(_Branch):
    """``{{ if pipe }} body {{ else }} otherwise {{ end }}``; an ``else if`` is an If alone in ``otherwise``."""


@dataclass(frozen=True)
class With(_Branch):
    """The same, with the value as the dot of the body."""


@dataclass(frozen=True)
class Range(_Branch):
    """The body once for each element."""


@dataclass(frozen=True)
class TemplateCall(_Base):
    """``{{ template "name" pipe }}``; without a pipe the dot is nil there."""

    name: String
    pipe: Pipe | None = None

    def __str__(self) -> str:
        return f"{{{{template {self.name}{'' if self.pipe is None else f' {self.pipe}'}}}}}"


@dataclass(frozen=True)
class Break(_Base):
    """Leaves the range: ``{{ break }}``."""

    def __str__(self) -> str:
        return "{{break}}"


@dataclass(frozen=True)
class Continue(_Base):
    """Goes on with the next element: ``{{ continue }}``."""

    def __str__(self) -> str:
        return "{{continue}}"


Node: TypeAlias = Text | Action | If | With | Range | TemplateCall | Break | Continue
AnyNode: TypeAlias = Node | NodeList | Operand | Command


def walk(node: AnyNode) -> Iterator[AnyNode]:
    """A node and all below it, in source order: pipe, body, otherwise."""
    stack: list[AnyNode] = [node]
    while stack:
        current = stack.pop()
        yield current
        children: list[AnyNode] = []
        for part in fields(current):
            value = getattr(current, part.name)
            if isinstance(value, _Base):
                children.append(value)  # type: ignore[arg-type]
            elif isinstance(value, tuple):
                children.extend(item for item in value if isinstance(item, _Base))  # type: ignore[misc]
        stack.extend(reversed(children))
