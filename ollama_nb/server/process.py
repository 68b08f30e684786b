"""Starting and stopping the server, the same way inside Jupyter and alone: store, scheduler, port, announcement."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Final

from ollama_nb.client.discovery import announce, withdraw
from ollama_nb.server.listener import Listener, open_listener

if TYPE_CHECKING:
    from pathlib import Path

    from ollama_nb.service.runtime import Runtime

__all__ = ["ServerProcess"]

log = logging.getLogger(__name__)

ADDRESS_VARIABLE = "OLLAMA_NB_ADDRESS"
HOST_VARIABLE = "OLLAMA_HOST"
"""Set in our own environment, from which kernels inherit them; the second one is what other clients look at."""

_LAST_WORDS: Final = 2.0
"""Seconds in which clients are told why their answers end."""


class ServerProcess:
    """A runtime with its stand-alone port. ``start`` and ``close`` belong to one event loop."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.listener: Listener | None = None
        self._announcement: Path | None = None
        self._environment: dict[str, str | None] = {}

    async def start(self, *, fallback: bool) -> str:
        """Open the store and the port, tell kernels where; the URL.

        ``fallback`` takes a free port where the wanted one is taken. Raises ``ConflictError`` if none can be had.
        """
        await self.runtime.start()
        self.listener = open_listener(self.runtime, fallback=fallback)
        url = self.listener.url
        self._export(ADDRESS_VARIABLE, url)
        if self.runtime.settings.host.client_url != url:
            # Another port than was asked for: a kernel that took OLLAMA_HOST, or the default, at its word would
            # find nobody there, or somebody else.
            self._export(HOST_VARIABLE, url)
        try:
            self._announcement = announce(url, self.listener.token)
        except OSError as error:
            log.warning("cannot write the runtime file (%s): kernels elsewhere must be told %s", error, url)
        log.info("Listening on %s (version %s)", url, self.runtime.version)
        return url

    async def close(self) -> None:
        """Withdraw the announcement, close the port, end the models. Safe to call twice."""
        if self._announcement is not None:
            withdraw(self._announcement)
            self._announcement = None
        with contextlib.ExitStack() as stack:
            stack.callback(self._restore_environment)
            listener, self.listener = self.listener, None
            if listener is not None:
                listener.server.stop()
            await self.runtime.close()
            if answering := list(filter(None, self.runtime.answering)):
                await asyncio.wait(answering, timeout=_LAST_WORDS)
            if listener is not None:
                await listener.close()

    def _export(self, name: str, value: str) -> None:
        self._environment.setdefault(name, os.environ.get(name))
        os.environ[name] = value

    def _restore_environment(self) -> None:
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._environment.clear()
