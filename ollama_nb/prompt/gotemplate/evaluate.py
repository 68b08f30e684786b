"""From operands and pipelines to Python closures that compute their values.

A tree is compiled once and run often: each node becomes a function of the state and the dot. Blocks and output are
in ``blocks``. Errors are TemplateRunError, raised where Go raises them: when the node is reached, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from ollama_nb.prompt.gotemplate.errors import TemplateRunError
from ollama_nb.prompt.gotemplate.functions import BUILTINS, LAZY, Function
from ollama_nb.prompt.gotemplate.numbers import constant_value
from ollama_nb.prompt.gotemplate.state import State
from ollama_nb.prompt.gotemplate.tree import (
    Bool,
    Chain,
    Command,
    Dot,
    Field,
    Identifier,
    Nil,
    Number,
    Operand,
    Pipe,
    String,
    Variable,
)
from ollama_nb.prompt.gotemplate.values import (
    INVALID,
    MISSING,
    GoMap,
    GoValue,
    field_value,
    is_true,
    type_name,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Evaluate", "Operands"]

Evaluate: TypeAlias = Callable[[State, GoValue], GoValue]

_LENGTH_PER_STEP: Final = 6
"""As a power of two: how much of a string or list counts as one step."""

_FORMATTING: Final = frozenset(("printf", "json", "html", "js", "urlquery"))
_FORMATTED_PER_STEP: Final = 3
"""The same for functions that look at every character."""

_SHORT: Final = 100
"""Characters of a string that costs nothing to compare."""

_ABSENT: Final = object()
"""Stands for the value that a pipeline would hand on, where there is none."""

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "int": (int,),
    "float": (float,),
    "bool": (bool,),
    "list": (list, tuple),
}


def _fail(reason: str) -> Evaluate:
    def fail(_state: State, _dot: GoValue) -> NoReturn:
        raise TemplateRunError(reason)

    return fail


def _constant(value: GoValue) -> Evaluate:
    return lambda _state, _dot: value


def _checked(value: GoValue, kind: str) -> GoValue:
    """A value for a parameter of this type."""
    if kind in ("any", "concrete"):
        return None if value is INVALID else value
    wanted = _TYPES[kind]
    if type(value) in wanted or (kind == "list" and isinstance(value, list)):
        return value
    raise TemplateRunError(f"wrong type for value; expected {kind}; got {type_name(value)}")


class Operands:
    """Compiles pipelines. ``zero_missing`` is Go's option missingkey=zero.

    Without the option, a missing key is no value at all, and so are its own fields.
    """

    def __init__(self, *, zero_missing: bool) -> None:
        self.zero_missing = zero_missing

    # -- pipelines and commands -------------------------------------------------------------------------------

    def pipe(self, pipe: Pipe) -> Evaluate:
        """The value of a pipeline, its variables declared or assigned; nil becomes INVALID, as reflect has it."""
        value_of = self.raw_pipe(pipe)

        def evaluate(state: State, dot: GoValue) -> GoValue:
            value = value_of(state, dot)
            return INVALID if value is None else value

        return evaluate

    def raw_pipe(self, pipe: Pipe) -> Evaluate:
        """The same for those to whom None and INVALID are one."""
        first = self.command(pipe.commands[0])
        rest = [self.piped(command) for command in pipe.commands[1:]]
        declared, assigns = pipe.declared, pipe.assigns
        if not rest and not declared:
            return first

        def evaluate(state: State, dot: GoValue) -> GoValue:
            value = first(state, dot)
            for command in rest:
                value = command(state, dot, INVALID if value is None else value)
            if value is None:
                value = INVALID
            for name in declared:
                if assigns:
                    state.assign(name, value)
                else:
                    state.declare(name, value)
            return value

        return evaluate

    def command(self, command: Command) -> Evaluate:
        """The value of the first command of a pipeline."""
        word, *arguments = command.arguments
        if isinstance(word, Identifier):
            return self.call(word.name, arguments)
        if isinstance(word, Nil):
            return _fail("nil is not a command")
        if arguments:
            return self.refusing(word)
        return self.operand(word)

    def piped(self, command: Command) -> Callable[[State, GoValue, GoValue], GoValue]:
        """The value of a later command, which gets the value of the one before as its last argument."""
        word, *arguments = command.arguments
        if isinstance(word, Identifier):
            return self.call_with(word.name, arguments)
        refuse = self.refusing(word)
        return lambda state, dot, _value: refuse(state, dot)

    def refusing(self, word: Operand) -> Evaluate:
        """What is no function but was given arguments: an error, but for a field of nothing, which is nothing."""
        if not isinstance(word, (Field, Chain)) and not (isinstance(word, Variable) and word.names):
            return _fail(f"can't give argument to non-function {word}")
        names = word.names
        receiver = self.operand_before(word)

        def refuse(state: State, dot: GoValue) -> GoValue:
            value = receiver(state, dot)
            if value is INVALID:
                return INVALID
            field_value(value, names[-1])
            raise TemplateRunError(f"{names[-1]} is not a method but has arguments")

        return refuse

    def operand_before(self, word: Field | Chain | Variable) -> Evaluate:
        """The value whose field the last name of an operand is."""
        names = word.names[:-1]
        if isinstance(word, Field):
            return self.fields(None, names)
        if isinstance(word, Variable):
            return self.variable(word.name, names)
        return self.fields(self.operand(word.operand), names)

    # -- operands ---------------------------------------------------------------------------------------------

    def operand(self, operand: Operand) -> Evaluate:  # noqa: C901, PLR0911 - one line for each node
        """The value of an operand, where any type will do."""
        match operand:
            case Field():
                return self.fields(None, operand.names)
            case Variable():
                return self.variable(operand.name, operand.names)
            case Dot():
                return lambda _state, dot: dot
            case Nil():
                return _constant(None)
            case Bool():
                return _constant(operand.value)
            case String():
                return _constant(operand.text)
            case Number():
                value = constant_value(operand)
                return _fail(f"{operand.text} overflows int") if value is None else _constant(value)
            case Identifier():
                return self.call(operand.name, [])
            case Chain():
                return self.fields(self.operand(operand.operand), operand.names)
            case Pipe():
                return self.pipe(operand)

    def variable(self, name: str, names: Sequence[str]) -> Evaluate:
        """A variable, or fields of it."""

        def evaluate(state: State, _dot: GoValue) -> GoValue:
            try:
                return state.variables[name]
            except KeyError:
                return state.variable(name)

        return self.fields(evaluate, names)

    def fields(self, receiver: Evaluate | None, names: Sequence[str]) -> Evaluate:
        """Fields of fields of a value; without a receiver, of the dot."""
        for name in names:
            receiver = self.field(receiver, name)
        return receiver or (lambda _state, dot: dot)

    def field(self, receiver: Evaluate | None, name: str) -> Evaluate:
        """One field of a value, or of the dot."""
        missing = None if self.zero_missing else INVALID

        def look_up(owner: GoValue) -> GoValue:
            value = field_value(owner, name)
            if value is MISSING:
                return owner.zero() if missing is None and isinstance(owner, GoMap) else missing
            return value

        if receiver is None:

            def of_dot(_state: State, dot: GoValue) -> GoValue:
                return dot.get(name, missing) if type(dot) is dict else look_up(dot)

            return of_dot

        def of_value(state: State, dot: GoValue) -> GoValue:
            owner = receiver(state, dot)
            return owner.get(name, missing) if type(owner) is dict else look_up(owner)

        return of_value

    # -- calls ------------------------------------------------------------------------------------------------

    def call(self, name: str, arguments: Sequence[Operand]) -> Evaluate:
        """A function's value."""
        builtin = BUILTINS.get(name)
        if builtin is not None:
            return self.direct_call(name, builtin, arguments)
        with_value = self.call_with(name, arguments)
        return lambda state, dot: with_value(state, dot, _ABSENT)

    def direct_call(self, name: str, function: Function, arguments: Sequence[Operand]) -> Evaluate:
        """A builtin's value. One and two arguments of any type, the usual, go without a list."""
        fixed, got = function.parameters, len(arguments)
        if got < len(fixed) or (got > len(fixed) and function.variadic is None):
            return _fail(_wrong_number(name, function, got))
        operands = self.arguments(function, arguments)
        if got not in (1, 2) or "string" in fixed:
            return lambda state, dot: _apply(state, name, function, [operand(state, dot) for operand in operands])
        one = operands[0]
        if got == 1:
            return lambda state, dot: _apply(state, name, function, (one(state, dot),))
        two = operands[1]
        if name == "eq":
            return self.equality(function, one, two)
        return lambda state, dot: _apply(state, name, function, (one(state, dot), two(state, dot)))

    @staticmethod
    def equality(function: Function, one: Evaluate, two: Evaluate) -> Evaluate:
        """``eq`` of two: a short way for short strings, such as the roles of messages."""

        def evaluate(state: State, dot: GoValue) -> GoValue:
            first, second = one(state, dot), two(state, dot)
            if type(first) is str and type(second) is str and len(second) < _SHORT:
                return first == second
            return _apply(state, "eq", function, (first, second))

        return evaluate

    def call_with(self, name: str, arguments: Sequence[Operand]) -> Callable[[State, GoValue, GoValue], GoValue]:
        """A function's value, a last argument coming from the pipeline unless it is _ABSENT."""
        if name in LAZY:
            return self.lazy(name, arguments)
        operands = tuple(arguments)
        builtin = BUILTINS.get(name)
        # The arguments for the function that was met last: its types decide how constants are read.
        prepared: list[tuple[Function, list[Evaluate]]] = []

        def evaluate(state: State, dot: GoValue, last: GoValue) -> GoValue:
            function = builtin or state.functions.get(name)
            if function is None:
                raise TemplateRunError(f'"{name}" is not a defined function')
            kind = _last_kind(name, function, len(operands), last)
            if not prepared or prepared[0][0] is not function:
                prepared[:] = [(function, self.arguments(function, operands))]
            values = [argument(state, dot) for argument in prepared[0][1]]
            if last is not _ABSENT:
                values.append(_checked(last, kind))
            return _apply(state, name, function, values)

        return evaluate

    def arguments(self, function: Function, operands: Sequence[Operand]) -> list[Evaluate]:
        """The arguments as values of the function's types."""
        kinds = [*function.parameters, *([function.variadic or "any"] * len(operands))]
        return [self.argument(operand, kind) for operand, kind in zip(operands, kinds, strict=False)]

    def argument(self, operand: Operand, kind: str) -> Evaluate:
        """An argument for a parameter of this type."""
        if isinstance(operand, Nil) and kind != "any":
            return _fail(f"cannot assign nil to {kind}")
        if isinstance(operand, Number) and kind == "int":
            number = operand.integer
            return _fail(f"expected integer; found {operand}") if number is None else _constant(number)
        if isinstance(operand, Number) and kind == "float":
            real = operand.real
            return _fail(f"expected float; found {operand}") if real is None else _constant(real)
        value = self.operand(operand)
        if kind == "concrete" and (
            isinstance(operand, (Field, Chain)) or (isinstance(operand, Variable) and operand.names)
        ):
            return self.concrete(operand, value)
        if kind in ("any", "concrete"):
            return value
        return lambda state, dot: _checked(value(state, dot), kind)

    def concrete(self, operand: Field | Chain | Variable, value: Evaluate) -> Evaluate:
        """An argument that may not come straight from a map, where it has the type ``any``."""
        receiver = self.operand_before(operand)

        def evaluate(state: State, dot: GoValue) -> GoValue:
            if isinstance(receiver(state, dot), dict):
                raise TemplateRunError(f"{operand}: cannot index slice/array with type interface {{}}")
            return value(state, dot)

        return evaluate

    def lazy(self, name: str, arguments: Sequence[Operand]) -> Callable[[State, GoValue, GoValue], GoValue]:
        """``and`` and ``or``, which stop at the argument that decides."""
        operands = [self.argument(operand, "any") for operand in arguments]
        deciding = name == "or"

        def evaluate(state: State, dot: GoValue, last: GoValue) -> GoValue:
            if not operands and last is _ABSENT:
                raise TemplateRunError(f"wrong number of args for {name}: want at least 1 got 0")
            value: GoValue = None
            for operand in operands:
                value = operand(state, dot)
                if is_true(value) is deciding:
                    return value
            return value if last is _ABSENT else _checked(last, "any")

        return evaluate


