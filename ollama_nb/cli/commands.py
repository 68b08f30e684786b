"""The commands that talk to a server: one tree, shared by ``ollama-nb`` and ``%ollama``.

A command asks the server and returns a value: a table, a text or nothing. Steps of long work go to a sink. How
either is shown is left to the one who runs the tree: ``main`` in a terminal, ``notebook.magics`` in a notebook. What a
command works with is in ``session``, making models in ``create``, fetching and sending them in ``transfers``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from ollama_nb import __version__
from ollama_nb.cli.create import create
from ollama_nb.cli.text import Column, Table, card_text, human_size, processor, relative_time, until
from ollama_nb.cli.transfers import pull, push
from ollama_nb.wire.errors import BadRequestError, NotFoundError, OllamaError, ServerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ollama_nb.cli.session import Session

__all__ = ["CommandTree", "command_tree"]

_ID_DIGITS: Final = 12


class CommandTree(click.Group):
    """A group whose commands may have second names, as Ollama's have."""

    aliases: Final = {"ls": "list", "start": "serve"}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name or alias."""
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))


def command_tree(name: str, text: str, extra: Iterable[click.Command] = ()) -> CommandTree:
    """The shared commands, and ``extra`` ones that only this front has, under ``name`` with the help ``text``."""
    tree = CommandTree(name, help=text)
    for command in (list_models, running, show, stop, copy, remove, create, pull, push, version, *extra):
        tree.add_command(command)
    return tree


@click.command("list")
@click.argument("prefix", default="")
@click.pass_obj
def list_models(session: Session, prefix: str) -> Table:
    """List the stored models (also: ls), all or those that begin with PREFIX."""
    with session.connect() as client:
        models = client.list()
    columns = (
        Column("NAME", "name"),
        Column("ID", "id"),
        Column("SIZE", "size_bytes", human_size),
        Column("MODIFIED", "modified", relative_time),
    )
    shown = (model for model in models if model.name.lower().startswith(prefix.lower()))
    rows = ((model.name, model.digest[:_ID_DIGITS], model.size, model.modified_at) for model in shown)
    return Table(columns, tuple(rows))


@click.command("ps")
@click.argument("prefix", default="")
@click.pass_obj
def running(session: Session, prefix: str) -> Table:
    """List the models in memory."""
    with session.connect() as client:
        models = client.ps()
    columns = (
        Column("NAME", "name"),
        Column("ID", "id"),
        Column("SIZE", "size_bytes", human_size),
        Column("PROCESSOR", "processor"),
        Column("CONTEXT", "context"),
        Column("UNTIL", "until", until),
    )
    rows = (
        (
            model.name,
            model.digest[:_ID_DIGITS],
            model.size,
            processor(model.size, model.size_vram),
            model.context_length,
            model.expires_at,
        )
        for model in models
        if model.name.startswith(prefix)
    )
    return Table(columns, tuple(rows))


@click.command("show")
@click.argument("model")
@click.option("--license", "wanted", flag_value="license", multiple=True, help="Only the license.")
@click.option("--modelfile", "wanted", flag_value="modelfile", multiple=True, help="Only the Modelfile.")
@click.option("--parameters", "wanted", flag_value="parameters", multiple=True, help="Only the parameters.")
@click.option("--system", "wanted", flag_value="system", multiple=True, help="Only the system message.")
@click.option("--template", "wanted", flag_value="template", multiple=True, help="Only the prompt's template.")
@click.option("-v", "--verbose", is_flag=True, help="Also all metadata and tensors.")
@click.pass_obj
def show(session: Session, model: str, wanted: tuple[str, ...], *, verbose: bool) -> str:
    """Show what MODEL is."""
    if len(set(wanted)) > 1:
        raise BadRequestError(
            "only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified"
        )
    with session.connect() as client:
        card = client.show(model, verbose=verbose)
    return str(getattr(card, wanted[0])) if wanted else card_text(card, verbose=verbose)


@click.command("stop")
@click.argument("model")
@click.pass_obj
def stop(session: Session, model: str) -> None:
    """Unload MODEL from memory."""
    with session.connect() as client:
        try:
            client.unload(model)
        except NotFoundError as exc:
            raise NotFoundError(f'couldn\'t find model "{model}" to stop', hint=exc.hint) from exc


@click.command("cp")
@click.argument("source")
@click.argument("destination")
@click.pass_obj
def copy(session: Session, source: str, destination: str) -> None:
    """Copy model SOURCE to the name DESTINATION."""
    with session.connect() as client:
        client.copy(source, destination)
    session.sink.line(f"copied '{source}' to '{destination}'")


@click.command("rm")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.pass_obj
def remove(session: Session, models: tuple[str, ...]) -> None:
    """Delete models; a loaded one is stopped first."""
    with session.connect() as client:
        for model in models:
            try:
                with suppress(NotFoundError):  # the deletion says it better
                    client.unload(model)
            except OllamaError as exc:
                text = f'unable to stop existing running model "{model}": {exc.message}'
                raise OllamaError(text, status=exc.status, hint=exc.hint) from exc
            client.delete(model)
            session.sink.line(f"deleted '{model}'")


@click.command("version")
@click.pass_obj
def version(session: Session) -> str:
    """Tell the server's version, and this client's if it is another."""
    lines = []
    server = None
    try:
        with session.connect() as client:
            server = client.version()
        lines.append(f"ollama version is {server}")
    except ServerUnreachableError:
        lines.append("Warning: could not connect to a running Ollama instance")
    if server != __version__:
        lines.append(f"Warning: client version is {__version__}")
    return "\n".join(lines)
