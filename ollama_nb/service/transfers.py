"""Pulling and pushing models: this version checks what is asked and says that it moves nothing yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_nb.wire.errors import BadRequestError, NotImplementedYetError
from ollama_nb.wire.names import InvalidNameError, parse_name

if TYPE_CHECKING:
    from ollama_nb.wire.models import PullRequest, PushRequest

__all__ = ["pull", "push"]


async def pull(request: PullRequest) -> None:
    """``/api/pull``; raises ``BadRequestError`` for a name that is none, else ``NotImplementedYetError``."""
    _check_name(request.model or request.name)
    raise NotImplementedYetError(
        "pulling models is not supported by this version, which cannot download",
        hint="download a GGUF file yourself and create the model from it: upload it to /api/blobs, name its digest in "
        'the "files" of /api/create (ollama-nb create NAME --from FILE does both)',
    )


async def push(request: PushRequest) -> None:
    """``/api/push``; raises ``BadRequestError`` for a name that is none, else ``NotImplementedYetError``."""
    text = request.model or request.name
    if not text:
        raise BadRequestError("model is required")
    _check_name(text)
    raise NotImplementedYetError(
        "pushing models is not supported by this version, which cannot upload",
        hint="share the GGUF file and the text that /api/show gives as modelfile",
    )


def _check_name(text: str) -> None:
    try:
        parse_name(text)
    except InvalidNameError as error:
        raise BadRequestError("invalid model name") from error
