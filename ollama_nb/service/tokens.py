"""From token ids to texts, with the vocabulary of a model, which is loaded for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_nb.service.checks import find

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ollama_nb.service.runtime import Runtime

__all__ = ["detokenized"]


async def detokenized(
    runtime: Runtime, model: str, lists: Sequence[list[int]], missing: Callable[[], Exception]
) -> list[str]:
    """The text of each list of token ids.

    Raises what ``missing`` gives where there is no such model, ``OllamaError`` (400) for ids that it does not have.
    """
    resolved = await find(runtime, model, missing)
    options = resolved.options(runtime.settings.context_length, {})
    spec = resolved.spec(options, runtime.settings.kv_cache_type or "f16")
    async with runtime.scheduler.lease(spec, None) as runner:
        return [await runner.child.detokenize(tokens) for tokens in lists]
