"""The steps of long work as a notebook shows them: a table that grows, with a bar for each transfer.

Two texts of the same table are made, HTML for a page and plain text for where there is none. Neither names a colour:
bars have that of the page's text, in every theme. When and where they are shown is left to ``display``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Final, TypeAlias

from ollama_nb.cli.progress import Rate, left_text, rate_text
from ollama_nb.cli.text import human_size

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Board"]

_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{12})[0-9a-f]{52}")
_WIDTH: Final = 20
"""Characters of a bar in plain text."""

_TABLE: Final = (
    "border-collapse: collapse; table-layout: auto; margin: 0; color: inherit; font-variant-numeric: tabular-nums"
)
_ROW: Final = "background: none"
_CELL: Final = "border: none; background: none; padding: 0 0.8em 0 0; text-align: left; white-space: nowrap"
_NAME: Final = f"{_CELL}; max-width: 16em; overflow: hidden; text-overflow: ellipsis"
_NUMBER: Final = _CELL.replace("left", "right")
_SENTENCE: Final = _CELL.replace("nowrap", "normal")
# Borders without a colour have the text's, and are all that JupyterLab leaves of colours where it trusts no HTML.
_FRAME: Final = "width: 10em; border: 1px solid; border-radius: 0.3em; overflow: hidden"
_FILLING: Final = "height: 0; border-top: 0.6em solid; opacity: 0.6"

_Cells: TypeAlias = "tuple[str, str, str, str]"
"""Percent, bytes, rate and time left, as text."""


@dataclass(slots=True)
class _Bar:
    """One transfer; ``halted`` when it will not go on."""

    completed: int = 0
    total: int = 0
    halted: bool = False
    rate: Rate = field(default_factory=Rate)

    @property
    def percent(self) -> int:
        """How much of it is there, rounded down: 100 is all of it."""
        return min(100, 100 * self.completed // self.total) if self.total else 100

    def cells(self) -> _Cells:
        """What stands beside the bar."""
        size = human_size(self.total)
        if self.completed >= self.total:
            return "100%", size, "", ""
        percent, size = f"{self.percent}%", f"{human_size(self.completed)} of {size}"
        speed = self.rate.per_second()
        if self.halted or speed is None:
            return percent, size, "", ""
        left = self.rate.seconds_left(self.total)
        return percent, size, rate_text(speed), "" if left is None else left_text(left)


class Board:
    """Steps and transfers in the order in which they began."""

    def __init__(self) -> None:
        self._rows: dict[str, _Bar | None] = {}

    def status(self, text: str) -> None:
        """A step without bytes, below those before."""
        self._rows[_short(text)] = None

    def progress(self, label: str, completed: int, total: int, now: float) -> None:
        """So many bytes of a transfer are there at ``now``, in seconds of any clock."""
        label = _short(label)
        bar = self._rows.get(label) or _Bar()
        self._rows[label] = bar
        bar.completed, bar.total = completed, total
        bar.rate.add(now, completed)

    def halt(self) -> None:
        """Nothing goes on: bars that are not full stay as they are, without a speed."""
        for bar in self._bars():
            bar.halted = True

    def bundle(self) -> dict[str, str]:
        """The table by MIME type; HTML only where there is a bar to draw."""
        plain = {"text/plain": self._plain()}
        return {"text/html": self._html(), **plain} if any(self._bars()) else plain

    def _bars(self) -> Iterable[_Bar]:
        return (bar for bar in self._rows.values() if bar is not None)

    def _plain(self) -> str:
        width = max((len(label) for label, bar in self._rows.items() if bar is not None), default=0)
        return "\n".join(
            label if bar is None else _plain_row(label.ljust(width), bar) for label, bar in self._rows.items()
        )

    def _html(self) -> str:
        rows = "".join(
            _html_status(label) if bar is None else _html_row(label, bar) for label, bar in self._rows.items()
        )
        return f'<table style="{_TABLE}">{rows}</table>'


def _plain_row(label: str, bar: _Bar) -> str:
    filled = _WIDTH * bar.percent // 100
    percent, *others = bar.cells()
    drawn = f"[{'#' * filled}{' ' * (_WIDTH - filled)}]"
    return "  ".join([label, f"{drawn} {percent:>4}", *filter(None, others)])


def _html_row(label: str, bar: _Bar) -> str:
    name, percent, size, speed, left = map(escape, (label, *bar.cells()))
    drawn = (
        f'<div role="progressbar" aria-label="{name}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{bar.percent}" style="{_FRAME}"><div style="width: {bar.percent}%; {_FILLING}"></div></div>'
    )
    cells = [f'<td style="{_NAME}">{name}</td><td style="{_CELL}">{drawn}</td>']
    cells += [f'<td style="{_NUMBER}">{text}</td>' for text in (percent, size, speed, left)]
    return f'<tr style="{_ROW}">{"".join(cells)}</tr>'


def _html_status(text: str) -> str:
    return f'<tr style="{_ROW}"><td colspan="6" style="{_SENTENCE}">{escape(text)}</td></tr>'


def _short(text: str) -> str:
    """A digest's first twelve digits say enough."""
    return _DIGEST.sub(r"\1", text)
