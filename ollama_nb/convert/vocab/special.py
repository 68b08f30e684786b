"""Tokens with a role: where a text begins and ends, what is padding, and which tokens end an answer.

What is put around a text is ``frame``'s matter; llama.cpp puts its BOS and EOS. It ends an answer at its EOS, EOT and
EOM and at tokens whose texts it knows; every end that ``generation_config.json`` names is made one of these.
"""

# Some models write their marks with wide bars.
# ruff: noqa: RUF001

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.vocab.frame import Frame, frame_of, post_processor
from ollama_nb.convert.vocab.tokens import BLANK, TokenTable, TokenType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.vocab.files import TokenizerFiles

__all__ = ["put_added_tokens", "special_keys"]

_KEYS: Final = {
    "bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "cls": "cls", "mask": "mask",
}  # fmt: skip
"""The roles in transformers and what GGUF calls them, with its spelling."""

_ENDS: Final = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
)  # fmt: skip
"""Texts at which llama.cpp ends an answer, whatever the header says."""

_TURN_ENDS: Final = ("<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|eot|>", "<EOT>", "_<EOT>", "[EOT]")

_MIDDLE: Final = {
    "fim_pre": (
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>",
    ),
    "fim_suf": (
        "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>",
    ),
    "fim_mid": (
        "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>",
    ),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}  # fmt: skip
"""Tokens of models that fill in the middle of a text."""

_PHI3: Final = "Phi-3"
_PHI3_BARE: Final = frozenset({"<unk>", "<s>", "<|endoftext|>"})
_PHI3_NEEDED: Final = _PHI3_BARE | {"</s>"}
"""In a model of that name llama.cpp lets all marks take the blanks behind them but the bare ones; all must be there."""


def put_added_tokens(files: TokenizerFiles, table: TokenTable) -> None:
    """Set the rows of added tokens, and the types of all that have a role.

    A token that the model has no row for is left out, such as that of an image beside a Gemma 3 that sees none: the
    model can neither read nor write it. Where a text begins and ends must be known.
    """
    needed = {files.special_text("bos"), files.special_text("eos")}
    for token in files.added_tokens():
        if table.is_beyond(token.id) and token.text not in needed:
            continue
        kind = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
        row = table.checked_id(token.id)
        if (
            not token.special
            and BLANK in token.text
            and table.texts[row] in (token.text, token.text.replace(BLANK, " "))
        ):
            continue  # blanks: found by merging as well, and shown as blanks if they stay what they are
        if table.types[row] is TokenType.UNKNOWN:
            kind = TokenType.UNKNOWN
        table.put(row, token.text, kind, table.scores[row] if table.texts[row] == token.text else 0.0)
    for text in files.special_texts():
        row_of = table.id_of(text)
        if row_of is not None and table.types[row_of] in (TokenType.NORMAL, TokenType.USER_DEFINED):
            table.types[row_of] = TokenType.CONTROL


def special_keys(files: TokenizerFiles, table: TokenTable, keys: Mapping[str, MetaValue]) -> dict[str, MetaValue]:
    """The keys of all special tokens; ``keys`` are those that the kind of the tokenizer has given already."""
    ids = _ids(files, table, keys)
    if keys["tokenizer.ggml.model"] == "bert":
        return _bert_keys(files, table, ids)
    frame = frame_of(files, table, ids, keys)
    ends = _ends(files, table)
    if frame.before is not None:
        ids["bos"] = frame.before
    usual = ids.get("eos")
    if frame.behind is not None:
        ids["eos"] = frame.behind
    elif usual is None:
        ids["eos"] = _some_end(ids, ends)
    found: dict[str, MetaValue] = {f"tokenizer.ggml.{_KEYS[role]}_token_id": token for role, token in ids.items()}
    found["tokenizer.ggml.add_bos_token"] = frame.before is not None
    found["tokenizer.ggml.add_eos_token"] = frame.behind is not None
    if len(ends) > 1:
        found["tokenizer.ggml.eos_token_ids"] = ends
    wanted = [token for token in dict.fromkeys([*ends, *([] if usual is None else [usual])]) if token != ids["eos"]]
    return found | _middle_keys(table) | _end_keys(table, wanted) | _name_keys(files, table)


