"""The table of tokens being filled: a text, a score and a type for every id, as GGUF stores them.

What llama.cpp cannot bear is refused here: it aborts on a text that two ids have, and cuts a text at a zero byte.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from ollama_nb.convert.errors import ConvertError, shown

__all__ = ["BLANK", "MAX_TOKENS", "TokenTable", "TokenType", "checked_text"]

MAX_TOKENS: Final = 1 << 20
"""The largest vocabularies in use have a quarter of that."""

BLANK: Final = "\N{LOWER ONE EIGHTH BLOCK}"
"""How tokens of sentencepiece write a blank."""

_MAX_BYTES: Final = 1 << 16
_MAX_SCORE: Final = 3.4e38
"""What a float32 holds."""
_UNUSED_SCORE: Final = -10000.0


class TokenType(IntEnum):
    """Kinds of tokens, numbered as sentencepiece and GGUF do; ``UNDEFINED`` is never found in a text."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class TokenTable:
    """``size`` rows, each empty or a token. Raises ``ConvertError`` for tokens that will not do."""

    def __init__(self, size: int) -> None:
        if not 0 < size <= MAX_TOKENS:
            raise ConvertError(f"the model's vocabulary has {size} tokens; the limit is {MAX_TOKENS}")
        self.size = size
        self.texts: list[str | None] = [None] * size
        self.scores = [_UNUSED_SCORE] * size
        self.types = [TokenType.UNUSED] * size
        self._ids: dict[str, int] = {}

    def put(self, token: object, text: object, kind: TokenType, score: float = 0.0) -> None:
        """Set row ``token``, in place of what it had."""
        row = self.checked_id(token)
        content = checked_text(text)
        if not -_MAX_SCORE <= score <= _MAX_SCORE:
            raise ConvertError(f"the tokenizer gives token {row} the score {shown(score)}")
        before = self.texts[row]
        if before is not None and self._ids.get(before) == row:
            del self._ids[before]
        if not content or "\0" in content:
            # Neither can be stored; such a token becomes one that no text has.
            self.texts[row], self.types[row], self.scores[row] = None, TokenType.UNUSED, _UNUSED_SCORE
            return
        other = self._ids.setdefault(content, row)
        if other != row:
            raise ConvertError(f"the tokenizer has the token {shown(content)} twice: as {other} and as {row}")
        self.texts[row], self.types[row], self.scores[row] = content, kind, float(score)

    def mark(self, text: str, kind: TokenType) -> None:
        """Change the type of a token if there is one of that text."""
        row = self._ids.get(text)
        if row is not None:
            self.types[row] = kind

    def id_of(self, text: str) -> int | None:
        """The id of a text."""
        return self._ids.get(text)

    def checked_id(self, value: object) -> int:
        """An id that the model's embedding has a row for."""
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConvertError(f"the tokenizer has a token with the id {shown(value)}")
        if value >= self.size:
            raise ConvertError(
                f"the tokenizer has a token with the id {value}, but the model has embeddings for {self.size} tokens",
                hint="The tokenizer may belong to another model, or the embeddings were not resized to it.",
            )
        return value

    def is_beyond(self, value: object) -> bool:
        """Whether it is an id that the model has no embedding for."""
        return isinstance(value, int) and value >= self.size

    def filled(self) -> list[str]:
        """All texts; rows without a token are ``[PAD<id>]``, of type unused."""
        found = []
        for row, text in enumerate(self.texts):
            name = text
            if name is None:
                name = f"[PAD{row}]"
                while name in self._ids:
                    name = f"[{name}]"
            found.append(name)
        return found


def checked_text(value: object) -> str:
    """A text that can be stored: no lone surrogates, at most 64 KiB."""
    if not isinstance(value, str):
        raise ConvertError(f"the tokenizer has a token that is no text: {shown(value)}")
    try:
        length = len(value.encode())
    except UnicodeEncodeError as error:
        raise ConvertError(f"the tokenizer has a token that is no Unicode text: {shown(value)}") from error
    if length > _MAX_BYTES:
        raise ConvertError(f"the tokenizer has a token of {length} bytes; the limit is {_MAX_BYTES}")
    return value
