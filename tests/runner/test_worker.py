"""The child's own behaviour, spoken to by hand: frames in, frames out, and an end when nobody listens any more."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
from typing import Self

import pytest

from ollama_nb.runner.messages import (
    Cancel,
    Detokenize,
    Failed,
    FrameReader,
    Generate,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    Sampling,
    Step,
    Text,
    Tokenize,
    Tokens,
    decode_child,
    encode,
)

GREEDY = Sampling(temperature=0)
PATIENCE = 120


class Hand:
    """A worker on the end of two pipes."""

    def __init__(self, command=("-P", "-m", "ollama_nb.runner.worker")) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._frames = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.communicate()

    def _read(self):
        reader = FrameReader()
        while data := self.process.stdout.read1(1 << 16):
            for body in reader.feed(data):
                yield decode_child(body)

    def say(self, *messages) -> None:
        self.raw(b"".join(encode(message) for message in messages))

    def raw(self, data: bytes) -> None:
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def hear(self, *kinds):
        """The next message of one of these kinds."""
        for message in self._frames:
            if isinstance(message, kinds):
                return message
        raise EOFError(self.process.stderr.read().decode())

    def answer(self, number: int) -> str:
        """The text of a request, once it is finished."""
        text = ""
        while True:
            step = self.hear(Step)
            text += "".join(piece.text for piece in step.pieces if piece.id == number)
            if any(finish.id == number for finish in step.finished):
                return text

    def leave(self) -> tuple[int, str]:
        """Close the pipe to the child and wait for its end: exit status and stderr."""
        self.process.stdin.close()
        self.process.stdin = None
        _, log = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, log.decode()


def load(path, **fields) -> Load:
    return Load(**{"model": str(path), "num_ctx": 512, "num_seq": 2, "num_thread": 1, **fields})


@pytest.fixture
def loaded(sample_gguf):
    with Hand() as hand:
        hand.say(load(sample_gguf))
        hand.hear(Loaded)
        yield hand


def test_a_child_says_how_far_the_load_is_and_what_it_has_loaded(sample_gguf):
    with Hand() as hand:
        # More context than the model was trained for is not to be had.
        hand.say(load(sample_gguf, num_ctx=10_000, num_seq=1, num_batch=8))
        fractions = []
        while isinstance(message := hand.hear(LoadProgress, Loaded), LoadProgress):
            fractions.append(message.fraction)
        assert fractions == sorted(set(fractions))
        assert 3 < len(fractions) <= 102
        assert fractions[-1] == 1
        assert (message.num_ctx, message.num_ctx_train) == (8192, 8192)
        assert (message.adds_bos, message.num_thread) == (False, 1)
        assert message.model_size > 90_000_000
        assert hand.leave()[0] == 0


def test_requests_of_all_kinds_are_told_apart_by_their_numbers(loaded):
    loaded.say(
        Generate(id=1, prompt="one two three", num_predict=3, sampling=GREEDY),
        Tokenize(id=2, text="hello world"),
        Detokenize(id=3, tokens=[1 << 20]),
        Generate(id=4, prompt="", num_predict=3),
    )
    tokens = loaded.hear(Tokens)
    assert tokens.id == 2
    failed = {message.id: message for message in (loaded.hear(Failed), loaded.hear(Failed))}
    assert failed[3].status == 400
    assert failed[3].error == "token ids must be between 0 and 49151"
    assert failed[4].status == 500
    assert failed[4].error == "Failed to create new sequence: no input provided\n"
    loaded.say(Detokenize(id=5, tokens=tokens.tokens))
    assert loaded.hear(Text) == Text(5, "hello world")


def test_a_cancelled_request_says_nothing_more(loaded):
    loaded.say(Generate(id=1, prompt="word " * 400, num_predict=400), Cancel(1))
    loaded.say(Generate(id=2, prompt="word", num_predict=1, sampling=GREEDY))
    step = loaded.hear(Step)
    assert [finish.id for finish in step.finished] == [2]
    assert {piece.id for piece in step.pieces} <= {2}


def test_an_answer_in_frames_cut_byte_by_byte_is_the_same(loaded):
    request = Generate(id=1, prompt="one two three", num_predict=4, sampling=GREEDY)
    loaded.say(request)
    expected = loaded.answer(1)
    for byte in encode(Generate(id=2, prompt="one two three", num_predict=4, sampling=GREEDY)):
        loaded.raw(bytes([byte]))
    assert loaded.answer(2) == expected != ""


def test_a_request_with_a_grammar_keeps_to_it(loaded):
    loaded.say(Generate(id=1, prompt="one two three", num_predict=20, grammar='start: "<file_sep>" ("yes" | "no")'))
    assert loaded.answer(1) in ("<file_sep>yes", "<file_sep>no")


INVALID = {
    "no Lark": ("start: (((", "Expected token"),
    "too long": ("x" * (1 << 20) + "x", "more than 1048576"),
    "too deep": (
        "start: r0\n" + "\n".join(f"r{number}: r{number + 1}" for number in range(60_000)) + '\nr60000: "x"',
        "too large or nested too deeply",
    ),
    "too wide": ("start: start start | " + "start start | " * 3000 + '"a"', "takes too long"),
}


@pytest.mark.parametrize(("grammar", "reason"), INVALID.values(), ids=INVALID.keys())
def test_a_grammar_that_does_not_compile_is_refused_and_harms_nobody(loaded, grammar, reason):
    loaded.say(
        Generate(id=1, prompt="one two three", num_predict=4, sampling=GREEDY),
        Generate(id=2, prompt="one two three", grammar=grammar),
        Generate(id=3, prompt="one two three", num_predict=4, grammar='start: "yes"'),
    )
    failed, text = None, {1: "", 3: ""}
    while failed is None or not text[1] or text[3] != "yes":
        message = loaded.hear(Failed, Step)
        if isinstance(message, Failed):
            failed = message
        else:
            text |= {piece.id: text[piece.id] + piece.text for piece in message.pieces}
    assert (failed.id, failed.status) == (2, 400)
    assert failed.error.startswith("invalid grammar: ")
    assert reason in failed.error
    assert "\n" not in failed.error


def test_a_prompt_that_may_not_be_cut_is_refused_where_it_is_too_long(loaded):
    loaded.say(Generate(id=1, prompt="word " * 600, truncate=False))
    failed = loaded.hear(Failed)
    assert (failed.id, failed.status) == (1, 400)
    assert failed.error == (
        "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust "
        "the context length in settings, or use a model with a longer context length"
    )


BREAKING = """
from ollama_nb.runner import worker

