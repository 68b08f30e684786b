"""What a finished answer is: its text, its timings, and the session's history of calls.

Durations that the server measured are kept as sent, in nanoseconds; those that only the client can see (the time
until something could be read, the whole wait) are measured on this side of the connection. Tables of them are left
to ``notebook.timings``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, overload

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["ChatResult", "Chunk", "GenerateResult", "History", "Message", "Record", "Result", "Timings", "history"]

Message = Mapping[str, Any]
"""One message of a conversation: ``role``, ``content`` and what else Ollama's chat API knows."""

NS: Final = 1_000_000_000
"""Nanoseconds in a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where the time of one call went. Fields in ns and tokens; properties in seconds and tokens per second.

    ``total``, ``load``, ``prompt_eval`` and ``eval`` are the server's ``*_duration``. ``first_token`` and ``elapsed``
    are the client's: from sending the request to the first text, and to the end. ``None``: no text ever came.
    """

    total: int = 0
    load: int = 0
    prompt_eval: int = 0
    eval: int = 0
    prompt_eval_count: int = 0
    eval_count: int = 0
    first_token: int | None = None
    elapsed: int = 0

    @classmethod
    def read(cls, final: Mapping[str, Any], *, first_token: int | None, elapsed: int) -> Timings:
        """The timings in a reply's last object; what it does not have is 0."""
        return cls(
            total=final.get("total_duration") or 0,
            load=final.get("load_duration") or 0,
            prompt_eval=final.get("prompt_eval_duration") or 0,
            eval=final.get("eval_duration") or 0,
            prompt_eval_count=final.get("prompt_eval_count") or 0,
            eval_count=final.get("eval_count") or 0,
            first_token=first_token,
            elapsed=elapsed,
        )

    @property
    def total_seconds(self) -> float:
        """The server's whole time for the call."""
        return self.total / NS

    @property
    def load_seconds(self) -> float:
        """Time until the model was in memory."""
        return self.load / NS

    @property
    def prompt_eval_seconds(self) -> float:
        """Time for reading the prompt."""
        return self.prompt_eval / NS

    @property
    def eval_seconds(self) -> float:
        """Time for writing the answer."""
        return self.eval / NS

    @property
    def elapsed_seconds(self) -> float:
        """The whole wait, as the client saw it."""
        return self.elapsed / NS

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds until the first text arrived; ``None`` if none did."""
        return None if self.first_token is None else self.first_token / NS

    @property
    def prompt_tokens_per_second(self) -> float | None:
        """Speed of reading; ``None`` where the server measured no time."""
        return self.prompt_eval_count * NS / self.prompt_eval if self.prompt_eval else None

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of writing; ``None`` where the server measured no time."""
        return self.eval_count * NS / self.eval if self.eval else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of an answer while it is written: new text, new thinking, new tool calls."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    done: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished answer; printed, it is its text, and at the end of a cell it shows as Markdown.

    ``done_reason`` is the server's ``stop``, ``length``, …, or ``interrupted`` if the client broke off. ``raw`` is the
    reply's last object as it came.
    """

    text: str
    model: str
    timings: Timings
    thinking: str = ""
    done_reason: str = ""
    created_at: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def dropped(self) -> str:
        """What of the prompt did not fit into the context and was left out, as a sentence; empty if nothing was."""
        messages, tokens = (self.raw.get(f"prompt_dropped_{what}") or 0 for what in ("messages", "count"))
        if not messages and not tokens:
            return ""
        what = f"the oldest {messages} messages ({tokens} tokens)" if messages else f"{tokens} tokens of the prompt"
        if messages == 1:
            what = f"the oldest message ({tokens} tokens)"
        return f"{what} did not fit into the context and {'was' if messages == 1 else 'were'} left out"

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class ChatResult(Result):
    """An answer in a conversation. ``messages`` is the conversation so far, this answer included."""

    messages: tuple[Message, ...] = field(default=(), repr=False)
    tool_calls: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class GenerateResult(Result):
    """A completed prompt. ``context``: the token ids by which old clients continue, if the server sent them."""

    prompt: str = field(default="", repr=False)
    context: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One call in the session's history; ``started`` in UTC. ``error`` is ``None`` if it ended well."""

    kind: str
    model: str
    started: datetime
    timings: Timings
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the call ended well."""
        return self.error is None


class History(Sequence[Record]):
    """The last calls of this session, oldest first; beyond ``limit`` the oldest are forgotten."""

    def __init__(self, limit: int = 1000) -> None:
        self._records: deque[Record] = deque(maxlen=limit)

    def append(self, record: Record) -> None:
        """Remember a call."""
        self._records.append(record)

    def clear(self) -> None:
        """Forget all calls."""
        self._records.clear()

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return list(self._records)[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(tuple(self._records))


history: Final = History()
"""The calls of this process, whichever client made them: what ``%ollama timings`` shows."""
