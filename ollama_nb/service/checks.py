"""What a request to a model has to be before anything is loaded for it, with Ollama's errors where it is not.

Every check raises; none changes anything. The order in which they are made is the order of the use cases.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.gotemplate import TemplateError
from ollama_nb.runner.messages import MAX_TOP_LOGPROBS
from ollama_nb.service.resolve import ResolvedModel, resolve
from ollama_nb.wire.errors import BadRequestError, NotFoundError, OllamaError
from ollama_nb.wire.gostrings import quote
from ollama_nb.wire.names import InvalidNameError, parse_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ollama_nb.prompt.render import Think
    from ollama_nb.service.runtime import Runtime
    from ollama_nb.wire.native import ChatRequest, GenerateRequest

__all__ = [
    "blamed_on_request",
    "chat_missing",
    "check_logprobs",
    "find",
    "parse_think",
    "refuse_images",
    "require",
    "wanted",
]

_THINK_LEVELS: Final = ("high", "medium", "low", "max")


async def find(runtime: Runtime, text: str, missing: Callable[[], Exception]) -> ResolvedModel:
    """The model of a request, with the route's own error where there is none."""
    try:
        return await resolve(runtime, parse_name(text))
    except (InvalidNameError, NotFoundError) as error:
        raise missing() from error


def chat_missing(model: str, *, unload: bool) -> Callable[[], Exception]:
    """What ``/api/chat`` says of a model that is not there."""

    def missing() -> Exception:
        if unload:
            return NotFoundError(f"model '{model}' not found")
        try:
            parse_name(model)
        except InvalidNameError:
            return BadRequestError("model is required")
        return NotFoundError(f"model {quote(model)} not found, try pulling it first")

    return missing


def parse_think(value: object) -> Think:
    """The ``think`` of a request: true, false, a level, or null for not said."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value in _THINK_LEVELS:
        return value
    said = value if isinstance(value, str) else type(value).__name__
    raise BadRequestError(f'invalid think value: "{said}" (must be "high", "medium", "low", "max", true, or false)')


def wanted(think: Think, *, tools: object = None, suffix: str = "") -> list[str]:
    """The capabilities that a request asks for beyond completion, in the order that Ollama names them."""
    asked = (("tools", bool(tools)), ("insert", bool(suffix)), ("thinking", bool(think)))
    return [name for name, wanted in asked if wanted]


def require(resolved: ResolvedModel, model: str, *, verb: str, wanted: list[str]) -> None:
    """Refuse what the model cannot do; ``verb`` is what completion is called here."""
    capabilities = resolved.capabilities
    if "completion" not in capabilities:
        raise BadRequestError(f"{quote(model)} does not support {verb}")
    missing = [name for name in wanted if name not in capabilities]
    if not missing:
        return
    text = f"{resolved.stored.name.full} does not support " + "\n".join(missing)
    if "thinking" in missing and resolved.thinks_by_name:
        text += ". Pull the model again to get the latest version with full thinking support"
    raise BadRequestError(text)


def refuse_images(resolved: ResolvedModel, images: list[str]) -> None:
    """Ollama would put the text ``[img-0]`` into the prompt of a model that cannot see; we say so instead."""
    if not images:
        return
    if "vision" not in resolved.capabilities:
        raise BadRequestError(f"{resolved.stored.name.full} does not support vision", hint="send text only")


def check_logprobs(request: ChatRequest | GenerateRequest) -> None:
    """As many alternatives a token as the API allows."""
    if not 0 <= request.top_logprobs <= MAX_TOP_LOGPROBS:
        raise BadRequestError(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")


@contextlib.contextmanager
def blamed_on_request(template: str) -> Iterator[None]:
    """Turns what goes wrong with a template into ``BadRequestError``, if the request brought one."""
    try:
        yield
    except OllamaError as error:
        if template and isinstance(error.__cause__, TemplateError):
            raise BadRequestError(error.message, hint=error.hint) from error
        raise
