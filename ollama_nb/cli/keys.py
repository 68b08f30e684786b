"""``ollama-nb key``: the API keys of the stand-alone port, made and revoked where the server runs.

No server is asked: the commands change the user's key file, and a running server notices by itself. That is why they
are the only ones here that know the store, and why they are in the terminal only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ollama_nb.cli.text import Column, Table, relative_time
from ollama_nb.settings import Settings

if TYPE_CHECKING:
    from ollama_nb.cli.session import Session
    from ollama_nb.store.keys import KeyFile

__all__ = ["key_command"]


def key_command() -> click.Group:
    """The group with its three commands."""
    group = click.Group("key", help="Make, list and revoke the API keys of this user's servers.", no_args_is_help=False)
    for command in (create, list_keys, revoke):
        group.add_command(command)
    return group


def _key_file() -> KeyFile:
    # Imported here: the other commands, and the magics with them, need no store.
    from ollama_nb.store.keys import KeyFile  # noqa: PLC0415

    return KeyFile(Settings.resolve().nb_home)


@click.command("create")
@click.argument("name", default="")
@click.pass_obj
def create(session: Session, name: str) -> str:
    """Make a key, called NAME, and show it, this once.

    As long as there is a key, the stand-alone port asks for one: `Authorization: Bearer KEY` or `x-api-key: KEY`.
    Clients take it from OLLAMA_API_KEY.
    """
    text, key = _key_file().create(name)
    session.sink.warn(
        f"Key {key.name or key.id}. It is shown this once; clients take it from OLLAMA_API_KEY.\n"
        "The port of this user's servers asks for a key from now on."
    )
    return text


@click.command("list")
def list_keys() -> Table:
    """List the keys: what they are called, never what they are."""
    columns = (Column("ID", "id"), Column("NAME", "name"), Column("CREATED", "created", relative_time))
    return Table(columns, tuple((key.id, key.name, key.created) for key in _key_file().entries()))


@click.command("revoke")
@click.argument("name_or_id")
@click.pass_obj
def revoke(session: Session, name_or_id: str) -> None:
    """Make a key useless, at once."""
    file = _key_file()
    key = file.revoke(name_or_id)
    session.sink.line(f"revoked '{key.name or key.id}'")
    if not file.entries():
        session.sink.warn("There is no key left: servers on loopback are open again to every program on this machine.")
