"""A model's own chat template, as its GGUF carries it: Jinja, in a sandbox.

Templates come with models from anywhere, so they run in jinja2's immutable sandbox with the functions that
templates of the transformers library expect and no others. What a conversation is, is left to ``render``.
"""

from __future__ import annotations

import functools
import json
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox

from ollama_nb.wire.errors import BadRequestError, OllamaError

__all__ = ["ChatTemplate"]


class _RefusedError(Exception):
    """The template itself called ``raise_exception``: it does not take such a conversation."""


def _raise_exception(message: str) -> NoReturn:
    raise _RefusedError(message)


def _to_json(value: Any, indent: int | None = None, **_: object) -> str:  # noqa: ANN401 - any JSON value
    """Plain JSON: jinja2's own filter escapes HTML, which no model has seen in training."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)


@functools.lru_cache(maxsize=1)
def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


@functools.lru_cache(maxsize=64)
def _compile(source: str) -> jinja2.Template:
    return _environment().from_string(source)


class ChatTemplate:
    """A compiled template with the texts of the model's BOS and EOS tokens."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        """Compile; raises ``OllamaError`` for a template that does not parse."""
        self.bos = bos
        self.eos = eos
        try:
            self._template = _compile(source)
        except jinja2.TemplateError as error:
            raise OllamaError(f"template error: {error}") from error

    def render(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool = True) -> str:
        """The prompt for a list of messages with ``role`` and ``content``.

        Raises ``BadRequestError`` where the template refuses the conversation, ``OllamaError`` where it fails.
        """
        try:
            return self._template.render(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                bos_token=self.bos,
                eos_token=self.eos,
            )
        except _RefusedError as error:
            raise BadRequestError(f"template error: {error}") from error
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
            raise OllamaError(f"template error: {error}") from error
