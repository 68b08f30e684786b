"""What a reader sees while an answer is written or a command works: what grows in place, or text in a terminal.

Everything that grows is shown through a display handle, at most ten times a second, and at the end once more, so
that the saved notebook has the whole of it. What to show is left to ``magics``, how steps look to ``progress``.
"""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from IPython.display import DisplayHandle

from ollama_nb.notebook.progress import Board

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LiveMarkdown", "LiveView", "NotebookSink", "PlainText", "TextSink", "TextStream"]

INTERVAL: Final = 0.1
"""Seconds between two updates of a growing display: smooth to read, little for the page to do."""


class LiveView(Protocol):
    """Where an answer appears as it comes."""

    def add(self, text: str, thinking: str = "") -> None:
        """More of it."""

    def finish(self) -> None:
        """No more will come."""


class _Growing:
    """A display that is updated in place, not more often than a reader can follow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._handle: Any = None
        self._shown_at = -math.inf
        self._shown: dict[str, str] | None = None

    def show(self, make: Callable[[], dict[str, str]], *, now: bool) -> None:
        """Show what ``make`` gives (MIME type to text), if it is time or has to be ``now``."""
        if not (now or self._clock() - self._shown_at >= INTERVAL):
            return
        bundle = make()
        if bundle == self._shown:
            return
        if self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display(bundle, raw=True)
        else:
            self._handle.update(bundle, raw=True)
        self._shown, self._shown_at = bundle, self._clock()


class LiveMarkdown:
    """An answer as Markdown, with the thinking before it folded away."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._growing = _Growing(clock)
        self._text: list[str] = []
        self._thinking: list[str] = []

    def add(self, text: str, thinking: str = "") -> None:
        """More of the answer; the first of it appears at once."""
        self._text.append(text)
        self._thinking.append(thinking)
        if text or thinking:
            self._growing.show(self._bundle, now=False)

    def finish(self) -> None:
        """Show the whole."""
        self._growing.show(self._bundle, now=True)

    def _bundle(self) -> dict[str, str]:
        text, thinking = "".join(self._text), "".join(self._thinking).strip()
        if not thinking:
            return {"text/markdown": text, "text/plain": text}
        opened = "" if text else " open"
        folded = f"<details{opened}><summary>Thinking</summary>\n\n{thinking}\n\n</details>\n\n{text}"
        return {"text/markdown": folded, "text/plain": f"Thinking...\n{thinking}\n...done thinking.\n\n{text}"}


class TextStream:
    """An answer as text in a terminal, with the thinking between Ollama's two lines."""

    def __init__(self) -> None:
        self._thinking = False

    def add(self, text: str, thinking: str = "") -> None:
        """More of the answer, at once."""
        if thinking and not self._thinking:
            self._write("Thinking...\n")
            self._thinking = True
        self._write(thinking)
        if text and self._thinking:
            self._write("\n...done thinking.\n\n")
            self._thinking = False
        self._write(text)

    def finish(self) -> None:
        """End the last line."""
        self._write("\n")

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class NotebookSink:
    """A command's steps in a cell: the kept lines are printed, the steps grow in one display."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._growing = _Growing(clock)
        self._board = Board()
        self._told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._told:  # what was not shown for want of time, as it stays
            self._board.halt()
            self._growing.show(self._board.bundle, now=True)

    def line(self, text: str) -> None:
        """Print it."""
        sys.stdout.write(f"{text}\n")

    def warn(self, text: str) -> None:
        """Print it as a warning."""
        sys.stderr.write(f"{text}\n")

    def status(self, text: str) -> None:
        """Another step, below those before."""
        self._told = True
        self._board.status(text)
        self._growing.show(self._board.bundle, now=True)

    def progress(self, label: str, completed: int, total: int) -> None:
        """A bar, one for each label, with bytes, rate and time left."""
        self._told = True
        self._board.progress(label, completed, total, self._clock())
        self._growing.show(self._board.bundle, now=False)

    def done(self, text: str) -> None:
        """The text is all that stays."""
        self._told = False
        self._growing.show(lambda: {"text/plain": text}, now=True)


class TextSink:
    """A command's steps in a terminal, a line each."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Lines are never unfinished."""

    def line(self, text: str) -> None:
        """Print it."""
        sys.stdout.write(f"{text}\n")

    def warn(self, text: str) -> None:
        """Print it as a warning."""
        sys.stderr.write(f"{text}\n")

    def status(self, text: str) -> None:
        """A line, unless it only repeats the one before."""
        if text != self._last:
            self.line(text)
        self._last = text

    def progress(self, label: str, completed: int, total: int) -> None:
        """The step's name, once."""
        del completed, total  # a line cannot grow
        if label not in self._told:
            self._told.add(label)
            self.status(label)

    def done(self, text: str) -> None:
        """One more line."""
        self.line(text)


class PlainText(str):
    """A text that shows at the end of a cell as it is, without quotes."""

    __slots__ = ()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ANN401 - IPython's printer has no types
        del cycle  # a text holds nothing that could hold it
        printer.text(str(self))
