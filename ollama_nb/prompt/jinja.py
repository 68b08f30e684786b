"""A model's own chat template, as its GGUF carries it: Jinja, in a sandbox.

Templates come with models from anywhere, so they run in jinja2's immutable sandbox with the functions that
templates of the transformers library expect and no others, for a bounded number of steps and to a bounded length.
What a conversation is, is left to ``render``.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

import jinja2
import jinja2.compiler
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.runtime
import jinja2.sandbox
from jinja2.exceptions import SecurityError

from ollama_nb.wire.errors import BadRequestError, OllamaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["MAX_OUTPUT", "MAX_STEPS", "ChatTemplate"]

MAX_STEPS: Final = 1_000_000
"""Blocks (of loops, conditions, macros) that one rendering may enter: a conversation of thousands of messages takes
some ten thousand."""

MAX_OUTPUT: Final = 64 << 20
"""Characters of a prompt, and of a text that a template makes by repeating one."""

_PADDING: Final = frozenset(("center", "expandtabs", "ljust", "rjust", "zfill"))
"""Methods that make a text of any length out of a number; no chat template has a use for them."""

_WIDE: Final = re.compile(r"[0-9]{5}|:[^{}]*\{|%[^A-Za-z]*\*")
"""A format with a width of five digits, or with one that only the arguments tell."""

_FAILURES: Final = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)


class _RefusedError(Exception):
    """The template itself called ``raise_exception``: it does not take such a conversation."""


class _LimitError(Exception):
    """The template goes on for too long."""


def _raise_exception(message: str) -> NoReturn:
    raise _RefusedError(message)


def _to_json(value: Any, indent: int | None = None, **_: object) -> str:  # noqa: ANN401 - any JSON value
    """Plain JSON: jinja2's own filter escapes HTML, which no model has seen in training."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)


class _Steps(threading.local):
    """How many steps the rendering on this thread has left; threads render side by side."""

    left = MAX_STEPS


_steps = _Steps()


class _CountingCode(jinja2.compiler.CodeGenerator):
    """Compiles templates so that every block that is entered counts as a step."""

    def blockvisit(self, nodes: Iterable[jinja2.nodes.Node], frame: jinja2.compiler.Frame) -> None:
        self.writeline("environment.step()")
        super().blockvisit(nodes, frame)


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    code_generator_class = _CountingCode
    intercepted_binops = frozenset(["*", "**", "%"])

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ANN401 - any object of a template
        """The sandbox's own rule, and no padding."""
        return attr not in _PADDING and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401 - whatever is called
        """``str.format`` as the sandbox allows it, but for wide formats."""
        safe = super().wrap_str_format(value)
        if safe is not None and _WIDE.search(value.__self__):
            raise SecurityError("wide formats are not allowed")
        return safe

    @staticmethod
    def step() -> None:
        """Called by the compiled template."""
        _steps.left -= 1
        if _steps.left < 0:
            raise _LimitError(f"more than {MAX_STEPS} steps")

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Operators that can make much out of little."""
        if operator == "**" or (operator == "%" and isinstance(left, str) and _WIDE.search(left)):
            raise SecurityError(f"the operator {operator} is not allowed")
        if operator == "*":  # of numbers, and of a text and a number
            for repeated, count in ((left, right), (right, left)):
                if isinstance(repeated, str | list | tuple) and isinstance(count, int):
                    self._limit(len(repeated) * count)
        return super().call_binop(context, operator, left, right)

    @staticmethod
    def _limit(length: int) -> None:
        if length > MAX_OUTPUT:
            raise _LimitError(f"more than {MAX_OUTPUT} characters")


@functools.lru_cache(maxsize=1)
def _environment() -> _Environment:
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _to_json
    for name in ("center", "format"):
        del environment.filters[name]
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


@functools.lru_cache(maxsize=64)
def _compile(source: str) -> tuple[jinja2.Template, frozenset[str]]:
    environment = _environment()
    names = jinja2.meta.find_undeclared_variables(environment.parse(source))
    return environment.from_string(source), frozenset(names)


class ChatTemplate:
    """A compiled template with the texts of the model's BOS and EOS tokens.

    ``variables`` are the names that it expects to be given, such as ``tools``.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        """Compile; raises ``OllamaError`` for a template that does not parse."""
        self.source = source
        self.bos = bos
        self.eos = eos
        try:
            self._template, self.variables = _compile(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise OllamaError(f"template error: {error}") from error

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        add_generation_prompt: bool = True,
        **variables: Any,  # noqa: ANN401 - any JSON value
    ) -> str:
        """The prompt for a list of messages with ``role`` and ``content``; ``variables`` are ``tools`` and the like.

        Raises ``BadRequestError`` where the template refuses the conversation or goes past a limit, ``OllamaError``
        where it fails.
        """
        _steps.left = MAX_STEPS
        parts: list[str] = []
        length = 0
        try:
            for part in self._template.generate(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                bos_token=self.bos,
                eos_token=self.eos,
                **variables,
            ):
                parts.append(part)
                length += len(part)
                _environment()._limit(length)  # noqa: SLF001 - ours
        except (_RefusedError, _LimitError) as error:
            raise BadRequestError(f"template error: {error}") from error
        except _FAILURES as error:
            raise OllamaError(f"template error: {error}") from error
        return "".join(parts)
