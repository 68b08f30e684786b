"""What a byte-level tokenizer cuts a text into before it merges, and which of llama.cpp's pre-tokenizers does that.

The left side is the ``pre_tokenizer`` of ``tokenizer.json``, brought into one form; the right side the name that
``tokenizer.ggml.pre`` has, with whether llama.cpp looks whole words up before it merges (``ignore_merges``), which is
part of the name there. Names that mean the same splitting are left out. A pattern that stands nowhere here is an
error: a text split differently becomes other tokens, and nobody would see why the model is worse.

Source: the regular expressions in llama.cpp's ``llama-vocab.cpp`` and the patterns of the models it names there.
"""

# Letters that look like others are the subject here.
# ruff: noqa: RUF001

from __future__ import annotations

import unicodedata
from typing import Any, Final, NamedTuple

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.vocab.files import objects

__all__ = ["PreTokenizer", "is_byte_level", "pre_tokenizers", "steps_of"]

_MAX_STEPS: Final = 32


class PreTokenizer(NamedTuple):
    """A name llama.cpp knows, and whether it takes a whole word that is a token as it is."""

    name: str
    ignores_merges: bool


_ENGLISH: Final = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_ENGLISH_FORMS: Final = (
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
    "'(?i:[sdmt]|ll|ve|re)",
    "(?i:[sdmt]|ll|ve|re)",
)
"""Other ways to write the same endings."""

_WORD: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
_BLANKS: Final = r"\s+(?!\S)|\s+"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_START: Final = r"[^\r\n\p{L}\p{N}]?"
_PUNCTUATION: Final = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
_MARKS: Final = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
_MARKED_WORD: Final = r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"

_LLAMA3: Final = rf"{_ENGLISH}|{_WORD}|\p{{N}}{{1,3}}|{_REST}|{_BLANKS}"
_QWEN2: Final = rf"{_ENGLISH}|{_WORD}|\p{{N}}|{_REST}|{_BLANKS}"
_QWEN35: Final = (
    rf"{_ENGLISH}|{_START}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|{_BLANKS}"
)
_TEKKEN: Final = rf"{_START}{_UPPER}*{_LOWER}+|{_START}{_UPPER}+{_LOWER}*|\p{{N}}|{_PUNCTUATION}|{_BLANKS}"
_GPT4O: Final = (
    rf"{_START}{_UPPER}*{_LOWER}+{_ENGLISH}?|{_START}{_UPPER}+{_LOWER}*{_ENGLISH}?|\p{{N}}{{1,3}}"
    rf"|{_PUNCTUATION}|{_BLANKS}"
)
_CASCADE: Final = "|".join(rf"\s{{{width}}}(?!\S)" for width in (512, 256, 128, 64, 32, 16, 8, 4, "1,2")) + r"|\s{1}"
_JAIS2: Final = rf"{_ENGLISH}|{_WORD}|\p{{N}}{{1,3}}|{_REST}|{_CASCADE}"
_SEED: Final = rf"{_ENGLISH}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|{_BLANKS}"
_MINICPM5: Final = rf"{_ENGLISH}|{_WORD}|\p{{N}}+|{_REST}|{_BLANKS}"
_TURKISH: Final = rf"{_WORD}|\p{{N}}|{_REST}|{_BLANKS}"
_BAILING: Final = (
    rf"{_ENGLISH}|[^\r\n\p{{L}}\p{{N}}]?+\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]++[\r\n]*|\s*[\r\n]|{_BLANKS}"
)
_EXAONE_MOE: Final = (
    rf"{_ENGLISH}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|\s*[\r\n]|{_BLANKS}"
)
_DEEPSEEK3: Final = rf"{_MARKS}|{_MARKED_WORD}| ?[\p{{P}}\p{{S}}]+[\r\n]*|\s*[\r\n]+|{_BLANKS}"
_CHINESE: Final = "[一-龥ࠀ-一가-퟿]+"
_CHINESE_AND_KANA: Final = "[一-龥぀-ゟ゠-ヿ]+"
_BLOOM: Final = r" ?[^(\s|[.,!?…。，、।۔،])]+"
# Letters of alphabets with capitals, as DeepSeek LLM lists them.
_ALPHABETS: Final = (
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-"
    r"ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ"
    r"-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
)  # fmt: skip
_WIDE_PUNCTUATION: Final = r"\s?[!-/:-~！-／：-～‘-‟　-。]+"

_COVERING: Final = frozenset({_LLAMA3, _QWEN2, _QWEN35, _TEKKEN, _GPT4O})
"""Those of which every letter of every text is a part, so that nothing lies between what they find."""

