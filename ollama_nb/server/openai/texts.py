"""Texts that may come as token ids: the ``prompt`` of a completion and the ``input`` of embeddings."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.server.openai.errors import FieldError
from ollama_nb.service.tokens import detokenized
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ollama_nb.service.runtime import Runtime

__all__ = ["as_texts", "texts_or_tokens"]

_TOKEN_LIMIT: Final = 1 << 31


def texts_or_tokens(value: Any) -> list[str | list[int]] | None:  # noqa: ANN401 - any JSON value
    """A text, texts, token ids or lists of them as a list of either; None for what is none of these, or empty."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        return None
    if _is_tokens(value):
        return [value]
    if all(isinstance(item, str) for item in value) or all(_is_tokens(item) for item in value):
        return value
    return None


def _is_tokens(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(item) is int and 0 <= item < _TOKEN_LIMIT for item in value)
    )


async def as_texts(
    runtime: Runtime, model: str, given: Sequence[str | list[int]], param: str, missing: Callable[[], Exception]
) -> list[str]:
    """All as texts, token ids read with the model's vocabulary.

    ``missing`` is the error where there is no model, ``FieldError`` of ``param`` that of ids that it does not have.
    """
    tokens = [item for item in given if not isinstance(item, str)]
    try:
        read = iter(await detokenized(runtime, model, tokens, missing) if tokens else [])
    except OllamaError as error:
        if error.status != HTTPStatus.BAD_REQUEST:
            raise
        raise FieldError(error.message, param, hint=error.hint) from error
    return [item if isinstance(item, str) else next(read) for item in given]
