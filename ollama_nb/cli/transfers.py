"""``pull`` and ``push``: a model from its registry or to it, told blob by blob while it is on its way.

The server does the work; these commands show its steps, and say what has come of it. A transfer that the user breaks
off is not lost: what has arrived stays where it is.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from ollama_nb.cli.progress import Tally
from ollama_nb.cli.session import Interrupted, tell
from ollama_nb.wire.errors import OllamaError
from ollama_nb.wire.names import DEFAULT_HOST, DEFAULT_TAG, parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ollama_nb.cli.session import Session, Sink
    from ollama_nb.client.models import Progress

__all__ = ["model_page", "pull", "push"]

_NO_RIGHT: Final = "you are not authorized to push to this namespace, create the model under a namespace you own"
"""What Ollama's command says for a registry's ``access denied``."""

insecure_option = click.option("--insecure", is_flag=True, help="Allow a registry without TLS.")


@click.command("pull")
@click.argument("model")
@insecure_option
@click.pass_obj
def pull(session: Session, model: str, *, insecure: bool) -> None:
    """Fetch MODEL from its registry; what is here already does not come again."""
    with (
        session.connect() as client,
        _resumable("the next pull of this model goes on where this one stopped."),
        client.pull(model, insecure=insecure) as steps,
    ):
        told = _follow(steps, session.sink)
    session.sink.done(f"pulled {model}: {told}")


@click.command("push")
@click.argument("model")
@insecure_option
@click.pass_obj
def push(session: Session, model: str, *, insecure: bool) -> None:
    """Send MODEL to the registry that its name says; what is there already is not sent again."""
    try:
        with (
            session.connect() as client,
            _resumable("the next push of this model sends what the registry does not have yet."),
            client.push(model, insecure=insecure) as steps,
        ):
            told = _follow(steps, session.sink)
    except OllamaError as error:
        if "access denied" in error.message:
            raise OllamaError(_NO_RIGHT, status=error.status, hint=error.hint) from error
        raise
    session.sink.done(f"pushed {model}: {told}")
    if page := model_page(model):
        session.sink.line(f"\nYou can find your model at:\n\n\t{page}")


def model_page(model: str) -> str | None:
    """Where a pushed model is shown; ``None`` if its registry is not Ollama's own."""
    name = parse_name(model)
    if name.host.lower() != DEFAULT_HOST:
        return None
    return f"https://ollama.com/{name.short.removesuffix(f':{DEFAULT_TAG}')}"


def _follow(steps: Iterable[Progress], sink: Sink) -> str:
    """Show every step; what they add up to."""
    began, tally = time.monotonic(), Tally()
    for step in steps:
        tally.add(step)
        tell(step, sink)
    return tally.text(time.monotonic() - began)


@contextmanager
def _resumable(consolation: str) -> Iterator[None]:
    """Whoever interrupts what is inside learns that it was not for nothing."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(consolation) from None
