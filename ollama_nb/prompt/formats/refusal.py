"""How a schema is refused: Ollama's words, then the place as a JSON pointer, then what is wrong there."""

from __future__ import annotations

from typing import NoReturn

from ollama_nb.wire.errors import BadRequestError

__all__ = ["SchemaError", "refuse"]


class SchemaError(BadRequestError):
    """A schema that is none, or that no answer could be held to."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid JSON schema in format: {reason}")


def refuse(place: str, reason: str) -> NoReturn:
    """Raise ``SchemaError`` for a place in the schema, ``#/properties/age/minimum``."""
    raise SchemaError(f"{place}: {reason}")
