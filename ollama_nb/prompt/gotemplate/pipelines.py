"""From tokens to pipelines: what stands inside the braces of an action, and the reading of tokens as such.

Functions and variables must be known. Which actions open and close blocks is left to ``parser``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NoReturn

from ollama_nb.prompt.gotemplate.errors import TemplateSyntaxError
from ollama_nb.prompt.gotemplate.lexer import Kind, Token, tokens
from ollama_nb.prompt.gotemplate.numbers import parse_number
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
from ollama_nb.wire.gostrings import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["MAX_NESTING", "PipelineParser", "Scope"]

MAX_NESTING: Final = 100
"""Blocks and brackets inside each other."""

_OPERANDS: Final = frozenset(
    (Kind.BOOL, Kind.DOT, Kind.FIELD, Kind.IDENTIFIER, Kind.NUMBER, Kind.STRING, Kind.VARIABLE, Kind.LEFT_PAREN)
)
_WORDS: Final[dict[str, Dot | Nil | Bool]] = {
    ".": Dot(),
    "nil": Nil(),
    "true": Bool(value=True),
    "false": Bool(value=False),
}
_NOT_EXECUTABLE: Final = (Bool, Dot, Nil, Number, String)


@dataclass
class Scope:
    """What one template (the source itself, a define or a block) knows at a point of its text.

    ``declared`` are the variables in the order in which they came, ``ranges`` is how many ranges are open.
    """

    declared: list[str] = field(default_factory=list)
    ranges: int = 0
    known: Counter[str] = field(default_factory=lambda: Counter("$"))

    def declare(self, name: str) -> None:
        """A variable begins."""
        self.declared.append(name)
        self.known[name] += 1

    def leave(self, mark: int) -> None:
        """The end of a block: the variables go that came since ``declared`` was this long."""
        self.known.subtract(self.declared[mark:])
        del self.declared[mark:]


class PipelineParser:
    """Reads the tokens of a source, with as many steps back as needed, and makes pipelines of them."""

    def __init__(self, source: str, functions: Collection[str]) -> None:
        self.source = source
        self.functions = functions
        self.tokens = tokens(source)
        self.pending: list[Token] = []
        self.last = Token(Kind.TEXT, "", 0)
        self.scope = Scope()
        self.nesting = 0
        self.readers: dict[Kind, Callable[[Token], Operand]] = {
            Kind.IDENTIFIER: self.name,
            Kind.VARIABLE: self.name,
            Kind.STRING: self.string,
            Kind.NUMBER: self.number,
            Kind.LEFT_PAREN: self.brackets,
        }

    # -- tokens -----------------------------------------------------------------------------------------------

    def next(self) -> Token:
        """The next token, taken."""
        self.last = self.pending.pop() if self.pending else next(self.tokens)
        return self.last

    def peek(self) -> Token:
        """The next token, left."""
        if not self.pending:
            self.pending.append(next(self.tokens))
        return self.pending[-1]

    def next_word(self) -> Token:
        """The next token that is no blank, taken."""
        token = self.next()
        return self.next() if token.kind is Kind.SPACE else token

    def peek_word(self) -> Token:
        """The next token that is no blank, left; the blank is gone."""
        token = self.next_word()
        self.pending.append(token)
        return token

    def error(self, reason: str, position: int) -> TemplateSyntaxError:
        """The error at an offset of the source."""
        return TemplateSyntaxError.at(reason, self.source, position)

    def unexpected(self, token: Token, where: str) -> NoReturn:
        """Refuse a token."""
        raise self.error(f"unexpected {token} in {where}", token.position)

    def expect(self, kind: Kind, where: str) -> Token:
        """The next token that is no blank, which must be of this kind."""
        token = self.next_word()
        if token.kind is not kind:
            self.unexpected(token, where)
        return token

    def enter(self, token: Token) -> None:
        """Count a block or bracket that opens; raises TemplateSyntaxError past the limit."""
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise self.error(f"nested more than {MAX_NESTING} deep", token.position)

    # -- pipelines --------------------------------------------------------------------------------------------

    def pipe(self, where: str, end: Kind) -> Pipe:
        """Declarations and commands up to the token that closes them, which is taken."""
        position = self.peek_word().position
        declared, assigns = self.declarations(where)
        commands: list[Command] = []
        while True:
            token = self.next_word()
            if token.kind is end:
                break
            if token.kind not in _OPERANDS and not (token.kind is Kind.KEYWORD and token.text == "nil"):
                self.unexpected(token, where)
            self.pending.append(token)
            commands.append(self.command())
        if not commands:
            raise self.error(f"missing value for {where}", token.position)
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.arguments[0], _NOT_EXECUTABLE):
                raise self.error(f"non executable command in pipeline stage {stage}", command.position)
        return Pipe(tuple(commands), declared, assigns, position=position)

    def declarations(self, where: str) -> tuple[tuple[str, ...], bool]:
        """The variables that a pipeline declares or, where the second is true, assigns."""
        declared: list[str] = []
        while self.peek_word().kind is Kind.VARIABLE:
            variable = self.next()
            following = self.next()
            sign = self.next() if following.kind is Kind.SPACE else following
            if sign.kind in (Kind.ASSIGN, Kind.DECLARE):
                declared.append(variable.text)
                self.scope.declare(variable.text)
                return tuple(declared), sign.kind is Kind.ASSIGN
            if (sign.kind, sign.text) != (Kind.CHAR, ","):
                self.pending += [sign, following, variable] if following is not sign else [sign, variable]
                break
            declared.append(variable.text)
            self.scope.declare(variable.text)
            if where != "range" or len(declared) > 1:
                raise self.error(f"too many declarations in {where}", variable.position)
            if self.peek_word().kind is not Kind.VARIABLE:
                raise self.error("range can only initialize variables", sign.position)
        return tuple(declared), False

    def command(self) -> Command:
        """Operands up to a bar, which is taken, or the end of the pipeline, which is left."""
        position = self.peek_word().position
        arguments: list[Operand] = []
        while True:
            operand = self.operand()
            if operand is not None:
                arguments.append(operand)
            token = self.next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.CLOSE, Kind.RIGHT_PAREN):
                self.pending.append(token)
            elif token.kind is not Kind.PIPE:
                self.unexpected(token, "operand")
            return Command(tuple(arguments), position=position)

    def operand(self) -> Operand | None:
        """A term with the fields behind it."""
        term = self.term()
        if term is None or self.peek().kind is not Kind.FIELD:
            return term
        names: list[str] = []
        while self.peek().kind is Kind.FIELD:
            names.append(self.next().text[1:])
        if isinstance(term, Field):
            return Field((*term.names, *names), position=term.position)
        if isinstance(term, Variable):
            return Variable(term.name, tuple(names), position=term.position)
        if isinstance(term, _NOT_EXECUTABLE):
            raise self.error(f"unexpected . after term {term}", self.last.position)
        return Chain(term, tuple(names), position=term.position)

    def term(self) -> Operand | None:
        """One constant, name or bracket; None, the token left, for what is none."""
        token = self.next_word()
        position = token.position
        if token.kind is Kind.FIELD:
            return Field((token.text[1:],), position=position)
        reader = self.readers.get(token.kind)
        if reader is not None:
            return reader(token)
        word = _WORDS.get(token.text) if token.kind in (Kind.DOT, Kind.BOOL, Kind.KEYWORD) else None
        if word is None:
            self.pending.append(token)
            return None
        return replace(word, position=position)

    def name(self, token: Token) -> Identifier | Variable:
        """A function or a variable, which must be known."""
        if token.kind is Kind.IDENTIFIER:
            if token.text not in self.functions:
                raise self.error(f'function "{token.text}" not defined', token.position)
            return Identifier(token.text, position=token.position)
        if not self.scope.known[token.text]:
            raise self.error(f'undefined variable "{token.text}"', token.position)
        return Variable(token.text, position=token.position)

    def brackets(self, token: Token) -> Pipe:
        """A pipeline in brackets."""
        self.enter(token)
        pipe = self.pipe("parenthesized pipeline", Kind.RIGHT_PAREN)
        self.nesting -= 1
        return pipe

    def number(self, token: Token) -> Number:
        """The constant of a number or character."""
        number = parse_number(token.text, token.position)
        if isinstance(number, str):
            raise self.error(number, token.position)
        return number

    def string(self, token: Token) -> String:
        """The constant of a quoted string."""
        text = unquote(token.text)
        if text is None:
            raise self.error(f"invalid syntax in string {token.text}", token.position)
        return String(token.text, text, position=token.position)
