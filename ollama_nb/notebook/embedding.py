"""``%ollama embed`` and ``%%ollama embed``: texts as a table of their vectors, one row a text.

A cell has a text on every line; empty lines are none. The table's index is the texts, its columns are the numbers of
the vectors, so that ``table @ table.T`` is how similar any two of them are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ollama_nb.notebook.variables import output_option

if TYPE_CHECKING:
    import pandas as pd

    from ollama_nb.client.vectors import Embeddings
    from ollama_nb.notebook.magics import CellSession

__all__ = ["embed", "vector_frame"]


@click.command("embed")
@click.option("-m", "--model", help="The model; without it the first word names it.")
@click.option("-d", "--dimensions", type=click.IntRange(min=1), metavar="N", help="Only so many numbers a vector.")
@output_option("the table")
@click.argument("words", nargs=-1, metavar="[MODEL] [TEXT]...")
@click.pass_obj
def embed(
    session: CellSession, *, model: str | None, dimensions: int | None, output: str | None, words: tuple[str, ...]
) -> pd.DataFrame | None:
    """Make vectors of the cell's lines, or of every TEXT (in quotes where it has blanks), as a data frame."""
    if model is None:
        if not words:
            raise click.UsageError("No model: name one with -m MODEL, or as the first word.")
        model, words = words[0], words[1:]
    texts = _texts(session.cell, words)
    with session.connect() as client:
        table = vector_frame(client.embed(model, texts, dimensions=dimensions))
    if output is None:
        return table
    session.store(output, table)
    session.sink.line(f"{len(table)} vectors of {len(table.columns)} numbers are in `{output}`")
    return None


def vector_frame(result: Embeddings) -> pd.DataFrame:
    """Vectors as a table: the index is the texts, the columns are 0 to the number of dimensions, less one."""
    import pandas as pd  # noqa: PLC0415 - a kernel that only chats need not wait for it

    return pd.DataFrame(result.embeddings, index=pd.Index(result.texts, name="text"))


def _texts(cell: str | None, words: tuple[str, ...]) -> list[str]:
    if cell is not None and words:
        raise click.UsageError("The texts are the cell's lines; nothing but the model and options stand beside embed.")
    texts = [*words] if cell is None else [line for line in cell.splitlines() if line.strip()]
    if not texts:
        raise click.UsageError("No text: write texts below `%%ollama embed`, or behind `%ollama embed MODEL`.")
    return texts
