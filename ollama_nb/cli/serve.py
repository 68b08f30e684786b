"""``ollama-nb serve``: the same server without Jupyter.

The only command that runs a server instead of talking to one, hence the only module here that imports it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from ollama_nb.settings import SETTINGS, Settings
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["serve_command"]


def serve_command() -> click.Command:
    """The command, with one option for every setting of the table."""
    options: list[click.Parameter] = [
        click.Option([f"--{row.field.replace('_', '-')}", row.field], help=f"{row.help} [{row.name}]", metavar="VALUE")
        for row in SETTINGS
    ]
    options.append(
        click.Option(
            ["--exit-on-stdin-close"], is_flag=True, help="End when standard input closes, with the one who started us."
        )
    )
    return click.Command("serve", callback=_serve, params=options, help="Start the server (without Jupyter).")


def _serve(*, exit_on_stdin_close: bool, **chosen: str | None) -> None:
    overrides = {field: value for field, value in chosen.items() if value is not None}
    settings = Settings.resolve(overrides=overrides)
    logging.basicConfig(
        stream=sys.stderr, level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    try:
        asyncio.run(_run(settings, exit_on_stdin_close=exit_on_stdin_close))
    except OllamaError as error:
        raise click.ClickException(error.message + (f"\n{error.hint}" if error.hint else "")) from error


async def _run(settings: Settings, *, exit_on_stdin_close: bool) -> None:
    # Imported here: the other commands, and the magics with them, must not load a server.
    from ollama_nb.server.process import ServerProcess  # noqa: PLC0415
    from ollama_nb.service.runtime import Runtime  # noqa: PLC0415

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        _on_signal(loop, number, stopping.set)
    if exit_on_stdin_close:
        threading.Thread(target=_watch_stdin, args=(loop, stopping), name="stdin", daemon=True).start()
    process = ServerProcess(Runtime(settings))
    try:
        await process.start(fallback=False)
        await stopping.wait()
    finally:
        await process.close()


def _on_signal(loop: asyncio.AbstractEventLoop, number: int, stop: Callable[[], Any]) -> None:
    try:
        loop.add_signal_handler(number, stop)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def _watch_stdin(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(stopping.set)
