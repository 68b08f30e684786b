"""The chat template beside a model, wherever its version of transformers has put it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from ollama_nb.convert.errors import ConvertError, shown

if TYPE_CHECKING:
    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.source import Source
    from ollama_nb.convert.vocab.files import TokenizerFiles

__all__ = ["chat_templates"]

_MAX_TEMPLATE: Final = 4 << 20
_FOLDER: Final = "additional_chat_templates"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DEFAULT: Final = "default"


def chat_templates(source: Source, files: TokenizerFiles) -> dict[str, MetaValue]:
    """``tokenizer.chat_template``, and ``tokenizer.chat_template.<name>`` for templates of other names.

    ``chat_template.jinja`` comes before ``chat_template.json``, and that before ``tokenizer_config.json``: what is
    newer is what transformers reads. Raises ``ConvertError`` for a template that is no text.
    """
    found = _named(files.settings.get("chat_template"), "tokenizer_config.json")
    if source.has("chat_template.json"):
        found |= _named(source.json("chat_template.json").get("chat_template"), "chat_template.json")
    for name in sorted(source.files):
        path = PurePosixPath(name)
        if name == "chat_template.jinja":
            found[_DEFAULT] = _read(source, name)
        elif path.suffix == ".jinja" and str(path.parent) == _FOLDER:
            found[_checked_name(path.stem, name)] = _read(source, name)
    return {"tokenizer.chat_template" + ("" if name == _DEFAULT else f".{name}"): text for name, text in found.items()}


def _named(value: object, where: str) -> dict[str, str]:
    """Templates by name; a single text is the default one."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {_DEFAULT: _checked(value, where)}
    entries = value if isinstance(value, list) else [value]
    if isinstance(value, dict):
        entries = [{"name": name, "template": template} for name, template in value.items()]
    found = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise ConvertError(f"{where}: a chat template is no text, but {shown(entry)}")
        found[_checked_name(entry.get("name"), where)] = _checked(entry.get("template"), where)
    return found


def _read(source: Source, name: str) -> str:
    try:
        return _checked(source.read(name, _MAX_TEMPLATE).decode(), name)
    except UnicodeDecodeError as error:
        raise ConvertError(f"{name} is no UTF-8 text: {error}") from error


def _checked_name(value: object, where: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConvertError(f"{where}: a chat template has the name {shown(value)}")
    return value


def _checked(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ConvertError(f"{where}: a chat template is no text, but {shown(value)}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise ConvertError(f"{where}: a chat template is no Unicode text") from error
    if size > _MAX_TEMPLATE:
        raise ConvertError(f"{where}: a chat template has {size} bytes; the limit is {_MAX_TEMPLATE}")
    return value
