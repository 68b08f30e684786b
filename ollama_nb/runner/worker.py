"""The child's main: frames in on stdin, a model in the middle, frames out on what was stdout.

Started as ``python -m ollama_nb.runner.worker`` by the supervisor, never by hand. Standard output is taken
for frames before anything else can print there. The process ends when its stdin closes: whatever happens to
the server, no model is left behind.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec

from ollama_nb.runner.messages import (
    Cancel,
    ChildMessage,
    Detokenize,
    Embed,
    Failed,
    FrameReader,
    Generate,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    Measure,
    Measured,
    ServerMessage,
    Text,
    Tokenize,
    Tokens,
    decode_server,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ollama_nb.engine.batcher import Batcher
    from ollama_nb.engine.grammar import GrammarMask, Grammars
    from ollama_nb.engine.media import Projector
    from ollama_nb.engine.model import Model
    from ollama_nb.engine.passages import Passages

    _Request = Generate | Embed | Tokenize | Detokenize | Measure

__all__ = ["main"]

EXIT_GRACE: Final = 2.0
"""Seconds that a running decode gets to end by itself once stdin has closed."""

PROGRESS_STEP: Final = 0.01
_READ_SIZE: Final = 1 << 16

log = logging.getLogger("ollama_nb.worker")


class _Output:
    """Writes frames; two threads send, so a frame is written under a lock."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, message: ChildMessage) -> None:
        data = memoryview(encode(message))
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]


class _Reader(threading.Thread):
    """Reads frames from stdin; tokenises and compiles grammars here, so that the loop only computes."""

    def __init__(self, send: Callable[[ChildMessage], None]) -> None:
        super().__init__(name="reader", daemon=True)
        self._send = send
        self._first: Load | None = None
        self.loaded = threading.Event()
        self.ready = threading.Event()
        self.model: Model | None = None
        self.batcher: Batcher | None = None
        self.projector: Projector | None = None
        self._grammars: Grammars | None = None
        self._passages: Passages | None = None

    def load(self) -> Load:
        """The first frame; blocks until it is there."""
        self.loaded.wait()
        if self._first is None:
            raise EOFError("the server closed the pipe before it said what to load")
        return self._first

    def run(self) -> None:
        frames = FrameReader()
        try:
            while data := os.read(0, _READ_SIZE):
                for body in frames.feed(data):
                    self._handle(decode_server(body))
        except (ValueError, OSError, msgspec.DecodeError):
            log.exception("the server's frames cannot be read")
        except BaseException:
            # A library's panic is no Exception. A model that hears nothing more is of no use to anyone.
            log.exception("the reader came to an end")
        self._leave()

    def _leave(self) -> None:
        """Stdin is gone: let the loop end, and do not wait for a decode that does not."""
        self.loaded.set()
        if self.batcher is not None:
            self.batcher.stop()
            threading.main_thread().join(EXIT_GRACE)
        if threading.main_thread().is_alive():
            os._exit(0)

    def _handle(self, message: ServerMessage) -> None:
        if isinstance(message, Load):
            self._first = message
            self.loaded.set()
            return
        if self._first is None:
            raise ValueError("a request came before the server said what to load")
        self.ready.wait()
        if self.model is None or self.batcher is None:
            raise ValueError("a request came before the model was there")
        if isinstance(message, Cancel):
            self.batcher.cancel(message.id)
            return
        try:
            self._take(self.model, self.batcher, message)
        except ValueError as error:
            self._send(Failed(id=message.id, error=str(error), status=400))

    def _take(self, model: Model, batcher: Batcher, message: _Request) -> None:
        """Hand a request to the loop, or answer it; raises ``ValueError`` for one that is wrong in itself."""
        if isinstance(message, Generate):
            self._generate(model, batcher, message)
        elif isinstance(message, Embed):
            batcher.submit(self._passages_of(model).prepare(message))
        elif isinstance(message, Tokenize):
            self._send(Tokens(message.id, model.tokenize(message.text, add_special=message.add_special)))
        elif isinstance(message, Measure):
            self._send(Measured(message.id, self._eyes().measure(message.images)))
        else:
            self._send(Text(message.id, model.detokenize(message.tokens)))

    def _generate(self, model: Model, batcher: Batcher, request: Generate) -> None:
        from ollama_nb.engine.admission import Tokenized  # noqa: PLC0415 - loaded with the model, not before

        received_at = time.monotonic_ns()
        model.require_generation()
        if any(not 0 <= token < model.num_vocab for token in request.sampling.logit_bias):
            raise ValueError(f'option "logit_bias": token ids must be between 0 and {model.num_vocab - 1}')
        constraint = self._compile(model, request.grammar) if request.grammar else None
        if request.images:
            prompt, images = self._eyes().tokenize(request.prompt, request.images)
            batcher.submit(Tokenized(request, prompt, received_at, constraint, images))
        else:
            prompt = model.tokenize(request.prompt, add_special=True)
            batcher.submit(Tokenized(request, prompt, received_at, constraint))

    def _eyes(self) -> Projector:
        if self.projector is None:
            raise ValueError("this model cannot take images: it was loaded without a projector")
        return self.projector

    def _passages_of(self, model: Model) -> Passages:
        if self._passages is None:
            from ollama_nb.engine.passages import Passages  # noqa: PLC0415 - many models never see a text to embed

            self._passages = Passages(model)
        return self._passages

    def _compile(self, model: Model, grammar: str) -> GrammarMask:
        if self._grammars is None:
            from ollama_nb.engine.grammar import Grammars  # noqa: PLC0415 - many models never see a grammar

            self._grammars = Grammars(model)
        return self._grammars.compile(grammar)


def _progress_sender(send: Callable[[ChildMessage], None]) -> Callable[[float], None]:
    last = -1.0

    def report(fraction: float) -> None:
        nonlocal last
        if fraction >= 1 or fraction - last >= PROGRESS_STEP:
            last = fraction
            send(LoadProgress(fraction))

    return report


def _projector(load: Load, model: Model) -> Projector | None:
    """What lets the model see, if it can; the first of several, as in Ollama. Raises ``ModelLoadError``."""
    if not load.projectors:
        return None
    from ollama_nb.engine.media import Projector  # noqa: PLC0415 - only models that see need it

    return Projector(load.projectors[0], model, model.num_thread)


def main() -> None:
    """Load the model that the first frame names and serve it until stdin closes."""
    # ggml would start a debugger on itself before it aborts, whose output hides the reason.
    os.environ["GGML_NO_BACKTRACE"] = "1"
    # Ctrl-C reaches the whole process group; when to end is the server's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    output = _Output(os.dup(1))
    os.dup2(2, 1)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    reader = _Reader(output.send)
    reader.start()
    try:
        load = reader.load()
    except EOFError:
        return
    # Only now: importing llama_cpp takes half a second, and a pipe that closes meanwhile must end the process.
    from ollama_nb.engine.batcher import Batcher  # noqa: PLC0415
    from ollama_nb.engine.model import Model, ModelLoadError  # noqa: PLC0415

    try:
        model = Model(load, _progress_sender(output.send))
        projector = _projector(load, model)
    except ModelLoadError as error:
        output.send(LoadFailed(str(error)))
        return
    batcher = Batcher(model, model.num_seq, output.send, projector)
    reader.model, reader.batcher, reader.projector = model, batcher, projector
    output.send(
        Loaded(
            num_ctx=model.num_ctx,
            num_ctx_train=model.num_ctx_train,
            model_size=model.size,
            adds_bos=model.adds_bos,
            num_thread=model.num_thread,
        )
    )
    reader.ready.set()
    batcher.run()


if __name__ == "__main__":
    main()
