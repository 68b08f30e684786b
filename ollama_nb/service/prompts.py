"""The prompt of a request: rendered, cut to the model's context, and with the beginning of a call that is demanded.

A conversation that does not fit loses its oldest messages, as in Ollama, and the caller is told how many. What is
still too long is cut by the token in the model's process. Templates come from anywhere and may be slow: they run
beside the loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.bound import answer_grammar
from ollama_nb.prompt.conversation import generate_messages, plain, rest_from, rest_starts, tag_images, untagged
from ollama_nb.runner.messages import PROMPT_TOO_LONG
from ollama_nb.service.threads import in_template_thread
from ollama_nb.wire.errors import BadRequestError, OllamaError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from ollama_nb.prompt.driver import Driver
    from ollama_nb.prompt.formats import Format
    from ollama_nb.prompt.render import Think
    from ollama_nb.prompt.tools import Tool
    from ollama_nb.runner.scheduler import Runner
    from ollama_nb.service.resolve import ResolvedModel
    from ollama_nb.wire.native import GenerateRequest, Message

__all__ = ["Prompt", "bind", "chat_prompt", "generate_prompt"]

_ADDED_TOKENS: Final = 2
"""Tokens that a tokenizer may add to those of a text: a BOS, and a blank in front."""


@dataclass(frozen=True)
class Prompt:
    """The text that the model continues.

    ``images`` are files, for which its tags ``[img-0]``, ``[img-1]``… stand. ``opening`` is the end of it that belongs
    to the answer already: the beginning of a call, which ``grammar`` goes on with. ``dropped_messages`` were left out,
    ``dropped_count`` tokens with them.
    """

    text: str
    opening: str = ""
    grammar: str = ""
    images: tuple[bytes, ...] = ()
    dropped_messages: int = 0
    dropped_count: int = 0


async def chat_prompt(
    resolved: ResolvedModel,
    runner: Runner,
    driver: Driver,
    conversation: Sequence[Message],
    *,
    tools: Sequence[Tool],
    think: Think,
    truncate: bool,
    images: Mapping[str, bytes],
) -> Prompt:
    """The prompt of a conversation, with as many of its last messages as fit.

    ``images`` has the file for each image of the messages, by its base64. Raises ``BadRequestError`` if it does not
    fit and ``truncate`` is false, ``OllamaError`` if the template fails or an image cannot be read.
    """

    async def render(messages: Sequence[Message]) -> str:
        """The text of some of the messages."""
        text = await in_template_thread(lambda: driver.chat(plain(tag_images(messages)), tools=tools, think=think))
        return _without_bos(text, resolved, runner)

    async def count(messages: Sequence[Message], text: str) -> int:
        """The tokens of a rendered text, with those of its images in the place of their tags."""
        return len(await runner.child.tokenize(untagged(text) if images else text)) + look(messages)

    def look(messages: Sequence[Message]) -> int:
        """The tokens that the images of some messages take."""
        return sum(sizes[image] for message in messages for image in message.images)

    def shown(messages: Sequence[Message]) -> tuple[bytes, ...]:
        """The files of the images of some messages."""
        return tuple(images[image] for message in messages for image in message.images)

    sizes = dict(zip(images, await runner.child.measure(tuple(images.values())) if images else (), strict=True))
    whole = await render(conversation)
    limit = runner.child.info.num_ctx
    # A token is a byte at least, so that most prompts need not be counted.
    if len(whole.encode()) + look(conversation) + _ADDED_TOKENS <= limit or len(conversation) == 1:
        return Prompt(whole, images=shown(conversation))
    total = await count(conversation, whole)
    if total <= limit:
        return Prompt(whole, images=shown(conversation))
    if not truncate:
        raise BadRequestError(PROMPT_TOO_LONG)
    rest = await _longest_rest(conversation, render, count, limit)
    dropped = len(conversation) - len(rest.messages)
    images_left = shown(rest.messages)
    return Prompt(rest.text, images=images_left, dropped_messages=dropped, dropped_count=total - rest.count)


@dataclass(frozen=True)
class _Rest:
    """A rest of a conversation: which one of the possible, its messages, its text and how many tokens that has."""

    index: int
    messages: list[Message]
    text: str
    count: int


async def _longest_rest(
    conversation: Sequence[Message],
    render: Callable[[Sequence[Message]], Awaitable[str]],
    count: Callable[[Sequence[Message], str], Awaitable[int]],
    limit: int,
) -> _Rest:
    """The longest rest of at most ``limit`` tokens, or the shortest of all where not even that fits.

    Found in steps that double and are halved again, since every step renders and counts the whole of a rest.
    """
    starts = rest_starts(conversation)

    async def rest_at(index: int) -> _Rest:
        """A rest, or the next longer one that the template takes: some want a question first."""
        for longer, start in enumerate(starts[index:]):
            messages = rest_from(conversation, start)
            try:
                text = await render(messages)
            except OllamaError as error:
                refusal = error
                continue
            return _Rest(index + longer, messages, text, await count(messages, text))
        raise refusal

    best = await rest_at(0)
    step, too_long = 1, len(starts)
    while best.count <= limit and best.index + 1 < too_long:
        index = min(best.index + step, too_long - 1)
        try:
            rest = await rest_at(index)
            is_better = rest.count <= limit and rest.index < too_long
        except OllamaError:  # none of the longer ones is taken
            is_better = False
        if is_better:
            best, step = rest, 2 * step
        else:
            too_long, step = index, max(1, (index - best.index) // 2)
    return best


async def generate_prompt(
    resolved: ResolvedModel, runner: Runner, request: GenerateRequest, driver: Driver, think: Think
) -> Prompt:
    """The prompt of a single question as ``driver`` makes it; ``OllamaError`` if the template fails."""
    if request.suffix:
        text = await in_template_thread(lambda: driver.insert(request.prompt, request.suffix, think=think))
    else:
        conversation = generate_messages(
            request.prompt,
            system=request.system or resolved.stored.system or "",
            history=[] if request.context else resolved.history,
            images=request.images,
        )
        text = await in_template_thread(lambda: driver.chat(plain(conversation), think=think))
    text = _without_bos(text, resolved, runner)
    if request.context:
        text = await runner.child.detokenize(request.context) + text
    return Prompt(text)


def _demand_call(driver: Driver, prompt: Prompt, tools: Sequence[Tool]) -> Prompt:
    """The prompt with the beginning of a call behind it, and the grammar of one call of ``tools``.

    A template that lets the model think first has its thinking ended, since nothing but the call may follow.
    """
    text = prompt.text
    if driver.thinking and text.rstrip().endswith(driver.thinking[0]):
        text += f"\n{driver.thinking[1]}\n\n"
    opening = driver.calls.opening()
    return replace(prompt, text=text + opening, opening=opening, grammar=driver.calls.grammar(tools))


async def bind(
    driver: Driver,
    prompt: Prompt,
    form: Format | None,
    *,
    demanded: Sequence[Tool] = (),
    tools: Sequence[Tool] = (),
    think: Think = None,
) -> Prompt:
    """The prompt with what its answer has to keep to: a call that is demanded, else the format, else nothing.

    A model that thinks or calls tools may do so before it answers in a format.
    """
    if demanded:
        return await in_template_thread(lambda: _demand_call(driver, prompt, demanded))
    if form is None:
        return prompt
    grammar = await in_template_thread(lambda: answer_grammar(form, driver, prompt.text, tools=tools, think=think))
    return replace(prompt, grammar=grammar)


def _without_bos(text: str, resolved: ResolvedModel, runner: Runner) -> str:
    """Where the tokenizer puts BOS in front by itself, the one of the template would be one too many."""
    bos = resolved.bos
    return text.removeprefix(bos) if bos and runner.child.info.adds_bos else text
