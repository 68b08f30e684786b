"""Timings as pandas tables: one row a call, seconds and tokens per second, ready to plot.

pandas is loaded when the first table is made, not before: a kernel that only chats need not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ollama_nb.client.results import Record, history

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from ollama_nb.cli.text import Table
    from ollama_nb.client.results import Result, Timings

__all__ = ["COLUMNS", "frame", "table_frame"]

_OF_CALL: Final = ("kind", "model", "started", "ok", "error")
_OF_TIME: Final = (
    "total_s",
    "load_s",
    "prompt_s",
    "eval_s",
    "first_token_s",
    "elapsed_s",
    "prompt_tokens",
    "tokens",
    "prompt_tokens_per_s",
    "tokens_per_s",
)

COLUMNS: Final = (*_OF_CALL, *_OF_TIME)
"""The columns of ``frame``: ``_s`` are seconds, ``first_token_s`` and ``elapsed_s`` as the client saw them."""


def frame(calls: Iterable[Record | Result] = history) -> pd.DataFrame:
    """Calls as a table with ``COLUMNS``: the session's history, or answers that were kept.

    Durations are seconds, speeds tokens per second, absent where nothing was measured. An answer does not know when
    it was asked for, so ``started`` is empty for it.
    """
    import pandas as pd  # noqa: PLC0415 - see above

    table = pd.DataFrame([_row(call) for call in calls], columns=list(COLUMNS))
    # Written down, so that a column with nothing in it is a column of numbers, too.
    floats = [name for name in _OF_TIME if name.endswith("_s")]
    types: dict[str, Any] = dict.fromkeys(floats, "float64") | {"prompt_tokens": "int64", "tokens": "int64"}
    return table.astype({**types, "ok": "bool"}).assign(started=pd.to_datetime(table["started"], utc=True))


def table_frame(table: Table) -> pd.DataFrame:
    """A command's table as a data frame: the values themselves, sizes in bytes and times in UTC."""
    import pandas as pd  # noqa: PLC0415 - see above

    return pd.DataFrame(list(table.rows), columns=[column.field for column in table.columns])


def _row(call: Record | Result) -> tuple[object, ...]:
    if isinstance(call, Record):
        return (call.kind, call.model, call.started, call.ok, call.error, *_times(call.timings))
    kind = type(call).__name__.removesuffix("Result").lower()
    error = "interrupted" if call.done_reason == "interrupted" else None
    return (kind, call.model, None, error is None, error, *_times(call.timings))


def _times(timings: Timings) -> tuple[object, ...]:
    return (
        timings.total_seconds,
        timings.load_seconds,
        timings.prompt_eval_seconds,
        timings.eval_seconds,
        timings.time_to_first_token,
        timings.elapsed_seconds,
        timings.prompt_eval_count,
        timings.eval_count,
        timings.prompt_tokens_per_second,
        timings.tokens_per_second,
    )
