"""From nodes to Python closures that write their output: texts, actions, if, with, range and template calls.

A closure gives None, or LEAVE or NEXT after a ``break`` or ``continue``, which the lists around it hand on to their
range. Variables live until the block that declared them ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ollama_nb.prompt.gotemplate.errors import TemplateRunError
from ollama_nb.prompt.gotemplate.evaluate import Operands
from ollama_nb.prompt.gotemplate.format import show
from ollama_nb.prompt.gotemplate.state import MAX_DEPTH, State
from ollama_nb.prompt.gotemplate.tree import (
    Action,
    Break,
    Continue,
    If,
    Node,
    NodeList,
    Pipe,
    Range,
    TemplateCall,
    Text,
    With,
)
from ollama_nb.prompt.gotemplate.values import (
    INVALID,
    Byte,
    GoMap,
    GoValue,
    Struct,
    is_true,
    sorted_items,
    type_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Program", "Run"]

Run: TypeAlias = Callable[[State, GoValue], "str | None"]

LEAVE: Final = "break"
NEXT: Final = "continue"


def _printed(value: GoValue) -> str:
    """What ``{{ }}`` prints: no value for nil, pointers followed, Arguments as JSON."""
    if value is INVALID or value is None:
        return "<no value>"
    if isinstance(value, GoMap):
        own = value.printed()
        if own is not None:
            return own
    text = show(value)
    return text[1:] if isinstance(value, Struct) and value.pointer and text.startswith("&") else text


class Program:
    """A compiled template with the templates that it defines; run it with a State."""

    def __init__(self, root: NodeList, definitions: Mapping[str, NodeList], *, zero_missing: bool) -> None:
        self.operands = Operands(zero_missing=zero_missing)
        self.templates: dict[str, Run] = {}
        # The source itself has the empty name, so that a template may call it.
        self.templates = {name: self.nodes(nodes) for name, nodes in {"": root, **definitions}.items()}
        self.run = self.nodes(root)

    def nodes(self, nodes: NodeList) -> Run:
        """A list of nodes, one after the other."""
        steps = [self.node(node) for node in nodes.nodes]
        if len(steps) == 1:
            return steps[0]

        def run(state: State, dot: GoValue) -> str | None:
            # Past the limit it ends at the next range, template or function: nothing else can go on for long.
            state.steps -= len(steps)
            for step in steps:
                signal = step(state, dot)
                if signal is not None:
                    return signal
            return None

        return run

    def node(self, node: Node) -> Run:  # noqa: PLR0911 - one line for each node
        """One node."""
        match node:
            case Text():
                return self.text(node.text)
            case Action():
                return self.action(node.pipe)
            case If():
                return self.branch(node, sets_dot=False)
            case With():
                return self.branch(node, sets_dot=True)
            case Range():
                return self.range(node)
            case TemplateCall():
                return self.template(node)
            case Break():
                return lambda _state, _dot: LEAVE
            case Continue():
                return lambda _state, _dot: NEXT

    @staticmethod
    def text(text: str) -> Run:
        """Text is copied."""
        size = len(text)

        def run(state: State, _dot: GoValue) -> None:
            state.room -= size
            if state.room < 0:
                state.write("")
            state.parts.append(text)

        return run

    def action(self, pipe: Pipe) -> Run:
        """A value is printed, unless it went to a variable."""
        value_of = self.operands.raw_pipe(pipe)
        if pipe.declared:

            def declare(state: State, dot: GoValue) -> None:
                value_of(state, dot)

            return declare

        def run(state: State, dot: GoValue) -> None:
            value = value_of(state, dot)
            state.write(value if type(value) is str else _printed(value))

        return run

    def branch(self, node: If | With, *, sets_dot: bool) -> Run:
        """An if or with."""
        value_of = self.operands.raw_pipe(node.pipe)
        body = self.nodes(node.body)
        otherwise = None if node.otherwise is None else self.nodes(node.otherwise)

        def run(state: State, dot: GoValue) -> str | None:
            mark = len(state.undo)
            state.steps -= 1
            value = value_of(state, dot)
            signal = None
            if value is True or (value is not False and is_true(value)):
                signal = body(state, value if sets_dot else dot)
            elif otherwise is not None:
                signal = otherwise(state, dot)
            if len(state.undo) > mark:
                state.leave(mark)
            return signal

        return run

    def template(self, node: TemplateCall) -> Run:
        """Another template, which sees none of the variables here."""
        name = node.name.text
        value_of = None if node.pipe is None else self.operands.pipe(node.pipe)

        def run(state: State, dot: GoValue) -> None:
            called = self.templates.get(name)
            if called is None:
                raise TemplateRunError(f'template "{name}" not defined')
            if state.depth >= MAX_DEPTH:
                raise TemplateRunError(f"templates call each other more than {MAX_DEPTH} deep")
            state.spend(1)
            data = INVALID if value_of is None else value_of(state, dot)
            variables, undo = state.variables, state.undo
            state.variables, state.undo = {"$": data}, []
            state.depth += 1
            called(state, data)
            state.depth -= 1
            state.variables, state.undo = variables, undo

        return run

    def range(self, node: Range) -> Run:
        """The body for each element, or the other branch where there is none."""
        value_of = self.operands.raw_pipe(node.pipe)
        body = self.nodes(node.body)
        otherwise = None if node.otherwise is None else self.nodes(node.otherwise)
        declared = node.pipe.declared
        bind = _binder(node.pipe)

        def run(state: State, dot: GoValue) -> str | None:
            start = len(state.undo)
            value = value_of(state, dot)
            mark = len(state.undo)
            if isinstance(value, dict):
                # Sorting costs, even if the body leaves at once.
                state.spend(len(value))
            empty = True
            for key, item in _elements(value, len(declared)):
                empty = False
                state.spend(1)
                bind(state, key, item)
                signal = body(state, item)
                if len(state.undo) > mark:
                    state.leave(mark)
                if signal is LEAVE:
                    break
            signal = otherwise(state, dot) if empty and otherwise is not None else None
            if len(state.undo) > start:
                state.leave(start)
            return signal

        return run


def _binder(pipe: Pipe) -> Callable[[State, GoValue, GoValue], None]:
    """Gives the variables of a range their values; one variable is the element, the first of two the key."""
    declared, assigns = pipe.declared, pipe.assigns
    names = declared[-1:] if len(declared) == 1 else declared

    def bind(state: State, key: GoValue, item: GoValue) -> None:
        values = (item,) if len(names) == 1 else (key, item)
        for name, value in zip(names, values, strict=True):
            if assigns:
                state.assign(name, value)
            else:
                # The pipeline declared it already, in this block.
                state.variables[name] = value

    return bind if names else lambda _state, _key, _item: None


def _elements(value: GoValue, variables: int) -> Iterable[tuple[Any, Any]]:
    """The keys and elements that a range goes through."""
    if isinstance(value, bytes):
        return enumerate(map(Byte, value))
    if isinstance(value, (list, tuple)):
        return enumerate(value)
    if isinstance(value, dict):
        return sorted_items(value)
    if value is INVALID or value is None:
        return ()
    if isinstance(value, int) and not isinstance(value, bool):
        if variables > 1:
            raise TemplateRunError(f"can't use {value} to iterate over more than one variable")
        return ((INVALID, number) for number in range(value))
    raise TemplateRunError(f"range can't iterate over {type_name(value)}")
