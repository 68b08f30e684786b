"""How long Go templates take: parsing five real ones, and making the prompt of a chat of 100 messages with each.

Run as ``python tests/benchmarks/templates.py``. Times are the best of several runs, in milliseconds. The peer, in the
same run, is jinja2 with a ChatML template, compiled to Python: the least work that a chat template can be. The
templates are those of ``tests/prompt/vectors/gotemplate.json``.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ollama_nb.prompt.gotemplate import Template, template_data
from ollama_nb.prompt.jinja import ChatTemplate
from ollama_nb.prompt.render import PromptTemplate

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS = Path(__file__).parents[1] / "prompt" / "vectors" / "gotemplate.json"
TEMPLATES = (
    "upstream-llama3-instruct-conversation",
    "upstream-command-r-conversation",
    "family-llama3.1-tools-conversation",
    "family-qwen2.5-tools-conversation",
    "family-deepseek-r1-conversation",
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
MESSAGES = 100
ROUNDS = 30


def conversation() -> list[dict[str, Any]]:
    """A system message and turns of 30 words."""
    turns = [
        {"role": "user" if number % 2 == 0 else "assistant", "content": "hello " * 30} for number in range(MESSAGES - 1)
    ]
    return [{"role": "system", "content": "Be brief."}, *turns]


def best(work: Callable[[], object]) -> float:
    """The shortest of several runs, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def main() -> None:
    """Measure and print a table."""
    cases = {case["name"]: case for case in json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]}
    messages = conversation()
    peer = ChatTemplate(CHATML)
    table = Table(title=f"Go templates, {MESSAGES} messages, best of {ROUNDS} [ms]")
    for column in ("template", "characters", "parse", "render", "whole prompt", "jinja2", "ratio", "output"):
        table.add_column(column, justify="left" if column == "template" else "right")
    for name in TEMPLATES:
        source, tools = cases[name]["template"], cases[name]["data"].get("Tools")
        driven = PromptTemplate(source)
        template, data = Template(source), template_data({**cases[name]["data"], "Messages": messages})
        prompt = best(lambda driven=driven, tools=tools: driven.chat(messages, tools=tools))
        jinja = best(lambda: peer.render(messages))
        table.add_row(
            name.removesuffix("-conversation"),
            str(len(source)),
            f"{best(lambda source=source: Template(source)):.2f}",
            f"{best(lambda template=template, data=data: template.render(data)):.2f}",
            f"{prompt:.2f}",
            f"{jinja:.2f}",
            f"{prompt / jinja:.1f}",
            str(len(driven.chat(messages, tools=tools))),
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
