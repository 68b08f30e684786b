"""How values look in a terminal: sizes, times, tables and a model's card, in the formats of Ollama's command line.

Pure: values in, text out. Which values, is left to ``commands``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.client.models import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ollama_nb.client.models import ModelCard

__all__ = ["Column", "Table", "card_text", "human_size", "processor", "relative_time", "until"]

_GAP: Final = " " * 4
_FAR: Final = timedelta(days=20 * 365)
_UNITS: Final = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
_WHOLE_FROM: Final = 10
_FIRST_LINES: Final = 2
_ARRAY_WIDTH: Final = 10


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title in the terminal, its name in a data frame, and how its values are written out."""

    title: str
    field: str
    show: Callable[[Any], str] = str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of values (sizes in bytes, times as datetimes), which ``text`` writes out."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[object, ...], ...]

    def text(self) -> str:
        """Columns padded with four spaces, no borders."""
        head = [column.title for column in self.columns]
        body = [[column.show(value) for column, value in zip(self.columns, row, strict=True)] for row in self.rows]
        return _aligned([head, *body])


def human_size(size: int) -> str:
    """Decimal units; from ten on no decimals, below it one unless it is whole: ``4.9 GB``, ``98 MB``, ``1 KB``."""
    for factor, unit in _UNITS:
        if size >= factor:
            whole = size >= _WHOLE_FROM * factor or size % factor == 0
            return f"{size // factor} {unit}" if whole else f"{size / factor:.1f} {unit}"
    return f"{size} B"


def relative_time(moment: datetime, now: datetime | None = None) -> str:
    """``2 weeks ago`` or ``4 minutes from now``; ``Never`` for Go's zero time, ``Forever`` beyond twenty years."""
    if moment == NEVER:
        return "Never"
    ahead = moment - (now or datetime.now(UTC))
    if ahead > _FAR:
        return "Forever"
    return f"{_duration(ahead)} from now" if ahead > timedelta() else f"{_duration(-ahead)} ago"


def until(moment: datetime, now: datetime | None = None) -> str:
    """When a loaded model goes; one whose time is past is being stopped."""
    past = moment != NEVER and moment < (now or datetime.now(UTC))
    return "Stopping..." if past else relative_time(moment, now)


def processor(size: int, size_vram: int) -> str:
    """Where a loaded model's bytes are: ``100% CPU``, ``100% GPU`` or the split."""
    if size_vram == 0:
        return "100% CPU"
    if size == 0 or size_vram > size:
        return "Unknown"
    if size_vram == size:
        return "100% GPU"
    on_cpu = _rounded((size - size_vram) / size * 100)
    return f"{on_cpu}%/{100 - on_cpu}% CPU/GPU"


def card_text(card: ModelCard, *, verbose: bool = False) -> str:
    """All about a model, in sections; ``verbose`` adds metadata and tensors."""
    info = card.model_info or {}
    sections = [
        ("Model", _model_rows(card, info)),
        ("Capabilities", [[name] for name in card.capabilities or ()]),
        ("Projector", _projector_rows(card.projector_info or {})),
        ("Parameters", [line.split(None, 1) for line in card.parameters.splitlines() if line.strip()]),
    ]
    if verbose:
        sections.append(("Metadata", [[key, _metadata_value(info[key])] for key in sorted(info)]))
        tensors = [[tensor["name"], tensor["type"], _array(tensor["shape"])] for tensor in card.tensors or ()]
        sections.append(("Tensors", tensors))
    sections += [("System", _first_lines(card.system)), ("License", _first_lines(card.license))]
    return "\n".join(f"  {title}\n{_aligned(rows, indent=_GAP)}\n" for title, rows in sections if rows)


def _model_rows(card: ModelCard, info: Mapping[str, Any]) -> list[list[str]]:
    architecture = str(info.get("general.architecture") or card.details.family)
    rows = [
        ("architecture", architecture),
        ("parameters", card.details.parameter_size),
        ("context length", info.get(f"{architecture}.context_length")),
        ("embedding length", info.get(f"{architecture}.embedding_length")),
        ("quantization", card.details.quantization_level),
    ]
    return [[name, _number(value)] for name, value in rows if value]


def _projector_rows(info: Mapping[str, Any]) -> list[list[str]]:
    if not info:
        return []
    architecture = str(info.get("general.architecture", ""))
    rows = [
        ("architecture", architecture),
        ("parameters", info.get("general.parameter_count")),
        ("embedding length", info.get(f"{architecture}.vision.embedding_length")),
        ("dimensions", info.get(f"{architecture}.vision.projection_dim")),
    ]
    return [[name, _number(value)] for name, value in rows if value]


def _first_lines(text: str) -> list[list[str]]:
    """The first two lines that are not empty, and dots if there are more."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    shown = lines[:_FIRST_LINES] + ["..."] * (len(lines) > _FIRST_LINES)
    return [[line] for line in shown]


def _metadata_value(value: object) -> str:
    """A metadata value on one line: of an array, what fits into about ten characters."""
    if not isinstance(value, list):
        return _number(value)
    shown = 0
    width = 1
    for item in value:
        width += len(_number(item)) + 2 * (shown > 0)
        if width > _ARRAY_WIDTH and shown:
            break
        shown += 1
    rest = len(value) - shown
    return _array(value) if rest == 0 else f"{_array(value[:shown])[:-1]} ...+{rest} more]"


def _array(values: Sequence[object]) -> str:
    return f"[{' '.join(_number(value) for value in values)}]"


def _number(value: object) -> str:
    """Whole numbers without a fraction, truth values as JSON has them."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _aligned(rows: Iterable[Sequence[str]], indent: str = "") -> str:
    """Rows with every column padded to its widest value."""
    rows = list(rows)
    widths: list[int] = []
    for row in rows:
        widths += [0] * (len(row) - len(widths))
        widths = [max(width, len(cell)) for width, cell in zip(widths, row, strict=False)] + widths[len(row) :]
    lines = (_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) for row in rows)
    return "\n".join((indent + line).rstrip() for line in lines)


def _duration(span: timedelta) -> str:
    """A time span in its largest unit, as Ollama words it."""
    seconds = int(span.total_seconds())
    minutes = seconds // 60
    hours = _rounded(span.total_seconds() / 3600)
    days = hours // 24
    if seconds < 1:
        return "Less than a second"
    if minutes < 1:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    if seconds < 60 * 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    bounds = ((48, hours, "hours"), (14 * 24, days, "days"), (60 * 24, days // 7, "weeks"))
    for bound, count, unit in (*bounds, (2 * 365 * 24, days // 30, "months")):
        if hours < bound:
            return f"{count} {unit}"
    return f"{seconds // 3600 // 24 // 365} years"


def _rounded(value: float) -> int:
    """Half goes up, as Go rounds."""
    return math.floor(value + 0.5)
