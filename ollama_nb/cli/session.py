"""What every command works with: how to reach a server, where to tell its progress, and what several share.

Who makes a session decides how things look: ``main`` for a terminal, ``notebook.magics`` for a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import click

from ollama_nb.wire.parameters import Value, parse_assignments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ollama_nb.client import Client
    from ollama_nb.client.models import Progress

__all__ = ["Interrupted", "Session", "Sink", "parameters_option", "tell", "typed_parameters"]

_WARNING: Final = "warning: "


class Interrupted(KeyboardInterrupt):
    """The user has stopped a command; the text says what that means, where there is something to say."""


class Sink(Protocol):
    """Where a command tells what it does while it does it."""

    def line(self, text: str) -> None:
        """Something done, to be kept."""

    def warn(self, text: str) -> None:
        """Something the user should know that is no error."""

    def status(self, text: str) -> None:
        """A step has begun."""

    def progress(self, label: str, completed: int, total: int) -> None:
        """How far a transfer is, in bytes; several may be told in turn, each under its own label."""

    def done(self, text: str) -> None:
        """The work has ended well; the text sums it up, and may take the place of its steps."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with: how to reach the server, and where to tell its progress."""

    connect: Callable[[], Client]
    sink: Sink


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


def tell(step: Progress, sink: Sink) -> None:
    """One step of long work, where the user sees it."""
    if step.status.startswith(_WARNING):
        sink.warn(step.status)
    elif step.total:
        sink.progress(step.status, step.completed, step.total)
    else:
        sink.status(step.status)
