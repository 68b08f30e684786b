"""From tokens to the tree, with Go's checks: functions and variables must be known, blocks closed.

A comment leaves no node and neighbouring texts become one, so that printing a tree and parsing it again gives an
equal tree. What the tree means is the evaluator's business.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

from ollama_nb.prompt.gotemplate.errors import TemplateSyntaxError
from ollama_nb.prompt.gotemplate.lexer import Kind, Token
from ollama_nb.prompt.gotemplate.pipelines import PipelineParser, Scope
from ollama_nb.prompt.gotemplate.tree import (
    Action,
    Break,
    Continue,
    If,
    Node,
    NodeList,
    Range,
    String,
    TemplateCall,
    Text,
    With,
)

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["MAX_SOURCE", "Parsed", "parse"]

MAX_SOURCE: Final = 1 << 18
"""Characters of a source; real templates have a few thousand."""

_BRANCHES: Final[dict[str, type[If | Range | With]]] = {"if": If, "range": Range, "with": With}
_CHAINED: Final = {"if": "if", "with": "with"}
"""Which keyword may follow an else of which block: ``else if``, ``else with``."""


class Parsed(NamedTuple):
    """A template: its own nodes, and those of the templates that it defines."""

    root: NodeList
    definitions: dict[str, NodeList]


def parse(source: str, functions: Collection[str]) -> Parsed:
    """The tree of a source that may use these functions; raises TemplateSyntaxError."""
    if len(source) > MAX_SOURCE:
        raise TemplateSyntaxError(f"longer than {MAX_SOURCE} characters", 1, 1)
    parser = _Parser(source, functions)
    try:
        return parser.parse()
    except RecursionError:
        raise parser.error("nested too deeply", parser.last.position) from None


def _is_empty(nodes: NodeList) -> bool:
    return all(isinstance(node, Text) and not node.text.strip() for node in nodes.nodes)


def _joined(nodes: list[Node], position: int) -> NodeList:
    """The nodes as a list, neighbouring texts as one."""
    merged: list[Node] = []
    for is_text, group in itertools.groupby(nodes, key=lambda node: isinstance(node, Text)):
        found = list(group)
        if is_text:
            whole = "".join(node.text for node in found if isinstance(node, Text))
            merged.append(Text(whole, position=found[0].position))
        else:
            merged += found
    return NodeList(tuple(merged), position=position)


class _Parser(PipelineParser):
    def __init__(self, source: str, functions: Collection[str]) -> None:
        super().__init__(source, functions)
        self.definitions: dict[str, NodeList] = {}

    # -- the source and its definitions ------------------------------------------------------------------------

    def parse(self) -> Parsed:
        nodes, end = self.node_list("input", allow_define=True)
        if end.kind is not Kind.END:
            self.unexpected(end, "input")
        # The source's own name is empty; a definition of that name competes with it.
        self.define("", _joined(nodes, 0), 0)
        return Parsed(self.definitions.pop(""), self.definitions)

    def define(self, name: str, nodes: NodeList, position: int) -> None:
        known = self.definitions.get(name)
        if known is None or _is_empty(known):
            self.definitions[name] = nodes
        elif not _is_empty(nodes):
            raise self.error(f'multiple definition of template "{name}"', position)

    def node_list(self, where: str, *, allow_define: bool = False) -> tuple[list[Node], Token]:
        """Nodes up to an ``end``, an ``else`` or the end of the source, and that token."""
        nodes: list[Node] = []
        while True:
            token = self.next()
            if token.kind is Kind.TEXT:
                nodes.append(Text(token.text, position=token.position))
            elif token.kind is Kind.OPEN:
                word = self.next_word()
                if word.kind is Kind.KEYWORD and word.text in ("end", "else"):
                    return nodes, word
                if word.kind is Kind.KEYWORD and word.text == "define" and allow_define:
                    self.definition(word)
                else:
                    nodes.append(self.node(word))
            elif token.kind is Kind.END:
                return nodes, token
            else:
                self.unexpected(token, where)

    def body(self, token: Token, where: str) -> tuple[NodeList, Token]:
        """The nodes of a block that ``token`` opened, and the ``end`` or ``else`` behind them."""
        nodes, end = self.node_list(where)
        if end.kind is Kind.END:
            raise self.error(f"unexpected end of the template: {{{{{token.text}}}}} is not closed", token.position)
        if end.text == "end":
            self.expect(Kind.CLOSE, "end")
        return _joined(nodes, token.position), end

    def template_body(self, token: Token, name: str, where: str) -> None:
        """The body of a define or a block, which sees no variables from outside."""
        outer, self.scope = self.scope, Scope()
        self.enter(token)
        nodes, end = self.body(token, where)
        if end.text != "end":
            self.unexpected(end, where)
        self.nesting -= 1
        self.scope = outer
        self.define(name, nodes, token.position)

    def definition(self, token: Token) -> None:
        name = self.template_name("define clause")
        self.expect(Kind.CLOSE, "define clause")
        self.template_body(token, name.text, "define clause")

    def template_name(self, where: str) -> String:
        token = self.expect(Kind.STRING, where)
        return self.string(token)

    # -- actions ----------------------------------------------------------------------------------------------

    def node(self, word: Token) -> Node:
        """The node that an action's first word begins."""
        if word.kind is Kind.KEYWORD:
            match word.text:
                case "if" | "range" | "with":
                    return self.branch(word)
                case "template":
                    return self.template_call(word)
                case "block":
                    return self.block(word)
                case "break" | "continue":
                    return self.leave(word)
        self.pending.append(word)
        return Action(self.pipe("command", Kind.CLOSE), position=word.position)

    def leave(self, word: Token) -> Node:
        where = f"{{{{{word.text}}}}}"
        self.expect(Kind.CLOSE, where)
        if not self.scope.ranges:
            raise self.error(f"{where} outside {{{{range}}}}", word.position)
        return Break(position=word.position) if word.text == "break" else Continue(position=word.position)

    def template_call(self, word: Token) -> Node:
        name = self.template_name("template clause")
        token = self.next_word()
        pipe = None
        if token.kind is not Kind.CLOSE:
            self.pending.append(token)
            pipe = self.pipe("template clause", Kind.CLOSE)
        return TemplateCall(name, pipe, position=word.position)

    def block(self, word: Token) -> Node:
        name = self.template_name("block clause")
        pipe = self.pipe("block clause", Kind.CLOSE)
        self.template_body(word, name.text, "block clause")
        return TemplateCall(name, pipe, position=word.position)

    def branch(self, word: Token) -> Node:
        """An if, range or with, of which ``word`` is the keyword."""
        keyword = word.text
        self.enter(word)
        mark = len(self.scope.declared)
        pipe = self.pipe(keyword, Kind.CLOSE)
        self.scope.ranges += keyword == "range"
        body, end = self.body(word, keyword)
        self.scope.ranges -= keyword == "range"
        otherwise = self.otherwise(word, end) if end.text == "else" else None
        self.scope.leave(mark)
        self.nesting -= 1
        return _BRANCHES[keyword](pipe, body, otherwise, position=word.position)

    def otherwise(self, word: Token, end: Token) -> NodeList:
        """What follows the ``else`` of a branch, up to its end."""
        token = self.next_word()
        if token.kind is Kind.KEYWORD and token.text == _CHAINED.get(word.text):
            # The end of the inner block closes this one too.
            return NodeList((self.branch(token),), position=token.position)
        if token.kind is not Kind.CLOSE:
            self.unexpected(token, "else")
        nodes, last = self.body(word, word.text)
        if last.text != "end":
            raise self.error("expected end; found {{else}}", last.position)
        return NodeList(nodes.nodes, position=end.position)