def _ids(files: TokenizerFiles, table: TokenTable, keys: Mapping[str, MetaValue]) -> dict[str, int]:
    """The ids of the roles: by the text that is named, else by the number, else what the kind has said."""
    found = {}
    for role, name in _KEYS.items():
        text = files.special_text(role)
        token = None if text is None else table.id_of(text)
        if token is None and role in ("bos", "eos", "pad"):
            # Padding is named by many that have no row for it, and needed by none.
            numbers = (number for number in files.ids(role) if role != "pad" or not table.is_beyond(number))
            token = next((table.checked_id(number) for number in numbers), None)
        if token is None:
            said = keys.get(f"tokenizer.ggml.{name}_token_id")
            token = said if isinstance(said, int) else None
        if token is not None:
            found[role] = token
    return found


def _ends(files: TokenizerFiles, table: TokenTable) -> list[int]:
    return [table.checked_id(token) for token in dict.fromkeys(files.ids("eos"))]


def _some_end(ids: dict[str, int], ends: list[int]) -> int:
    """A token to end at; without one llama.cpp would take any, and end answers at a comma."""
    for token in (*ends, *(ids.get(role) for role in ("sep", "pad"))):
        if token is not None:
            return token
    raise ConvertError(
        "nothing says which token ends a text",
        hint='Name it in tokenizer_config.json as "eos_token", or in generation_config.json as "eos_token_id".',
    )


def _bert_keys(files: TokenizerFiles, table: TokenTable, ids: dict[str, int]) -> dict[str, MetaValue]:
    """BERT's own: always ``[CLS]`` before a text and ``[SEP]`` behind it."""
    found = post_processor(files, table)
    frame = found or Frame(ids.get("cls", table.id_of("[CLS]")), ids.get("sep", table.id_of("[SEP]")))
    if frame.before is None or frame.behind is None:
        raise ConvertError("the tokenizer does not put a token before and one behind every text, as llama.cpp does")
    ids |= {"bos": frame.before, "cls": frame.before, "sep": frame.behind}
    roles: dict[str, MetaValue] = {f"tokenizer.ggml.{_KEYS[role]}_token_id": token for role, token in ids.items()}
    return roles | {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}


def _middle_keys(table: TokenTable) -> dict[str, MetaValue]:
    found: dict[str, MetaValue] = {}
    for role, texts in _MIDDLE.items():
        for text in texts:
            token = table.id_of(text)
            if token is not None:
                found[f"tokenizer.ggml.{role}_token_id"] = token
                break
    return found


def _name_keys(files: TokenizerFiles, table: TokenTable) -> dict[str, MetaValue]:
    """The name by which llama.cpp knows that blanks behind Phi-3's marks are part of them, where they are."""
    if any(table.id_of(text) is None for text in _PHI3_NEEDED):
        return {}
    marks = files.added_tokens()
    so_named = sum(token.strips == (token.text not in _PHI3_BARE) for token in marks)
    return {"general.name": _PHI3} if so_named > sum(not token.strips for token in marks) else {}


def _end_keys(table: TokenTable, wanted: list[int]) -> dict[str, MetaValue]:
    """EOT and EOM, so that every token of ``wanted`` ends an answer."""
    unknown = [token for token in wanted if table.texts[token] not in _ENDS]
    usual = [token for text in _TURN_ENDS if (token := table.id_of(text)) is not None]
    keys = [f"tokenizer.ggml.{role}_token_id" for role in ("eot", "eom")]
    if len(unknown) > len(keys):
        raise ConvertError(
            f"generation_config.json names {len(unknown)} tokens that end an answer and that llama.cpp does not know; "
            f"it can be told of {len(keys)}"
        )
    if not unknown:
        return {keys[0]: usual[0]} if usual else {}
    return dict(zip(keys, unknown, strict=False))
