"""``create``: a model from a Modelfile, as with Ollama, or from one file or model that is named on the line.

The options that say what a Modelfile could say (``-s``, ``-t``, ``-p``) go before it. What a Modelfile's paths mean
and how files reach the server is left to the client.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

import click

from ollama_nb.cli.session import parameters_option, tell, typed_parameters
from ollama_nb.client.modelfolder import expand_path
from ollama_nb.wire.errors import NotFoundError
from ollama_nb.wire.modelfile import Modelfile

if TYPE_CHECKING:
    from ollama_nb.cli.session import Session
    from ollama_nb.client.protocol import CreateFields
    from ollama_nb.client.recipe import ModelfileSource

__all__ = ["CreateOptions", "create", "named_modelfile", "run_create"]

_DEFAULT: Final = "Modelfile"


class CreateOptions(TypedDict):
    """The options that go before a Modelfile."""

    quantize: str | None
    system: str | None
    template: str | None
    assignments: tuple[str, ...]


@click.command("create")
@click.argument("model")
@click.option("-f", "--file", "file", metavar="FILE", help="The Modelfile; else ./Modelfile, else one that says FROM .")
@click.option("--from", "source", metavar="PATH|MODEL", help="No Modelfile: a GGUF file, a model's folder, or a model.")
@click.option("-q", "--quantize", metavar="TYPE", help="Make the weights smaller: q4_K_M, q4_K_S or q8_0.")
@click.option("-s", "--system", help="The system message.")
@click.option("-t", "--template", metavar="TEXT", help="The prompt's template, as after a Modelfile's TEMPLATE.")
@parameters_option
@click.pass_obj
def create(
    session: Session, model: str, file: str | None, source: str | None, **options: Unpack[CreateOptions]
) -> None:
    """Create MODEL from a Modelfile; -s, -t and -p go before what it says."""
    run_create(session, model, named_modelfile(file, source), **options)


def run_create(session: Session, model: str, modelfile: ModelfileSource, **options: Unpack[CreateOptions]) -> None:
    """Create a model, with its steps told to the session's sink."""
    fields: CreateFields = {
        "quantize": options["quantize"],
        "system": options["system"],
        "template": options["template"],
        "parameters": typed_parameters(options["assignments"], session.sink) or None,
    }
    with session.connect() as client, client.create(model, modelfile, **fields) as steps:
        for step in steps:
            tell(step, session.sink)


def named_modelfile(file: str | None, source: str | None) -> ModelfileSource:
    """The Modelfile that ``-f`` or ``--from`` mean, or what is assumed without them."""
    if file is not None and source is not None:
        raise click.UsageError("Give a Modelfile with -f, or what to build on with --from, not both.")
    if source is not None:
        return Modelfile(source)
    path = expand_path(file or _DEFAULT, Path())
    if path.is_file():
        return path
    if file is not None:
        raise NotFoundError("specified Modelfile wasn't found", hint=f"There is no file {path}.")
    return Modelfile(".")
