"""``%ollama`` and ``%%ollama``: the shared commands inside a notebook, and ``chat`` and ``timings`` besides.

A line is parsed by the same command tree as the terminal's. What it returns is shown as a notebook shows things:
tables as data frames, answers as Markdown that grows. A cell below the line is the message of ``chat``, the
Modelfile of ``create`` (``creating``), or the texts of ``embed`` (``embedding``). An error is one readable line, and
still stops "Run all".
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from traitlets import Unicode

from ollama_nb.cli.commands import command_tree
from ollama_nb.cli.session import Session, parameters_option, typed_parameters
from ollama_nb.cli.text import Table
from ollama_nb.client.discovery import NoServerError
from ollama_nb.client.http import Client
from ollama_nb.client.local import LocalServer, start_server
from ollama_nb.notebook.creating import create
from ollama_nb.notebook.display import LiveMarkdown, LiveView, NotebookSink, PlainText, TextSink, TextStream
from ollama_nb.notebook.embedding import embed
from ollama_nb.notebook.timings import frame, table_frame
from ollama_nb.notebook.variables import output_option
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["CellInterrupted", "MagicError", "OllamaMagics", "load_ipython_extension"]

NAME: Final = "%ollama"

_HELP: Final = (
    "Talk to models and look after them. %%ollama chat sends the cell below its first line; "
    "%%ollama create makes a model of it, a Modelfile; %%ollama embed makes vectors of its lines."
)
_WITH_CELL: Final = ("chat", "create", "embed")


class MagicError(Exception):
    """What went wrong, which IPython shows as it stands, without a traceback; the cell counts as failed."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def _render_traceback_(self) -> list[str]:
        return [f"Error: {self}", *filter(None, [self.hint])]


class CellInterrupted(KeyboardInterrupt):
    """The user has stopped the cell; shown in one line."""

    def _render_traceback_(self) -> list[str]:
        return [f"Interrupted: {self}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSession(Session):
    """What the notebook's own commands need besides: the cell's text, the default model, where things go."""

    cell: str | None
    model: str
    view: Callable[[], LiveView]
    store: Callable[[str, object], None]


@magics_class
class OllamaMagics(Magics):  # type: ignore[misc]
    """The magics, and what can be configured: ``%config OllamaMagics.model = "smollm2:135m"``."""

    model = Unicode("", help="The model that chat uses when no -m is given.").tag(config=True)
    host = Unicode("", help="The server's address, as in OLLAMA_HOST; empty: it is looked for.").tag(config=True)

    def __init__(self, shell: InteractiveShell | None = None, **kwargs: Any) -> None:  # noqa: ANN401 - IPython's own
        super().__init__(shell, **kwargs)
        self._local: LocalServer | None = None

    @no_var_expand  # type: ignore[untyped-decorator]
    @line_cell_magic  # type: ignore[untyped-decorator]
    def ollama(self, line: str, cell: str | None = None) -> object:
        """Run one command: ``%ollama --help`` lists them."""
        try:
            return self._run(shlex.split(line), cell)
        except OllamaError as exc:
            raise MagicError(exc.message, exc.hint) from None
        except click.ClickException as exc:
            raise MagicError(exc.format_message(), f"See `{_path(exc)} --help`.") from None
        except ValueError as exc:  # shlex: a quote that is not closed
            raise MagicError(f"{exc} in: {line}") from None
        except CellInterrupted:
            raise
        except KeyboardInterrupt as exc:
            raise CellInterrupted(str(exc) or "the server has been told to stop.") from None

    def _run(self, args: list[str], cell: str | None) -> object:
        if cell is not None and (not args or args[0] not in _WITH_CELL):
            raise click.UsageError(
                "Only chat, create and embed take the cell below them; other commands begin with one percent sign."
            )
        tree = command_tree(NAME, _HELP, extra=(chat, create, embed, timings))
        rich = getattr(self.shell, "kernel", None) is not None
        sink = NotebookSink() if rich else TextSink()
        session = CellSession(
            connect=self._connect,
            sink=sink,
            cell=cell,
            model=self.model,
            view=LiveMarkdown if rich else TextStream,
            store=lambda name, value: self.shell.push({name: value}),
        )
        try:
            with sink, tree.make_context(NAME, args or ["--help"], obj=session) as ctx:
                value = tree.invoke(ctx)
        except click.exceptions.Exit:  # --help has said all
            return None
        if isinstance(value, Table):
            return table_frame(value)
        return PlainText(value) if isinstance(value, str) else value

    def _connect(self) -> Client:
        """A client of the configured server, of one that is found, or else of one started for this session."""
        if not self.host and self._local is not None and self._local.alive:
            return Client(self._local.url)
        try:
            return Client(self.host or None)
        except NoServerError:
            self._local = start_server()
        sys.stderr.write(f"No server found: started one at {self._local.url}, which ends with this session.\n")
        return Client(self._local.url)


@click.command("chat")
@click.option("-m", "--model", help="The model; else the one that is configured.")
@click.option("-s", "--system", help="The system message.")
@parameters_option
@output_option("the answer")
@click.argument("words", nargs=-1, metavar="[MESSAGE]...")
@click.pass_obj
def chat(
    session: CellSession,
    *,
    model: str | None,
    system: str | None,
    assignments: tuple[str, ...],
    output: str | None,
    words: tuple[str, ...],
) -> None:
    """Send the cell, or MESSAGE, to a model and show the answer as it is written."""
    model = model or session.model
    if not model:
        raise click.UsageError("No model: give -m MODEL, or set one with %config OllamaMagics.model = 'NAME'.")
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages.append({"role": "user", "content": _message(session.cell, words)})
    options = typed_parameters(assignments, session.sink)
    view = session.view()
    interrupted = False
    with session.connect() as client, client.chat(model, messages, stream=True, options=options or None) as stream:
        try:
            for chunk in stream:
                view.add(chunk.text, chunk.thinking)
        except KeyboardInterrupt:
            stream.close()
            interrupted = True
        finally:
            view.finish()
        answer = stream.partial()
    if output:
        session.store(output, answer)
    if answer.dropped:
        session.sink.warn(f"Note: {answer.dropped}; a larger context (-p num_ctx=N) keeps more.")
    if interrupted:
        kept = f"; what came is in `{output}`" if output else ""
        raise CellInterrupted(f"the answer was broken off{kept}.")


@click.command("timings")
def timings() -> pd.DataFrame:
    """The calls of this session: durations in seconds, speeds in tokens per second."""
    return frame()


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Give ``shell`` the magics."""
    shell.register_magics(OllamaMagics)


def _message(cell: str | None, words: tuple[str, ...]) -> str:
    """What to send: the cell as it was typed, less the newline that IPython ends it with, or the words of the line."""
    if cell is not None and words:
        raise click.UsageError("The message is the cell below; nothing but options can stand beside chat.")
    message = " ".join(words) if cell is None else cell.removesuffix("\n")
    if not message.strip():
        raise click.UsageError("No message: write it below `%%ollama chat`, or after `%ollama chat`.")
    return message


def _path(exc: click.ClickException) -> str:
    context = getattr(exc, "ctx", None)
    return context.command_path if context else NAME
