"""The files around a tokenizer, read once: which token is whose, by the names that transformers gives to them.

``tokenizer.json`` is the tokenizer itself; ``tokenizer_config.json`` and ``special_tokens_map.json`` name the special
tokens, ``generation_config.json`` and ``config.json`` have ids. Nothing is interpreted here, but types are checked.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.vocab.tokens import MAX_TOKENS, checked_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ollama_nb.convert.config import Config
    from ollama_nb.convert.source import Source

__all__ = ["SENTENCEPIECE_FILES", "AddedToken", "TokenizerFiles", "objects", "part"]

SENTENCEPIECE_FILES: Final = ("tokenizer.model", "sentencepiece.bpe.model", "spiece.model")

_CLASSES: Final = {
    "camembert": "CamembertTokenizer", "roberta": "RobertaTokenizer", "xlm-roberta": "XLMRobertaTokenizer",
}  # fmt: skip
_LISTS: Final = ("additional_special_tokens", "extra_special_tokens")


class AddedToken:
    """A token that is found in the text itself, before anything else is done with it."""

    def __init__(self, token: object, entry: dict[str, Any]) -> None:
        self.id = token
        self.text = checked_text(entry.get("content"))
        self.special = entry.get("special") is True
        self.strips = entry.get("rstrip") is True
        """Whether blanks and line ends behind it belong to it."""


class TokenizerFiles:
    """Raises ``ConvertError`` for files that are not as they should be."""

    def __init__(self, source: Source, config: Config) -> None:
        self.source = source
        self.config = config

    @cached_property
    def tokenizer(self) -> dict[str, Any]:
        """``tokenizer.json``; empty where there is none."""
        return self.source.optional_json("tokenizer.json")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """``tokenizer_config.json``, with what ``special_tokens_map.json`` adds to it."""
        return {
            **self.source.optional_json("special_tokens_map.json"),
            **{
                name: value
                for name, value in self.source.optional_json("tokenizer_config.json").items()
                if value is not None
            },
        }

    @cached_property
    def generation(self) -> dict[str, Any]:
        """``generation_config.json``."""
        return self.source.optional_json("generation_config.json")

    @property
    def tokenizer_class(self) -> str:
        """The class in transformers, without ``Fast``; empty where none is named.

        Old files name none, and mean the one of their model.
        """
        name = self.settings.get("tokenizer_class") or self.config.values.get("tokenizer_class")
        name = name or _CLASSES.get(str(self.config.values.get("model_type")))
        return name.removesuffix("Fast") if isinstance(name, str) else ""

    def flag(self, name: str) -> bool | None:
        """A boolean of ``tokenizer_config.json``."""
        value = self.settings.get(name)
        if value is not None and not isinstance(value, bool):
            raise ConvertError(f'tokenizer_config.json: "{name}" must be true or false, not {shown(value)}')
        return value

    def special_text(self, role: str) -> str | None:
        """The text of the token of a role such as ``bos``."""
        value = self.settings.get(f"{role}_token")
        return None if value is None else _content(value, f"{role}_token")

    def special_texts(self) -> Iterator[str]:
        """The texts of all special tokens that have a role or stand in a list of such."""
        for name, value in self.settings.items():
            if name.endswith("_token") and isinstance(value, str | dict):
                yield _content(value, name)
            elif name in _LISTS and isinstance(value, list | dict):
                items = list(value.values()) if isinstance(value, dict) else value
                yield from (_content(item, name) for item in items)

    def ids(self, role: str) -> list[int]:
        """The ids that ``generation_config.json`` or ``config.json`` has for a role; some models have several ends."""
        for values in (self.generation, self.config.values):
            found = values.get(f"{role}_token_id")
            if found is None:
                continue
            ids = found if isinstance(found, list) else [found]
            if any(isinstance(token, bool) or not isinstance(token, int) for token in ids):
                raise ConvertError(f"{role}_token_id must be a whole number or a list of such, not {shown(found)}")
            return [token for token in ids if token >= 0]
        return []

    def added_tokens(self) -> list[AddedToken]:
        """Tokens that were added to the model of the tokenizer, or that it finds before all others."""
        if self.tokenizer:
            return [AddedToken(entry.get("id"), entry) for entry in objects(self.tokenizer, "added_tokens")]
        decoder = part(self.settings, "added_tokens_decoder")
        found = []
        for key, entry in decoder.items():
            if not isinstance(entry, dict) or not key.isascii() or not key.isdigit() or len(key) > len(str(MAX_TOKENS)):
                raise ConvertError(f"tokenizer_config.json: added_tokens_decoder has an entry {shown(key)}")
            found.append(AddedToken(int(key), entry))
        known = {token.text for token in found}
        for text, token in self.source.optional_json("added_tokens.json").items():
            if text not in known:
                found.append(AddedToken(token, {"content": text}))
        return found


def part(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The object under ``name``; an empty one where there is none."""
    value = values.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConvertError(f'the tokenizer\'s "{name}" must be an object, not {shown(value)}')
    return value


def objects(values: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of objects under ``name``; an empty one where there is none."""
    value = values.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_TOKENS or not all(isinstance(item, dict) for item in value):
        raise ConvertError(f'the tokenizer\'s "{name}" must be a list of objects')
    return value


def _content(value: object, name: str) -> str:
    text = value.get("content") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise ConvertError(f'tokenizer_config.json: "{name}" names no token: {shown(value)}')
    return checked_text(text)
