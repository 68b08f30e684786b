"""The grammar of an answer that is bound to a format.

A format binds what the model says at last. Before it a model may think, and in its place it may call a tool, both in
the way that its template has; so the grammar of the answer is made of theirs. Special tokens stand in quotes, where a
grammar takes them for what they spell: a tag may be one token or several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_nb.prompt.thinking import ends_in_opening
from ollama_nb.prompt.tools.call import Channelled, Channels
from ollama_nb.prompt.tools.lark import nested_rule, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.driver import Driver
    from ollama_nb.prompt.formats import Format
    from ollama_nb.prompt.render import Think
    from ollama_nb.prompt.tools import Tool

__all__ = ["answer_grammar"]


def answer_grammar(
    form: Format, driver: Driver, prompt: str, *, tools: Sequence[Tool] = (), think: Think = None
) -> str:
    """The grammar of what follows ``prompt``: a call of one of ``tools``, or content in the format.

    Thinking comes first where the prompt has opened it, and may where the model is asked to think.
    """
    channels = driver.calls.channels if isinstance(driver.calls, Channelled) else None
    marked = channels or Channels(driver.thinking or ("", ""), ("", ""))
    start, rules = _thinking(marked, prompt, may_open=channels is not None or bool(think))
    if channels is None and start:
        start += " BLANK"
        rules.append("BLANK: /\\n{0,2}/")
    before, behind = marked.content
    content = ["content"]
    if before and not prompt.endswith(before):
        content.insert(0, quoted(before))
    if behind:
        content.append(quoted(behind))
    if not start and not tools and content == ["content"]:
        return form.grammar
    answers = [" ".join(content)]
    rules.append(nested_rule("content", form.grammar))
    if tools:
        opening = driver.calls.opening()
        answers.append(f"{quoted(opening)} call" if opening else "call")
        rules.append(nested_rule("call", driver.calls.grammar(tools)))
    lead = f"({start})? " if start and not _is_open(marked, prompt) else f"{start} "
    return "\n".join([f"start: {lead}({' | '.join(answers)})", *rules]) + "\n"


def _is_open(marked: Channels, prompt: str) -> bool:
    return ends_in_opening(prompt, marked.thinking[0])


def _thinking(marked: Channels, prompt: str, *, may_open: bool) -> tuple[str, list[str]]:
    """The symbol for all up to the end of the thinking, "" where there is none, and the rules behind it.

    It is one terminal, so that it ends with the first closing tag whatever stands before that.
    """
    opening, closing = marked.thinking
    is_open = _is_open(marked, prompt)
    if not closing or not (is_open or may_open):
        return "", []
    lead = "" if is_open else f"{quoted(opening)} "
    marks = " | ".join(quoted(mark) for mark in dict.fromkeys((closing, *marked.marks)))
    return "THOUGHT", [
        f"THOUGHT: {lead}(ANY & ~(ANY MARK ANY)) {quoted(closing)}",
        "ANY: /(?s:.*)/",
        f"MARK: {marks}",
    ]
