"""The commands that talk to a server: one tree, shared by ``ollama-nb`` and ``%ollama``.

A command asks the server and returns a value: a table, a text or nothing. Steps of long work go to a sink. How
either is shown is left to the one who runs the tree: ``main`` in a terminal, ``notebook.magics`` in a notebook.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import click

from ollama_nb import __version__
from ollama_nb.cli.text import Column, Table, card_text, human_size, processor, relative_time, until
from ollama_nb.client.files import file_digest
from ollama_nb.wire.errors import (
    BadRequestError,
    NotFoundError,
    NotImplementedYetError,
    OllamaError,
    ServerUnreachableError,
)
from ollama_nb.wire.parameters import Value, parse_assignments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ollama_nb.client import Client
    from ollama_nb.client.protocol import CreateFields

__all__ = ["CommandTree", "Session", "Sink", "command_tree", "parameters_option", "typed_parameters"]

_ID_DIGITS: Final = 12


class Sink(Protocol):
    """Where a command tells what it does while it does it."""

    def line(self, text: str) -> None:
        """Something done, to be kept."""

    def warn(self, text: str) -> None:
        """Something the user should know that is no error."""

    def status(self, text: str) -> None:
        """A step has begun."""

    def progress(self, label: str, completed: int, total: int) -> None:
        """How far a transfer is, in bytes."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with: how to reach the server, and where to tell its progress."""

    connect: Callable[[], Client]
    sink: Sink


class CommandTree(click.Group):
    """A group whose commands may have second names, as Ollama's have."""

    aliases: Final = {"ls": "list", "start": "serve"}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name or alias."""
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))


def command_tree(name: str, text: str, extra: Iterable[click.Command] = ()) -> CommandTree:
    """The shared commands, and ``extra`` ones that only this front has, under ``name`` with the help ``text``."""
    tree = CommandTree(name, help=text)
    for command in (list_models, running, show, stop, copy, remove, create, version, *extra):
        tree.add_command(command)
    return tree


parameters_option = click.option(
    "-p", "--parameter", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter; can be repeated."
)
"""The option by which parameters are typed, here and in the magics."""


def typed_parameters(assignments: Iterable[str], sink: Sink) -> dict[str, Value]:
    """The values of ``parameters_option``; warns of deprecated names. Raises ``BadRequestError`` in Ollama's words."""
    values, warnings = parse_assignments(assignments)
    for warning in warnings:
        sink.warn(warning)
    return values


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


@click.command("create")
@click.argument("model")
@click.option("--from", "source", required=True, metavar="FILE|MODEL", help="A GGUF file, or another model's name.")
@click.option("-s", "--system", help="The system message.")
@click.option("-t", "--template", metavar="TEXT", help="The prompt's template, as after a Modelfile's TEMPLATE.")
@parameters_option
@click.pass_obj
def create(
    session: Session,
    model: str,
    source: str,
    *,
    system: str | None,
    template: str | None,
    assignments: tuple[str, ...],
) -> None:
    """Create MODEL from a GGUF file or from another model."""
    fields: CreateFields = {
        "system": system,
        "template": template,
        "parameters": typed_parameters(assignments, session.sink) or None,
    }
    path = _gguf_file(source)
    with session.connect() as client:
        if path is None:
            fields["from_"] = source
        else:
            fields["files"] = {path.name: _send(client, path, session.sink)}
        with client.create(model, **fields) as stream:
            for step in stream:
                if step.total:
                    session.sink.progress(step.status, step.completed, step.total)
                else:
                    session.sink.status(step.status)


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


def _gguf_file(source: str) -> Path | None:
    """The file that ``source`` names, or ``None`` if it can only be a model's name."""
    path = Path(source).expanduser()
    if path.is_dir():
        raise NotImplementedYetError(f"{source} is a folder; this version creates models from GGUF files only")
    if path.is_file():
        return path
    if source.startswith(("/", "./", "../", "~")) or path.suffix.lower() == ".gguf":
        raise NotFoundError(f"no such file: {source}")
    return None


def _send(client: Client, path: Path, sink: Sink) -> str:
    """Put a file among the server's blobs, unless it is there; its digest."""
    sink.status("gathering model components")
    try:
        digest = file_digest(path, lambda done, total: sink.progress(f"reading {path.name}", done, total))
        if not client.blob_exists(digest):
            label = f"copying file {digest}"
            client.push_blob(path, digest, lambda done, total: sink.progress(label, done, total))
    except OSError as exc:
        raise BadRequestError(f"cannot read {path}: {exc.strerror or exc}") from exc
    return digest