class Breaking(worker._Reader):
    def _generate(self, *_):
        raise BaseException("as a library's panic would be")

worker._Reader = Breaking
worker.main()
"""


def test_a_child_that_can_hear_no_more_ends(sample_gguf):
    with Hand(("-c", BREAKING)) as hand:
        hand.say(load(sample_gguf))
        hand.hear(Loaded)
        hand.say(Generate(id=1, prompt="one"))
        hand.process.wait(PATIENCE)
        assert b"as a library's panic would be" in hand.process.stderr.read()


def test_a_child_that_was_told_nothing_ends_with_its_pipe():
    with Hand() as hand:
        assert hand.leave()[0] == 0


def test_a_child_ends_with_its_pipe_while_it_loads(sample_gguf):
    with Hand() as hand:
        hand.say(load(sample_gguf))
        assert hand.leave()[0] == 0


def test_a_child_ends_with_its_pipe_in_the_middle_of_a_decode(loaded):
    # A prompt of many seconds at one thread, in one batch.
    loaded.say(Generate(id=1, prompt="word " * 500), Generate(id=2, prompt="word " * 400))
    # Read by now: the tokenizer's answer comes behind them.
    loaded.say(Tokenize(id=3, text="x"))
    loaded.hear(Tokens)
    status, log = loaded.leave()
    assert status == 0
    assert "Traceback" not in log


def test_an_idle_child_ends_with_its_pipe(loaded):
    status, log = loaded.leave()
    assert status == 0
    assert "Traceback" not in log


INTERRUPTIBLE = """
import signal
from ollama_nb.runner import worker

# Programs in the background are started with interrupts ignored, and tests may be such programs.
signal.signal(signal.SIGINT, signal.default_int_handler)
worker.main()
"""


def test_an_interrupt_from_the_keyboard_is_the_servers_business(sample_gguf):
    with Hand(("-c", INTERRUPTIBLE)) as hand:
        hand.say(load(sample_gguf))
        hand.hear(Loaded)
        hand.process.send_signal(signal.SIGINT)
        hand.say(Generate(id=1, prompt="one two three", num_predict=2, sampling=GREEDY))
        assert hand.answer(1)


def test_a_child_that_nobody_reads_any_more_ends(loaded):
    loaded.process.stdout.close()
    loaded.say(Generate(id=1, prompt="one two three", num_predict=400))
    loaded.process.wait(PATIENCE)


def test_a_file_that_is_no_model_ends_the_child_after_it_said_so(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"no model")
    with Hand() as hand:
        hand.say(load(path))
        assert hand.hear(LoadFailed) == LoadFailed("unable to load model")
        hand.process.wait(PATIENCE)
        assert b"error loading model" in hand.process.stderr.read()


def test_an_adapter_that_is_none_ends_the_child_after_it_said_so(sample_gguf):
    with Hand() as hand:
        hand.say(load(sample_gguf, adapters=(str(sample_gguf),)))
        assert hand.hear(LoadFailed) == LoadFailed("unable to load adapter")
        hand.process.wait(PATIENCE)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<I", 3) + b"\xc1\xc1\xc1",
        struct.pack("<I", 1 << 31),
        encode(Generate(id=1, prompt="too early")),
        encode(Loaded(num_ctx=1, num_ctx_train=1, model_size=1, adds_bos=True, num_thread=1)),
    ],
    ids=["no message", "no length", "a request before the model", "what only a child says"],
)
def test_a_stream_that_cannot_be_read_ends_the_child(data):
    with Hand() as hand:
        hand.raw(data)
        hand.process.wait(PATIENCE)
        assert b"the server's frames cannot be read" in hand.process.stderr.read()


NOISY = """
import os, threading, time
from ollama_nb.runner import worker

def shout():
    while True:
        os.write(1, b"from C\\n")
        print("from Python", flush=True)
        time.sleep(0.01)

class NoisyReader(worker._Reader):
    def start(self):
        # Standard output has been taken for frames by now, as it has when a library prints.
        threading.Thread(target=shout, daemon=True).start()
        super().start()

worker._Reader = NoisyReader
worker.main()
"""


def test_what_others_print_is_no_frame(sample_gguf):
    with Hand(("-c", NOISY)) as hand:
        hand.say(load(sample_gguf))
        hand.hear(Loaded)
        hand.say(Generate(id=1, prompt="one two three", num_predict=2, sampling=GREEDY))
        assert hand.answer(1)
        log = hand.leave()[1]
        assert "from C" in log
        assert "from Python" in log
