# ruff: noqa: RUF001 - DeepSeek's markers have full-width bars

from __future__ import annotations

import functools
import random

import llguidance
import pytest

from ollama_nb.prompt.tools.call import Delta
from ollama_nb.prompt.tools.command_r import CommandRFormat
from ollama_nb.prompt.tools.deepseek import DeepSeekFormat
from ollama_nb.prompt.tools.functionary import FunctionaryFormat
from ollama_nb.prompt.tools.granite import GraniteFormat
from ollama_nb.prompt.tools.harmony import HarmonyFormat
from ollama_nb.prompt.tools.hermes import HermesFormat
from ollama_nb.prompt.tools.llama3 import Llama3Format
from ollama_nb.prompt.tools.mistral import MistralFormat
from ollama_nb.prompt.tools.qwen3_coder import Qwen3CoderFormat

SPECIAL = ["<eos>", "<|constrain|>", "<|message|>", "<｜tool▁sep｜>"]
PLACE = {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "maxLength": 12},
                    "days": {"type": "integer"},
                    "unit": {"enum": ["C", "F"]},
                    "mood": {"$ref": "#/$defs/Mood"},
                    "place": {"$ref": "#/$defs/Place"},
                },
                "required": ["city"],
                "$defs": {"Place": PLACE, "Mood": {"enum": ["good", "bad"], "type": "string"}},
            },
        },
    },
    {"type": "function", "function": {"name": "get", "parameters": {"type": "object", "properties": {}}}},
    {"type": "function", "function": {"name": 'say-"hé"', "parameters": None}},
]

FORMATS = [
    Llama3Format(),
    HermesFormat(),
    GraniteFormat(),
    GraniteFormat(tag="<tool_call>", is_list=False),
    MistralFormat(),
    MistralFormat(is_named=True),
    DeepSeekFormat(),
    DeepSeekFormat(is_fenced=False),
    HarmonyFormat(),
    CommandRFormat(),
    CommandRFormat(speaks_in_channels=True),
    FunctionaryFormat(),
    FunctionaryFormat(speaks_in_channels=True),
    FunctionaryFormat(speaks_in_channels=True, is_begun=True),
    Qwen3CoderFormat(),
]
every_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"{fmt.name} {fmt.opening()!r}")


class _Bytes:
    """A vocabulary of single bytes and a few special tokens, as llguidance asks for one."""

    eos_token_id = 0
    bos_token_id = None
    tokens = (*(token.encode() for token in SPECIAL), *(bytes([byte]) for byte in range(256)))
    special_token_ids = tuple(range(len(SPECIAL)))

    def __call__(self, text):
        return [len(SPECIAL) + byte for byte in (text.encode() if isinstance(text, str) else text)]


PARAMETER_END = _Bytes()("\n</parameter>\n")


@functools.cache
def tokenizer():
    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes()))


def matcher(fmt, tools):
    grammar = llguidance.LLMatcher.grammar_from_lark(fmt.grammar(tools))
    assert not llguidance.LLMatcher.validate_grammar(grammar, tokenizer())
    return llguidance.LLMatcher(tokenizer(), grammar)


def allowed(state):
    mask = state.compute_bitmask()
    return [token for token in range(len(_Bytes.tokens)) if mask[token // 8] >> (token % 8) & 1]


def written_by_chance(fmt, tools, chance):
    """What a model without any sense writes, one token after the other."""
    state = matcher(fmt, tools)
    tokens = []
    while not state.is_stopped():
        choices = [token for token in allowed(state) if token]
        if not choices or (state.is_accepting() and chance.random() < 0.5):
            break
        # Texts would rarely end if every character were as likely as their end.
        if chance.random() < 0.1 and state.validate_tokens(PARAMETER_END) == len(PARAMETER_END):
            assert state.consume_tokens(PARAMETER_END)
            tokens += PARAMETER_END
            continue
        ends = [token for token in choices if _Bytes.tokens[token] in b'"}<\n']
        tokens.append(chance.choice(ends if ends and chance.random() < 0.4 else choices))
        assert state.consume_token(tokens[-1])
    assert state.is_accepting()
    return b"".join(_Bytes.tokens[token] for token in tokens).decode()


@every_format
@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_grammar_lets_through_is_one_call(fmt, seed):
    text = fmt.opening() + written_by_chance(fmt, TOOLS, random.Random(seed))
    parser = fmt.parser(TOOLS)
    found = sum((parser.feed(character) for character in text), Delta())
    (call,) = found.calls
    assert found + parser.close() == Delta(calls=(call,))


@every_format
def test_the_arguments_keep_to_the_schema(fmt):
    for seed in range(4):
        parser = fmt.parser(TOOLS)
        (call,) = parser.feed(fmt.opening() + written_by_chance(fmt, TOOLS[:1], random.Random(seed))).calls
        assert call.name == "get_weather"
        assert isinstance(call.arguments["city"], str)
        assert isinstance(call.arguments.get("days", 0), int)
        assert call.arguments.get("unit", "C") in {"C", "F"}
        assert call.arguments.get("mood", "good") in {"good", "bad"}
        assert call.arguments.get("place", {"lat": 0}).keys() == {"lat"}


@every_format
def test_a_name_that_begins_another_can_be_called(fmt):
    wanted = {tool["function"]["name"] for tool in TOOLS}
    called = set()
    for seed in range(60):
        found = fmt.parser(TOOLS).feed(fmt.opening() + written_by_chance(fmt, TOOLS, random.Random(seed)))
        called |= {call.name for call in found.calls}
        if called == wanted:
            break
    assert called == wanted
