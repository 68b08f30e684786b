"""Known chat formats: the Go templates and stop lists that Ollama puts beside a GGUF file whose Jinja it knows.

Ollama compares the text of the Jinja with texts that it has stored. Here the Jinja is known by what it does: a few
short conversations go through it and through each Go template, and the format that says the same is the one. Marks
of begin and end (BOS, EOS) and white space do not count, and a system text that the Jinja puts in of its own accord
is found and handed on. A Jinja that can do more than the known formats (tools, thinking, images) is none of them.
Making layers of what is found is left to ``service/create``.

The templates in ``templates/`` are Ollama's (MIT, see the LICENSE there), as are the stop lists.
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Final, TypeAlias

from ollama_nb.prompt.render import render_prompt
from ollama_nb.prompt.sandbox import SandboxedTemplate
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["KnownTemplate", "known_templates", "recognise"]

logger = logging.getLogger(__name__)

# Where two formats say the same, the earlier one is meant: a Jinja that takes no system text may be Mistral's or
# Llama 2's, Gemma's or Gemma 3's.
_STOPS: Final[Mapping[str, tuple[str, ...]]] = {
    "alfred": ("<start_system>", "<end_message>", "<start_user>", "<start_assistant>"),
    "alpaca": ("### Instruction:", "### Response"),
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "chatqa": ("System:", "User:", "Assistant:", "<|begin_of_text|>"),
    "codellama-70b-instruct": ("Source:", "Destination:", "<step>"),
    "command-r": ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    "falcon-instruct": ("User:", "Assistant:"),
    "gemma-instruct": ("<start_of_turn>", "<end_of_turn>"),
    "gemma3-instruct": ("<end_of_turn>",),
    "granite-instruct": ("System:", "Question:", "Answer:"),
    "llama3-instruct": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "magicoder": ("@@ Instruction", "@@ Response"),
    "mistral-instruct": ("<|im_start|>", "<|im_end|>"),  # Ollama's list, though Mistral has no such marks
    "llama2-chat": ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
    "openchat": ("<|end_of_turn|>",),
    "phi-3": ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
    "solar-instruct": ("### System:", "### User:", "### Assistant"),
    "starcoder2-instruct": ("### Instruction", "### Response", "<|endoftext|>"),
    "vicuna": ("USER:", "ASSISTANT:"),
    "zephyr": ("<|system|>", "</s>", "<|user|>", "<|assistant|>"),
}

_MAX_SOURCE: Final = 1 << 16
"""Characters of a Jinja template; those of the known formats have at most a few thousand."""

_MAX_TEXT: Final = 1 << 16
"""Characters of what a template makes of a probe; more than a default system text of any known model."""

_CAN_MORE: Final = re.compile(r"tool|think|reasoning|image|vision|audio|video|strftime_now", re.IGNORECASE)
"""Signs of what the Go templates do not do, and of a text that is another one every day."""

_SYSTEM, _QUESTION, _ANSWER, _NEXT = "probe-system", "probe-question", "probe-answer", "probe-next"
_SHORT: Final = (("user", _QUESTION),)
_LONG: Final = (("user", _QUESTION), ("assistant", _ANSWER), ("user", _NEXT))
_LAST_WORDS: Final = (_QUESTION, _NEXT)

_NO_SYSTEM: Final = "<<SYS>><</SYS>>"
"""Ollama's template for Llama 2 frames the system text even where there is none; Jinja templates do not."""

_Messages: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class KnownTemplate:
    """A known format: its Go template and the texts at which an answer ends.

    ``default_system`` is what the Jinja that was recognised says where a conversation has no system text; the Go
    templates say nothing of their own, so it must become the model's SYSTEM or is lost.
    """

    name: str
    template: str
    stop: tuple[str, ...]
    default_system: str = ""


@dataclass(frozen=True, slots=True)
class _Prompts:
    """What a template makes of the short and the long conversation, without a system text and with one.

    A text with system is None where the template refuses it, or leaves the system text out.
    """

    plain: tuple[str, str]
    told: tuple[str | None, str | None]


def known_templates() -> tuple[KnownTemplate, ...]:
    """All known formats."""
    return tuple(known for known, _ in _known())


