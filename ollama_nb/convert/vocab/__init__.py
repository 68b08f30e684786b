"""A model's tokenizer as GGUF has it: every ``tokenizer.*`` key of the header, from the files of transformers.

``files`` reads what stands around the tokenizer; ``bpe``, ``spm``, ``unigram`` and ``wordpiece`` are the four kinds
that llama.cpp and transformers have in common, ``special`` the tokens with a role, ``frame`` those that are put around
a text, ``template`` the chat template.
A tokenizer that llama.cpp would follow only nearly is refused with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.vocab.bpe import byte_level, byte_level_of_text_files
from ollama_nb.convert.vocab.files import SENTENCEPIECE_FILES, TokenizerFiles
from ollama_nb.convert.vocab.pretokenizers import is_byte_level, steps_of
from ollama_nb.convert.vocab.sentencepiece import BPE, UNIGRAM, SentencePieceModel, parse_sentencepiece
from ollama_nb.convert.vocab.special import put_added_tokens, special_keys
from ollama_nb.convert.vocab.spm import PLAIN, check_bytes, sentencepiece_bpe, sentencepiece_bpe_of_json
from ollama_nb.convert.vocab.template import chat_templates
from ollama_nb.convert.vocab.tokens import TokenTable
from ollama_nb.convert.vocab.unigram import unigram, unigram_of_sentencepiece
from ollama_nb.convert.vocab.wordpiece import wordpiece, wordpiece_of_text

if TYPE_CHECKING:
    from ollama_nb.convert.config import Config
    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.source import Source

__all__ = ["vocabulary"]

_WITH_SCORES: Final = ("llama", "t5")
_FAIRSEQ_FILE: Final = "sentencepiece.bpe.model"
_CAMEMBERT: Final = "CamembertTokenizer"


def vocabulary(source: Source, config: Config, size: int) -> dict[str, MetaValue]:
    """All ``tokenizer.*`` keys for a model whose embedding has ``size`` rows.

    With them comes ``general.name`` where llama.cpp knows by it how marks are found in a text. Rows that the tokenizer
    has no token for become ``[PAD<id>]``. Raises ``ConvertError`` for files that are damaged or missing, for more
    tokens than rows, but for marks that texts can do without, and for tokenizers that llama.cpp cannot follow.
    """
    files = TokenizerFiles(source, config)
    table = TokenTable(size)
    templates = chat_templates(source, files)
    keys = _fill(source, files, table, chats=bool(templates))
    put_added_tokens(files, table)
    if keys["tokenizer.ggml.model"] == "llama" or keys["tokenizer.ggml.pre"] == PLAIN:
        check_bytes(table)
    special = special_keys(files, table, keys)
    found: dict[str, MetaValue] = {
        **keys,
        "tokenizer.ggml.tokens": table.filled(),
        "tokenizer.ggml.token_type": [int(kind) for kind in table.types],
        **special,
        **templates,
    }
    if keys["tokenizer.ggml.model"] in _WITH_SCORES:
        found["tokenizer.ggml.scores"] = table.scores
    return found


def _fill(source: Source, files: TokenizerFiles, table: TokenTable, *, chats: bool) -> dict[str, MetaValue]:
    """Read the tokenizer from the best file that is there; the keys of its kind."""
    if files.tokenizer:
        return _fill_from_json(source, files, table, chats=chats)
    for name in SENTENCEPIECE_FILES:
        if source.has(name):
            return _fill_from_sentencepiece(name, source, files, table)
    if source.has("vocab.json") and source.has("merges.txt"):
        return byte_level_of_text_files(files, table)
    if source.has("vocab.txt"):
        return wordpiece_of_text(files, table)
    raise ConvertError(
        "the model has no tokenizer", hint="It is in tokenizer.json or tokenizer.model: send it with the weights."
    )


def _fill_from_json(source: Source, files: TokenizerFiles, table: TokenTable, *, chats: bool) -> dict[str, MetaValue]:
    model = files.tokenizer.get("model")
    if not isinstance(model, dict):
        raise ConvertError("tokenizer.json has no model")
    kind = model.get("type") or _kind_of(model)
    if kind == "WordPiece":
        return wordpiece(files, table)
    if kind == "Unigram":
        return unigram(files, table)
    if kind != "BPE":
        raise ConvertError(f"tokenizer.json has a model of the type {shown(kind)}, which llama.cpp does not know")
    if is_byte_level(steps_of(files.tokenizer.get("pre_tokenizer"))):
        return byte_level(files, table)
    return sentencepiece_bpe_of_json(files, table, _sentencepiece_beside(source), chats=chats)


def _kind_of(model: dict[str, object]) -> str:
    """Files of old versions do not say it."""
    if "merges" in model:
        return "BPE"
    return "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"


def _sentencepiece_beside(source: Source) -> SentencePieceModel | None:
    return parse_sentencepiece(source.read("tokenizer.model")) if source.has("tokenizer.model") else None


def _fill_from_sentencepiece(
    name: str, source: Source, files: TokenizerFiles, table: TokenTable
) -> dict[str, MetaValue]:
    if files.tokenizer_class == _CAMEMBERT:
        raise ConvertError(
            f"tokenizer.json is missing, and a {_CAMEMBERT} has other ids than {name}",
            hint="AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes it.",
        )
    model = parse_sentencepiece(source.read(name))
    if model.model_type == BPE:
        return sentencepiece_bpe(table, model)
    if model.model_type != UNIGRAM:
        raise ConvertError(f"{name} is neither a BPE nor a unigram model")
    fairseq = name == _FAIRSEQ_FILE or files.tokenizer_class == "XLMRobertaTokenizer"
    return unigram_of_sentencepiece(table, model, fairseq=fairseq)
