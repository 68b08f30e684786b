"""Starting and stopping the server, the same way inside Jupyter and alone: store, scheduler, port, announcement."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from ollama_nb.client.discovery import announce, withdraw
from ollama_nb.server.listener import Listener, open_listener

if TYPE_CHECKING:
    from pathlib import Path

    from ollama_nb.service.runtime import Runtime

__all__ = ["ServerProcess"]

log = logging.getLogger(__name__)

ADDRESS_VARIABLE = "OLLAMA_NB_ADDRESS"
"""Set in our own environment, from which kernels inherit it."""


class ServerProcess:
    """A runtime with its stand-alone port. ``start`` and ``close`` belong to one event loop."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.listener: Listener | None = None
        self._announcement: Path | None = None

    async def start(self, *, fallback: bool) -> str:
        """Open the store and the port, tell kernels where; the URL.

        ``fallback`` takes a free port where the wanted one is taken. Raises ``ConflictError`` if none can be had.
        """
        await self.runtime.start()
        self.listener = open_listener(self.runtime, fallback=fallback)
        url = self.listener.url
        os.environ[ADDRESS_VARIABLE] = url
        try:
            self._announcement = announce(url)
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
            stack.callback(os.environ.pop, ADDRESS_VARIABLE, None)
            listener, self.listener = self.listener, None
            if listener is not None:
                listener.server.stop()
            await self.runtime.close()
            if listener is not None:
                await listener.close()
