"""What goes wrong with a template: one base, one class for reading it, one for running it.

Which HTTP answer such an error becomes is left to the layers above.
"""

from __future__ import annotations

__all__ = ["TemplateError", "TemplateRunError", "TemplateSyntaxError"]


class TemplateError(Exception):
    """A template cannot be read or run; the text is one line for the user."""


class TemplateSyntaxError(TemplateError):
    """The source is no template. ``line`` and ``column`` count from 1; ``reason`` is the text without them."""

    def __init__(self, reason: str, line: int, column: int) -> None:
        super().__init__(f"template: line {line}, column {column}: {reason}")
        self.reason = reason
        self.line = line
        self.column = column

    @classmethod
    def at(cls, reason: str, source: str, position: int) -> TemplateSyntaxError:
        """The error at an offset of the source."""
        line = source.count("\n", 0, position) + 1
        column = position - (source.rfind("\n", 0, position) + 1) + 1
        return cls(reason, line, column)


class TemplateRunError(TemplateError):
    """The template met data that it does not fit, or a limit."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"template: {reason}")
        self.reason = reason
