"""``ollama-nb``: the commands in a terminal, with tables and progress as text, and ``serve`` besides.

Values go to stdout, everything about how the work goes to stderr. An error is one line and, where there is one, a
hint; the exit code is then 1.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, NoReturn, Self

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from ollama_nb.cli.commands import command_tree, version
from ollama_nb.cli.keys import key_command
from ollama_nb.cli.progress import WINDOW, left_text, rate_text
from ollama_nb.cli.serve import serve_command
from ollama_nb.cli.session import Interrupted, Session
from ollama_nb.cli.text import Table
from ollama_nb.client.http import Client
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["TerminalSink", "main", "run"]

NAME: Final = "ollama-nb"

_HELP: Final = "Ollama for people who live in notebooks: run models, and ask what there is."
_BAR: Final = 20
"""Columns of a bar."""

_INTERRUPTED: Final = 130
"""The shell's exit code for a command that Ctrl-C has ended."""


class TerminalSink:
    """Steps as lines and transfers as bars, on stderr; bars only where somebody watches."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._told: set[str] = set()
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._leave_bars()

    def line(self, text: str) -> None:
        """To stdout: what a script may read."""
        self._leave_bars()
        click.echo(text)

    def warn(self, text: str) -> None:
        """To stderr."""
        click.echo(text, err=True)

    def status(self, text: str) -> None:
        """A line, unless it only repeats the one before; below the bars if they are full, else above them."""
        if self._bars is not None and self._bars.finished:
            self._leave_bars()
        if text != self._last:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._last = text

    def progress(self, label: str, completed: int, total: int) -> None:
        """A bar with bytes, rate and time left, one for each label; where nobody watches, each label as one step."""
        if not self._console.is_terminal:
            if label not in self._told:
                self._told.add(label)
                self.status(label)
            return
        if self._bars is None:
            self._bars = _bars(self._console)
            self._bars.start()
        if label not in self._tasks:
            # What is there from the beginning is no part of the rate.
            self._tasks[label] = self._bars.add_task(label, total=total, completed=completed)
        self._bars.update(self._tasks[label], completed=completed, total=total)

    def done(self, text: str) -> None:
        """One more line."""
        self._leave_bars()
        self.status(text)

    def _leave_bars(self) -> None:
        """The bars stay as they are; what is told next stands below them."""
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._tasks = None, {}


def _bars(console: Console) -> Progress:
    columns = (
        # Whatever is narrow, the bar is seen: of a label that is a digest, its beginning is enough.
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        BarColumn(_BAR),
        DownloadColumn(),
        _PaceColumn(table_column=Column(no_wrap=True)),
    )
    return Progress(*columns, console=console, expand=True, speed_estimate_period=WINDOW)


class _PaceColumn(ProgressColumn):
    """Rate and time left, while there is something to tell."""

    def render(self, task: Task) -> Text:
        """Both as text; a blank for what is complete, or has only begun."""
        if task.finished or not task.speed:
            return Text(" ")  # rich has no columns without width
        left = "" if task.time_remaining is None else f" {left_text(task.time_remaining)}"
        return Text(f"{rate_text(task.speed)}{left}", justify="right")


def main() -> NoReturn:
    """The program ``ollama-nb``."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str], connect: Callable[[], Client] = Client) -> int:
    """Run one command line; the exit code."""
    tree = command_tree(NAME, _HELP, extra=[serve_command(), key_command()])
    tree.params.append(_version_option())
    try:
        with TerminalSink() as sink:
            session = Session(connect, sink)
            value = tree.main(list(args) or ["--help"], prog_name=NAME, standalone_mode=False, obj=session)
    except OllamaError as exc:
        return _fail(exc.message, exc.hint)
    except click.UsageError as exc:
        where = exc.ctx.command_path if exc.ctx else NAME
        return _fail(exc.format_message(), f"See `{where} --help`.")
    except click.ClickException as exc:
        return _fail(exc.format_message(), None)
    except click.Abort as exc:
        if isinstance(exc.__cause__, Interrupted):
            click.echo(f"Interrupted: {exc.__cause__}", err=True)
        return _INTERRUPTED
    if isinstance(value, Table):
        click.echo(value.text())
    elif isinstance(value, str):
        click.echo(value)
    return value if isinstance(value, int) else 0


def _fail(message: str, hint: str | None) -> int:
    click.echo(f"Error: {message}", err=True)
    if hint:
        click.echo(hint, err=True)
    return 1


def _version_option() -> click.Option:
    """``-v`` and ``--version``, which Ollama has beside its commands."""

    def tell(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
        if asked:
            click.echo(ctx.invoke(version))
            ctx.exit()

    return click.Option(
        ["-v", "--version"], is_flag=True, is_eager=True, expose_value=False, callback=tell, help="Tell the version."
    )