def _wrong_number(name: str, function: Function, got: int) -> str:
    least = "at least " if function.variadic is not None else ""
    return f"wrong number of args for {name}: want {least}{len(function.parameters)} got {got}"


def _last_kind(name: str, function: Function, got: int, last: GoValue) -> str:
    """The type of the argument that a pipeline adds; raises TemplateRunError for a wrong number of arguments."""
    fixed, variadic = function.parameters, function.variadic
    total = got + (last is not _ABSENT)
    if total < len(fixed) or (total > len(fixed) and variadic is None):
        raise TemplateRunError(_wrong_number(name, function, total))
    return fixed[total - 1] if 0 < total <= len(fixed) else variadic or "any"


def _apply(state: State, name: str, function: Function, values: Sequence[GoValue]) -> GoValue:
    """The function's value for these arguments, counted by how much it reads and makes."""
    steps = 1
    shift = _FORMATTED_PER_STEP if name in _FORMATTING else _LENGTH_PER_STEP
    for value in values:
        if value is INVALID:
            # Go hands on what is no value as nil.
            values = [None if item is INVALID else item for item in values]
        elif type(value) is str:
            steps += len(value) >> shift
    state.steps -= steps
    if state.steps < 0:
        state.spend(0)
    try:
        result = function.call(*values)
    except TemplateRunError as error:
        raise TemplateRunError(f"error calling {name}: {error.reason}") from None
    except Exception as error:
        # Functions from outside fail as they like; a template says so in its own way.
        raise TemplateRunError(f"error calling {name}: {error}") from error
    if result is not True and result is not False and isinstance(result, (str, list)):
        state.spend(len(result) >> shift)
    return result
