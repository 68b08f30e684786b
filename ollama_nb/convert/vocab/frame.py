"""What is put around a text: a token before it, one behind it, or nothing.

A tokenizer of transformers does what its post-processor says; where there is none its settings decide, and without
those its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.vocab.files import objects, part
from ollama_nb.convert.vocab.pretokenizers import steps_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.vocab.files import TokenizerFiles
    from ollama_nb.convert.vocab.tokens import TokenTable

__all__ = ["Frame", "frame_of", "post_processor"]

_BOTH_BY_DEFAULT: Final = ("RobertaTokenizer", "XLMRobertaTokenizer")
_BOS_BY_DEFAULT: Final = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", *_BOTH_BY_DEFAULT)
_EOS_BY_DEFAULT: Final = ("T5Tokenizer", *_BOTH_BY_DEFAULT)


@dataclass(frozen=True, slots=True)
class Frame:
    """What is put around a text: ids, or None for nothing."""

    before: int | None
    behind: int | None


def frame_of(files: TokenizerFiles, table: TokenTable, ids: dict[str, int], keys: Mapping[str, MetaValue]) -> Frame:
    """What is put around a text: as the post-processor says, else as the settings do, else as is usual for the kind.

    ``ids`` are those of the roles, ``keys`` what the kind of the tokenizer has given. Raises as ``post_processor``.
    """
    frame = post_processor(files, table)
    if frame is not None:
        return frame
    sides = {}
    for role, classes in (("bos", _BOS_BY_DEFAULT), ("eos", _EOS_BY_DEFAULT)):
        wanted = files.flag(f"add_{role}_token")
        if wanted is None:
            usual = keys.get(f"tokenizer.ggml.add_{role}_token")
            wanted = usual is True or (usual is None and files.tokenizer_class in classes)
        sides[role] = ids.get(role) if wanted else None
    return Frame(sides["bos"], sides["eos"])


def post_processor(files: TokenizerFiles, table: TokenTable) -> Frame | None:
    """What the post-processor of ``tokenizer.json`` puts around a single text; None where it says nothing of it.

    Raises ``ConvertError`` for more than one token on a side, and for post-processors of another kind.
    """
    frame = None
    for step in steps_of(files.tokenizer.get("post_processor")):
        kind = step["type"]
        if kind == "ByteLevel":
            continue
        if frame is not None:
            raise ConvertError("the tokenizer has two post-processors that put tokens around a text")
        if kind == "TemplateProcessing":
            frame = _template(step, table)
        elif kind in ("BertProcessing", "RobertaProcessing"):
            frame = Frame(_token_of_pair(step.get("cls"), table), _token_of_pair(step.get("sep"), table))
        else:
            raise ConvertError(f"the tokenizer has a post-processor of an unknown type: {shown(kind)}")
    return frame


def _template(step: dict[str, Any], table: TokenTable) -> Frame:
    known = part(step, "special_tokens")
    sides: tuple[list[int], list[int]] = ([], [])
    texts = 0
    for item in objects(step, "single"):
        if "Sequence" in item:
            texts += 1
            continue
        name = part(item, "SpecialToken").get("id")
        ids = part(known, name).get("ids") if isinstance(name, str) else None
        if not isinstance(ids, list) or not ids:
            raise ConvertError(f"the tokenizer's post-processor puts in a token it does not know: {shown(name)}")
        sides[min(texts, 1)].extend(table.checked_id(token) for token in ids)
    before, behind = sides
    if texts != 1 or len(before) > 1 or len(behind) > 1:
        raise ConvertError("the tokenizer puts more than one token before or behind a text, which llama.cpp cannot")
    return Frame(next(iter(before), None), next(iter(behind), None))


def _token_of_pair(value: object, table: TokenTable) -> int:
    """The id in a pair of text and id."""
    if not isinstance(value, list) or not value:
        raise ConvertError(f"the tokenizer's post-processor names no token: {shown(value)}")
    return table.checked_id(value[-1])