def recognise(chat_template: str, *, bos: str = "", eos: str = "") -> KnownTemplate | None:
    """The format that a Jinja template writes, or None for one that is not known or can do more.

    ``bos`` and ``eos`` are the texts of the model's tokens. Never raises: what fails is not known.
    """
    if len(chat_template) > _MAX_SOURCE or _CAN_MORE.search(chat_template):
        return None
    asked = _ask_jinja(chat_template, bos, eos)
    if asked is None:
        return None
    found = [match for known, prompts in _known() if (match := _compare(known, prompts, asked, (bos, eos)))]
    # White space does not decide, but among formats that are alike otherwise it shows which one is meant.
    return max(found, key=lambda match: match[0])[1] if found else None


@functools.cache
def _known() -> tuple[tuple[KnownTemplate, _Prompts], ...]:
    folder = resources.files("ollama_nb.prompt") / "templates"
    entries = []
    for name, stop in _STOPS.items():
        source = (folder / f"{name}.gotmpl").read_text(encoding="utf-8")
        prompts = _ask(functools.partial(_render_go, source))
        if prompts is None:
            raise RuntimeError(f"the template {name} does not take a question")
        entries.append((KnownTemplate(name, source, stop), prompts))
    return tuple(entries)


def _render_go(source: str, messages: _Messages) -> str:
    return render_prompt(template=source, messages=[{"role": role, "content": text} for role, text in messages])


def _ask_jinja(source: str, bos: str, eos: str) -> _Prompts | None:
    """What a Jinja template makes of the probes; None for one that does not even take a question."""
    template: SandboxedTemplate | None = None

    def render(messages: _Messages) -> str | None:
        nonlocal template
        try:
            template = template or SandboxedTemplate(source, bos=bos, eos=eos)
            text = template.render([{"role": role, "content": text} for role, text in messages])
        except OllamaError as error:
            logger.debug("a chat template fails on a probe: %s", error)
            return None
        return text if len(text) <= _MAX_TEXT else None

    return _ask(render)


def _ask(render: Callable[[_Messages], str | None]) -> _Prompts | None:
    short, long = render(_SHORT), None
    if short is not None:
        long = render(_LONG)
    if short is None or long is None:
        return None
    texts = (render((("system", _SYSTEM), *messages)) for messages in (_SHORT, _LONG))
    told_short, told_long = (text if text and _SYSTEM in text else None for text in texts)
    return _Prompts((short, long), (told_short, told_long))


def _compare(
    known: KnownTemplate, go: _Prompts, jinja: _Prompts, marks: tuple[str, str]
) -> tuple[int, KnownTemplate] | None:
    """The format with the default system text of the Jinja, and in how many texts even white space is equal.

    None where the two say different things.
    """
    plain = [_bare(text, marks) for text in go.plain]
    told = [_bare(text, marks) if text is not None else "" for text in go.told]
    asked = [_bare(text, marks) for text in jinja.plain]
    default = ""
    if not _agree(asked[0], plain[0], _QUESTION):
        default = _system_in(asked[0], told[0])
        if not default:
            return None
        plain = [text.replace(_SYSTEM, default) for text in told]
    pairs = list(zip(asked, plain, _LAST_WORDS, strict=True))
    for text, ours, last in zip(jinja.told, told, _LAST_WORDS, strict=True):
        if text is not None:
            pairs.append((_bare(text, marks), ours, last))
    if not all(_agree(theirs, ours, last) for theirs, ours, last in pairs):
        return None
    exact = sum(theirs.strip() == ours.strip() for theirs, ours, _ in pairs)
    return exact, replace(known, default_system=default)


def _agree(jinja: str, go: str, last: str) -> bool:
    """Whether two prompts say the same, but for white space.

    Some Jinja templates leave it to the model to open its own turn; there the Go template is the better one.
    """
    theirs, ours = _solid(jinja), _solid(go).replace(_NO_SYSTEM, "")
    return theirs == ours or (ours.startswith(theirs) and last in theirs)


def _system_in(jinja: str, go: str) -> str:
    """The text that stands in a prompt of the Jinja where that of the Go template has the system text, or ""."""
    before, found, after = _solid(go).partition(_SYSTEM)
    theirs = _solid(jinja)
    if not (found and theirs.startswith(before) and theirs.endswith(after)):
        return ""
    inside = [position for position, character in enumerate(jinja) if not character.isspace()]
    inside = inside[len(before) : len(theirs) - len(after)]
    return jinja[inside[0] : inside[-1] + 1] if inside else ""


def _bare(text: str, marks: tuple[str, str]) -> str:
    """Without BOS and EOS, which templates write or leave to the tokenizer as they like."""
    for mark in marks:
        if mark:
            text = text.replace(mark, "")
    return text


def _solid(text: str) -> str:
    return "".join(text.split())
