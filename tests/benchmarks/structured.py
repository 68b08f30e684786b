"""Structured output: do the answers fit, and what does it cost.

``python tests/benchmarks/structured.py [--count 200] [--rounds 7]``. First one answer to each of so many random schemas
is judged by ``jsonschema``. Then answers of the same length are timed in turns, free and bound, and the speed of the
bound ones is given as a ratio: what a machine does otherwise meets both. Exit code 1 if an answer does not fit, or if
a ratio is under 0.9.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from samples import SMOLLM2, default_cache, smollm2_gguf
from structured_answers import ask_for_schemas

from ollama_nb.client import start_server

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_RATIO: Final = 0.9
TOKENS: Final = 96
SLICE: Final = 20
ATTEMPTS: Final = 10

PROMPT: Final = "The long list of everything that was found in the old house by the river, one thing after the other:"
FORMS: Final[dict[str, Any]] = {
    "numbers": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 999_999}, "minItems": 200},
    "words": {"type": "array", "items": {"type": "string", "minLength": 10, "maxLength": 60}, "minItems": 200},
    "objects": {
        "type": "array",
        "minItems": 200,
        "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 20},
                "kind": {"enum": ["chair", "table", "lamp"]},
                "price": {"type": "number", "minimum": 0, "maximum": 1000},
            },
            "required": ["name", "kind", "price"],
        },
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge, time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="how many random schemas (default: 200)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each form is timed (default: 7)")
    parser.add_argument("--threads", type=int, default=0, help="threads of the model (default: cores)")
    chosen = parser.parse_args(arguments)
    options = {"num_ctx": 2048, **({"num_thread": chosen.threads} if chosen.threads else {})}
    with tempfile.TemporaryDirectory() as folder, start_server({"OLLAMA_MODELS": folder}) as server:
        made = server_model(server.url)
        with httpx2.Client(base_url=server.url, timeout=600, trust_env=False) as api:
            fits = judge(api, made, chosen.count, options)
            return 0 if time_forms(api, made, chosen.rounds, options) and fits else 1


def server_model(url: str) -> str:
    """The sample model, made by the ordinary create path of a new server."""
    command = [sys.executable, "-m", "ollama_nb", "create", SMOLLM2, "--from", str(smollm2_gguf(default_cache()))]
    subprocess.run(command, check=True, env={**os.environ, "OLLAMA_HOST": url}, capture_output=True)
    return SMOLLM2


def judge(api: httpx2.Client, model: str, count: int, options: dict[str, Any]) -> bool:
    """Whether the answers to ``count`` random schemas fit them."""
    kinds: Counter[str] = Counter()
    tokens = 0
    for start in range(0, count, SLICE):
        for result in ask_for_schemas(api, model, range(start, min(start + SLICE, count)), **options):
            kinds[result.problem.partition(":")[0] or "fits"] += 1
            tokens += result.tokens
            if result.problem:
                print(f"schema {result.seed}: {result.problem}")
        print(f"{min(start + SLICE, count)} schemas: {dict(kinds)}, {tokens} tokens", flush=True)
    return kinds["fits"] == count


def time_forms(api: httpx2.Client, model: str, rounds: int, options: dict[str, Any]) -> bool:
    """Whether bound answers keep up with free ones."""
    print(f"\n{'form':10} {'free, tokens/s':>15} {'bound, tokens/s':>16} {'ratio':>6}   of {rounds} rounds, medians")
    keeps_up = True
    for name, form in FORMS.items():
        speeds = []
        for turn in range(rounds):
            free = speed(api, model, None, turn, options)
            speeds.append((free, speed(api, model, form, turn, options)))
        ratio = statistics.median(bound / free for free, bound in speeds)
        medians = [statistics.median(side) for side in zip(*speeds, strict=True)]
        print(f"{name:10} {medians[0]:15.1f} {medians[1]:16.1f} {ratio:6.2f}", flush=True)
        keeps_up = keeps_up and ratio >= LEAST_RATIO
    return keeps_up


def speed(api: httpx2.Client, model: str, form: object, turn: int, options: dict[str, Any]) -> float:
    """Tokens a second of one answer of full length; those that end before are no measurement."""
    for attempt in range(ATTEMPTS):
        body = {
            "model": model,
            "prompt": PROMPT,
            "raw": True,
            "stream": False,
            "format": form,
            "options": {**options, "seed": turn * ATTEMPTS + attempt, "num_predict": TOKENS},
        }
        answer = api.post("/api/generate", json=body).json()
        if answer["eval_count"] == TOKENS:
            return float((TOKENS - 1) / answer["eval_duration"] * 1e9)
    raise SystemExit(f"no answer of {TOKENS} tokens in {ATTEMPTS} attempts")


if __name__ == "__main__":
    sys.exit(main())
