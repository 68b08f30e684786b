"""``-o VAR``: a name in the notebook that keeps what a command gives."""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["output_option"]

F = TypeVar("F", bound="Callable[..., Any]")


def output_option(what: str) -> Callable[[F], F]:
    """The option of a command, as ``output``; ``what`` it keeps stands in the help."""
    return click.option("-o", "--output", metavar="VAR", callback=_variable, help=f"A variable that keeps {what}.")


def _variable(_ctx: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise click.BadParameter(f"'{name}' is no name for a variable.")
    return name