_TABLE: Final[dict[tuple[str, ...], tuple[PreTokenizer, ...]]] = {
    ("bytes+words",): (PreTokenizer("gpt-2", ignores_merges=False),),
    ("digits", "bytes+words"): (PreTokenizer("smollm", ignores_merges=False),),
    (_LLAMA3, "bytes"): (
        PreTokenizer("llama-bpe", ignores_merges=True),
        PreTokenizer("dbrx", ignores_merges=False),
    ),
    (_QWEN2, "bytes"): (PreTokenizer("qwen2", ignores_merges=False),),
    (_QWEN35, "bytes"): (PreTokenizer("qwen35", ignores_merges=False),),
    (_TEKKEN, "bytes"): (PreTokenizer("tekken", ignores_merges=True),),
    # Both have the same pattern; the first keeps combining marks with their letters, as the pattern says.
    (_GPT4O, "bytes"): (
        PreTokenizer("granite-embed-multi-97m", ignores_merges=True),
        PreTokenizer("gpt-4o", ignores_merges=False),
    ),
    (_JAIS2, "bytes"): (PreTokenizer("jais-2", ignores_merges=False),),
    (_SEED, "bytes"): (PreTokenizer("seed-coder", ignores_merges=False),),
    (r"\p{N}{1,3}", _MINICPM5, "bytes"): (PreTokenizer("minicpm5", ignores_merges=True),),
    (_TURKISH, "bytes"): (PreTokenizer("ufakzeka", ignores_merges=False),),
    (_BAILING, "bytes"): (PreTokenizer("bailingmoe", ignores_merges=False),),
    (_EXAONE_MOE, "bytes"): (PreTokenizer("exaone-moe", ignores_merges=False),),
    (r"\d{1,3}(?=(?:\d{3})*\b)", _GPT4O, "bytes"): (PreTokenizer("tiny_aya", ignores_merges=False),),
    (r"\p{N}{1,3}", _CHINESE_AND_KANA, _DEEPSEEK3, "bytes"): (PreTokenizer("deepseek-v3", ignores_merges=False),),
    (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CHINESE, "digits", "bytes"): (
        PreTokenizer("deepseek-coder", ignores_merges=False),
    ),
    (r"[\r\n]", _ALPHABETS, _WIDE_PUNCTUATION, r"\s+$", _CHINESE, "digits", "bytes"): (
        PreTokenizer("deepseek-llm", ignores_merges=False),
    ),
    ("punctuation", "bytes+words", "numbers", "[0-9][0-9][0-9]"): (PreTokenizer("falcon", ignores_merges=False),),
    (_BLOOM, "bytes"): (PreTokenizer("bloom", ignores_merges=False),),
}


def steps_of(value: object) -> list[dict[str, Any]]:
    """The steps of a pre-tokenizer or normalizer, sequences taken apart; raises ``ConvertError``."""
    if value is None:
        return []
    found: list[dict[str, Any]] = []
    waiting = [value]
    while waiting:
        step = waiting.pop(0)
        if not isinstance(step, dict) or not isinstance(step.get("type"), str):
            raise ConvertError(f"the tokenizer has a step that is no object with a type: {shown(step)}")
        if step["type"] == "Sequence":
            inner = objects(step, "pretokenizers") or objects(step, "normalizers") or objects(step, "processors")
            waiting[:0] = inner
        else:
            found.append(step)
        if len(found) + len(waiting) > _MAX_STEPS:
            raise ConvertError(f"the tokenizer has more than {_MAX_STEPS} steps")
    return found


def is_byte_level(steps: list[dict[str, Any]]) -> bool:
    """Whether tokens are written in the alphabet of 256 letters that stand for bytes."""
    return any(step["type"] == "ByteLevel" for step in steps)


def pre_tokenizers(steps: list[dict[str, Any]]) -> tuple[PreTokenizer, ...]:
    """llama.cpp's names for a sequence of steps, the best first; raises ``ConvertError`` where it has none."""
    key = tuple(_canonical(step) for step in steps)
    found = _TABLE.get(key)
    if found is None:
        raise ConvertError(
            f"the tokenizer splits texts in a way that llama.cpp does not know: {', then '.join(key)!r:.400}",
            hint="Another way of splitting would give the model other tokens than it was trained with.",
        )
    return found


def _canonical(step: dict[str, Any]) -> str:
    """One word or one regular expression for a step."""
    kind = step["type"]
    if kind == "ByteLevel":
        if step.get("add_prefix_space", True) is True:
            raise ConvertError("the tokenizer puts a blank before every text (add_prefix_space), llama.cpp does not")
        return "bytes" if step.get("use_regex", True) is False else "bytes+words"
    if kind == "Digits":
        return "digits" if step.get("individual_digits") is True else "numbers"
    if kind == "Punctuation" and step.get("behavior") == "Contiguous":
        return "punctuation"
    if kind == "Split":
        pattern = step.get("pattern")
        expression = pattern.get("Regex") if isinstance(pattern, dict) else None
        form = _one_form(expression) if isinstance(expression, str) else ""
        how = (step.get("behavior"), step.get("invert", False))
        # Files made of tiktoken's drop what lies between the pieces, which for these is nothing.
        if form and (how == ("Isolated", False) or (how == ("Removed", True) and form in _COVERING)):
            return form
    return f"{kind} {step!r:.120}"


def _one_form(expression: str) -> str:
    """The same expression in the form of the table."""
    # In some copies of DeepSeek's list of letters the ends of ranges are composed.
    text = (
        unicodedata.normalize("NFC", expression)
        .replace("\r", r"\r")
        .replace("\n", r"\n")
        .replace(r"\p{N}{1}", r"\p{N}")
    )
    for form in _ENGLISH_FORMS:
        text = text.replace(form, _ENGLISH)
    return text
