"""``%%ollama create``: the cell is the Modelfile, and its relative paths begin in the notebook's folder.

On a line of its own, ``%ollama create`` takes a Modelfile as the terminal's command does. Either way the steps are
shown as those of other commands, and one line is left that says what there is now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import click

from ollama_nb.cli.create import create as terminal_create
from ollama_nb.cli.create import named_modelfile, run_create
from ollama_nb.wire.modelfile import parse

if TYPE_CHECKING:
    from ollama_nb.cli.create import CreateOptions
    from ollama_nb.notebook.magics import CellSession

__all__ = ["create"]


@click.pass_obj
def _create(
    session: CellSession, model: str, file: str | None, source: str | None, **options: Unpack[CreateOptions]
) -> None:
    """What the command does."""
    if session.cell is None:
        modelfile = named_modelfile(file, source)
    elif file is None and source is None:
        modelfile = parse(session.cell)
    else:
        raise click.UsageError("The Modelfile is the cell below; neither -f nor --from can stand beside it.")
    run_create(session, model, modelfile, **options)
    session.sink.line(f"created '{model}'")


create = click.Command(
    "create",
    callback=_create,
    params=terminal_create.params,
    help="Create MODEL from the cell, which is a Modelfile, or from a file; -s, -t and -p go before what it says.",
)
"""The command, with the options that it has in a terminal."""
