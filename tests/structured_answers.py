"""Answers of a real model to random schemas, judged by ``jsonschema``."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jsonschema
from random_schemas import random_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    import httpx2

_OPTIONS: Final = {"num_ctx": 2048, "num_predict": 1800, "temperature": 0.8}
_JUDGE: Final = jsonschema.Draft202012Validator


@dataclass(frozen=True)
class Judged:
    """One answer: the seed of its schema, how many tokens it has, and what is wrong with it; "" if nothing is."""

    seed: int
    tokens: int
    problem: str


def ask_for_schemas(api: httpx2.Client, model: str, seeds: Iterable[int], **options: Any) -> list[Judged]:
    """Ask for one answer to the schema of each seed, and judge it."""
    return [_judge(seed, _ask(api, model, seed, random_schema(random.Random(seed)), options)) for seed in seeds]


def _ask(api: httpx2.Client, model: str, seed: int, schema: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Invent something and describe it in JSON."}],
        "format": schema,
        "stream": False,
        "options": {**_OPTIONS, "seed": seed, **options},
    }
    answer: dict[str, Any] = api.post("/api/chat", json=body, timeout=300).json()
    return {"schema": schema, **answer}


def _judge(seed: int, answer: dict[str, Any]) -> Judged:
    if "error" in answer:
        return Judged(seed, 0, f"refused: {answer['error']}")
    text, tokens = answer["message"]["content"], answer["eval_count"]
    if answer["done_reason"] != "stop":
        return Judged(seed, tokens, f"ended by {answer['done_reason']}: {text[-80:]!r}")
    try:
        value = json.loads(text)
        _JUDGE(answer["schema"], format_checker=_JUDGE.FORMAT_CHECKER).validate(value)
    except json.JSONDecodeError as error:
        return Judged(seed, tokens, f"not JSON: {error}: {text!r}")
    except jsonschema.ValidationError as error:
        return Judged(seed, tokens, f"does not fit: {error.message}")
    return Judged(seed, tokens, "")
