"""The Jupyter Server extension: the API under Jupyter's own URL and on a port of its own, one runtime behind both.

Every setting is a trait (``c.OllamaExtension.num_parallel = 8``, ``--OllamaExtension.num_parallel=8``); what no
trait says comes from the environment.
"""

from __future__ import annotations

import logging
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import Any as AnyTrait
from traitlets import Bool

from ollama_nb.server.base import JupyterBase
from ollama_nb.server.process import ServerProcess
from ollama_nb.server.routes import mount
from ollama_nb.service.runtime import Runtime
from ollama_nb.settings import SETTINGS, Settings
from ollama_nb.wire.errors import OllamaError

__all__ = ["OllamaExtension"]

PREFIX = "ollama"


def _traits() -> dict[str, AnyTrait]:
    """One trait a setting; unset ones leave the word to the environment. Texts are parsed as variables are."""
    return {
        row.field: AnyTrait(None, allow_none=True, help=f"{row.help} (as {row.name})").tag(config=True)
        for row in SETTINGS
    }


class OllamaExtension(ExtensionApp):  # type: ignore[misc]
    """Ollama's API inside Jupyter Server."""

    name = "ollama_nb"
    extension_url = f"/{PREFIX}/"
    load_other_extensions = True

    locals().update(_traits())

    listen = Bool(
        default_value=True, help="Whether to open the stand-alone port (OLLAMA_HOST) beside Jupyter's own."
    ).tag(config=True)

    _process: ServerProcess | None = None

    def initialize_settings(self) -> None:
        """Make the runtime out of traits and environment."""
        chosen = {row.field: getattr(self, row.field) for row in SETTINGS}
        overrides = {field: value for field, value in chosen.items() if value is not None}
        settings = Settings.resolve(overrides=overrides)
        _log_like(self.log, settings.debug)
        self._process = ServerProcess(Runtime(settings))

    def initialize_handlers(self) -> None:
        """Mount the route table under ``{base_url}ollama``."""
        # Jupyter puts its base_url in front by itself.
        self.handlers.extend(mount(JupyterBase, self._running.runtime, f"/{PREFIX}"))

    @property
    def _running(self) -> ServerProcess:
        if self._process is None:
            raise RuntimeError("the extension has not been initialized")
        return self._process

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:  # noqa: ANN401, ARG002 - Jupyter's hook
        try:
            if self.listen:
                url = await self._running.start(fallback=True)
                self.log.info("ollama_nb | API on %s and under %s", url, self.extension_url)
            else:
                await self._running.runtime.start()
        except OllamaError as error:
            self.log.error("ollama_nb | %s. %s", error.message, error.hint or "")  # noqa: TRY400 - one clear line

    async def stop_extension(self) -> None:
        """End every model and close the port."""
        await self._running.close()

    def current_activity(self) -> int | None:
        """How many requests are being answered: Jupyter does not shut down while there are any."""
        if self._process is None:
            return None
        return sum(runner.leases for runner in self._process.runtime.scheduler.runners()) or None


def _log_like(parent: Any, level: int) -> None:  # noqa: ANN401 - a logger or its adapter
    """Our loggers speak through Jupyter's handlers."""
    logger = logging.getLogger("ollama_nb")
    logger.setLevel(level)
    logger.handlers = list(getattr(parent, "handlers", []))
    logger.propagate = not logger.handlers
