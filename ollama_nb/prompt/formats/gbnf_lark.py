"""A grammar of llama.cpp as llguidance's Lark.

GBNF goes by characters, Lark by terminals that are as long as they can be. So every rule that does not come back to
itself becomes a terminal, and so does each run of them within a rule; only where a rule that does come back touches a
terminal that could go on into it does Lark take a text less. Rules get names of their own: GBNF has more letters.
"""

from __future__ import annotations

from ollama_nb.prompt.formats.gbnf import Call, Choice, Node, Repeated, Row, Text, calls, read_gbnf

__all__ = ["lark_of_gbnf"]


def lark_of_gbnf(text: str) -> str:
    """A grammar whose ``root`` is the ``start`` of a Lark grammar; raises ``GbnfError``."""
    return _Writer(read_gbnf(text)).lark()


class _Writer:
    """Writes rules as Lark: terminals in upper case, rules that come back to themselves in lower case."""

    def __init__(self, rules: dict[str, Node]) -> None:
        self._rules = rules
        self._recursive = _recursive(rules)
        self._numbers = {name: number for number, name in enumerate(rules)}
        self._runs: list[str] = []

    def lark(self) -> str:
        lines = [f"start: {self._name('root')}"]
        for name, rule in self._rules.items():
            body = self._rule(rule) if name in self._recursive else self._terminal(rule)
            lines.append(f"{self._name(name)}: {body}")
        return "\n".join([*lines, *self._runs]) + "\n"

    def _name(self, name: str) -> str:
        number = self._numbers[name]
        return f"rule_{number}" if name in self._recursive else f"RULE_{number}"

    def _is_terminal(self, node: Node) -> bool:
        return all(call.name not in self._recursive for call in calls(node))

    def _terminal(self, node: Node) -> str:
        """The body of a terminal, or a part of one."""
        if isinstance(node, Text):
            return node.lark
        if isinstance(node, Call):
            return self._name(node.name)
        if isinstance(node, Repeated):
            return f"({self._terminal(node.part)}){_times(node)}"
        if isinstance(node, Row):
            return " ".join(f"({self._terminal(part)})" for part in node.parts) or '""'
        return " | ".join(self._terminal(part) for part in node.parts)

    def _rule(self, node: Node) -> str:
        """The body of a rule, or a part of one, in which all that is terminal has a name."""
        if self._is_terminal(node):
            self._runs.append(f"RUN_{len(self._runs)}: {self._terminal(node)}")
            return f"RUN_{len(self._runs) - 1}"
        if isinstance(node, Call):
            return self._name(node.name)
        if isinstance(node, Repeated):
            return f"({self._rule(node.part)}){_times(node)}"
        if isinstance(node, Choice):
            return " | ".join(self._rule(part) for part in node.parts)
        return " ".join(f"({self._rule(part)})" for part in self._with_runs(node)) if isinstance(node, Row) else ""

    def _with_runs(self, row: Row) -> list[Node]:
        """The parts of a row, those that are terminal and stand side by side as one."""
        parts: list[Node] = []
        run: list[Node] = []
        for part in row.parts:
            if self._is_terminal(part):
                run.append(part)
                continue
            if run:
                parts.append(Row(tuple(run)))
                run = []
            parts.append(part)
        return [*parts, Row(tuple(run))] if run else parts


def _recursive(rules: dict[str, Node]) -> set[str]:
    """The names of rules that come back to themselves, or speak of one that does."""
    waits_for = {name: {call.name for call in calls(rule)} for name, rule in rules.items()}
    spoken_of_by: dict[str, list[str]] = {name: [] for name in rules}
    for name, others in waits_for.items():
        for other in others:
            spoken_of_by[other].append(name)
    settled = [name for name, others in waits_for.items() if not others]
    for name in settled:  # which grows meanwhile
        for speaker in spoken_of_by[name]:
            waits_for[speaker].discard(name)
            if not waits_for[speaker]:
                settled.append(speaker)
    return rules.keys() - set(settled)


def _times(node: Repeated) -> str:
    known = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((node.least, node.most))
    return known or f"{{{node.least},{'' if node.most is None else node.most}}}"
