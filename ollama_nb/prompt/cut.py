"""Where an answer begins: the tree of a template, cut behind the place that prints ``.Response``.

Templates without ``.Messages`` write a turn, prompt and response. The last turn has no response yet, so the prompt
ends where it would stand. Conditions are not looked at, since asking for a response does not print it. The rules are
those of Ollama's ``deleteNode``, but for an ``else`` behind the branch that has the response, on which that fails:
here it goes like all that follows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ollama_nb.prompt.gotemplate.tree import Action, Command, Field, If, NodeList, Pipe, Range, With

if TYPE_CHECKING:
    from ollama_nb.prompt.gotemplate.tree import Node, Operand

__all__ = ["cut_behind_response"]


def cut_behind_response(root: NodeList) -> NodeList:
    """The part of a tree up to and with the first ``.Response`` in an action; all of it where there is none."""
    return _Cut().of_list(root)


class _Cut:
    """One walk in source order; ``found`` once the response is behind it."""

    def __init__(self) -> None:
        self.found = False

    def of_list(self, nodes: NodeList) -> NodeList:
        kept: list[Node] = []
        for node in nodes.nodes:
            if self.found:
                break
            cut = self._of_node(node)
            if cut is not None:
                kept.append(cut)
        return replace(nodes, nodes=tuple(kept))

    def _of_node(self, node: Node) -> Node | None:
        if isinstance(node, If | With | Range):
            body = self.of_list(node.body)
            otherwise = None if self.found or node.otherwise is None else self.of_list(node.otherwise)
            return replace(node, body=body, otherwise=otherwise)
        if isinstance(node, Action):
            pipe = self._of_pipe(node.pipe)
            return None if pipe is None else replace(node, pipe=pipe)
        return node

    def _of_pipe(self, pipe: Pipe) -> Pipe | None:
        """None where a stage of the pipeline would be left without a word: a pipeline is whole or not there."""
        commands: list[Command] = []
        for command in pipe.commands:
            arguments = [cut for item in command.arguments if (cut := self._of_operand(item)) is not None]
            if not arguments:
                return None
            commands.append(replace(command, arguments=tuple(arguments)))
        return replace(pipe, commands=tuple(commands))

    def _of_operand(self, operand: Operand) -> Operand | None:
        if self.found:
            return None
        if isinstance(operand, Pipe):
            return self._of_pipe(operand)
        if isinstance(operand, Field) and "Response" in operand.names:
            self.found = True
        return operand
