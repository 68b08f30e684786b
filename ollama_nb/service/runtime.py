"""What one server process owns: settings, store, scheduler, transfers. Made once, passed to every use case."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ollama_nb import __version__
from ollama_nb.runner.devices import available_memory
from ollama_nb.runner.scheduler import Limits, Scheduler
from ollama_nb.service.transfers import Transfers
from ollama_nb.store.models import ModelStore

if TYPE_CHECKING:
    from ollama_nb.settings import Settings

__all__ = ["Runtime"]

log = logging.getLogger(__name__)


class Runtime:
    """One of each, however many doors lead to them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.version = __version__
        self.store = ModelStore(settings.models, noprune=settings.noprune)
        self.transfers = Transfers(settings, self.store.blobs)
        self.answering: set[asyncio.Task[object] | None] = set()
        """Who is being answered; at the end each is told why there is no more."""
        self.scheduler = Scheduler(
            Limits(
                num_parallel=settings.num_parallel,
                max_loaded_models=settings.max_loaded_models,
                max_queue=settings.max_queue,
                keep_alive=settings.keep_alive,
                load_timeout=settings.load_timeout,
                flash_attention=settings.flash_attention,
                cache_type=settings.kv_cache_type or "f16",
            ),
            memory=available_memory,
        )

    async def start(self) -> None:
        """Open the store: make its folders, tidy what an earlier run left."""
        await asyncio.to_thread(self.store.open)
        log.info("models in %s", self.settings.models)

    async def close(self) -> None:
        """End every model's process and every transfer."""
        await self.transfers.close()
        await self.scheduler.close()
        self.store.close()
