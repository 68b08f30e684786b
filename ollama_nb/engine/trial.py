"""A grammar tried out in a process of its own, before a model's process takes it in.

Compiling a grammar is bounded by llguidance's limits nearly always. What is left, some intersections of regular
expressions and rules that refer to rules thousands deep, takes hours or all of the stack; neither can be undone
within a process. So each new grammar is first compiled and followed for a few steps here, over an alphabet of single
bytes, where a limit of the system ends it.

Run as ``python -m ollama_nb.engine.trial``: a request on stdin, a verdict on stdout. It imports neither numpy nor
llama_cpp, and is over in the time that Python takes to start.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final, TypeVar

import llguidance
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LIMITS", "Trial", "in_deep_thread", "one_line", "verdict"]

LIMITS: Final = llguidance.LLParserLimits(max_lexer_states=50_000, verbose_errors=False)
"""llguidance's own limits of items, symbols and steps; fewer lexer states, which take up to 2 kB each."""

SECONDS: Final = 5
"""Processor time that a grammar gets here; one of a hundred tools takes a hundredth."""

PATIENCE: Final = 60.0
"""Seconds that a machine with other things to do may take for that."""

_MEMORY: Final = 1 << 30
_STACK: Final = 1 << 26
"""Bytes of stack for compiling, which descends once for each rule that stands for another."""

_STEPS: Final = 64
_ERROR_LENGTH: Final = 300

_Result = TypeVar("_Result")


class Trial(msgspec.Struct, frozen=True):
    """A grammar, the special tokens that it may name, and how many tokens there are."""

    grammar: str
    special: list[str]
    num_vocab: int


class _Bytes:
    """A vocabulary of single bytes, special tokens and an end, as ``llguidance.TokenizerWrapper`` asks for one."""

    bos_token_id = None

    def __init__(self, trial: Trial) -> None:
        self.tokens = [bytes([value]) for value in range(256)]
        self.tokens += [name.encode() for name in trial.special]
        self.eos_token_id = len(self.tokens)
        self.tokens.append(b"<end of the answer>")
        self.special_token_ids = list(range(256, len(self.tokens)))
        self.tokens += [b""] * (trial.num_vocab - len(self.tokens))

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def one_line(error: str) -> str:
    """The first line of what llguidance says, without its list of all special tokens.

    Of a regular expression that it cannot read, that is all but the reason, which stands in a line of its own.
    """
    first, *rest = error.strip().splitlines() or [""]
    line = first.split("; following special tokens", 1)[0]
    if line.endswith(":"):
        line += next((f" {text.removeprefix('error: ')}" for text in rest if text.startswith("error: ")), "")
    return line if len(line) <= _ERROR_LENGTH else line[:_ERROR_LENGTH] + "..."


def in_deep_thread(work: Callable[[], _Result]) -> _Result:
    """The result of ``work``, computed with more stack than threads have."""
    results: list[_Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below, where somebody waits for it
            errors.append(error)

    thread = threading.Thread(target=run, name="grammar", daemon=True)
    usual = threading.stack_size(_STACK)
    try:
        thread.start()
    finally:
        threading.stack_size(usual)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def verdict(trial: Trial) -> str:
    """What is wrong with a grammar; empty if nothing is. Takes ``SECONDS`` of one core at most."""
    command = [sys.executable, "-P", "-m", "ollama_nb.engine.trial"]
    try:
        process = subprocess.run(  # noqa: S603 - ourselves
            command, input=msgspec.msgpack.encode(trial), capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return "it takes too long to compile"
    if process.returncode == 0:
        return process.stdout.decode()
    if process.returncode in _OUT_OF_TIME:
        return "it takes too long to compile"
    if process.returncode < 0:
        return "it is too large or nested too deeply"
    last_line = process.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return one_line(last_line) or "it could not be tried"


_OUT_OF_TIME: Final = {-signal.SIGXCPU, -signal.SIGKILL} if sys.platform != "win32" else set()


def _limit() -> None:
    """Bounds of the system for this process; where it has none, ``PATIENCE`` is left."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on Windows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    # Some systems know the limit and do not take it.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _try(trial: Trial) -> str:
    """Compile, and follow the grammar as a model without any sense would."""
    vocabulary = _Bytes(trial)
    tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(vocabulary))
    source = llguidance.LLMatcher.grammar_from_lark(trial.grammar)
    matcher = in_deep_thread(lambda: llguidance.LLMatcher(tokenizer, source, log_level=0, limits=LIMITS))
    chance = random.Random(0)  # noqa: S311 - any walk will do
    for _ in range(_STEPS):
        if matcher.is_stopped():
            break
        mask = matcher.compute_bitmask()
        choices = [token for token in range(vocabulary.eos_token_id) if mask[token // 8] >> (token % 8) & 1]
        if not choices:
            break
        matcher.consume_token(chance.choice(choices))
    return one_line(matcher.get_error())


def main() -> None:
    """Judge the grammar that stdin brings."""
    _limit()
    sys.stdout.write(_try(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Trial)))


if __name__ == "__main__":
    main()
