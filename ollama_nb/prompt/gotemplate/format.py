"""Go's ``fmt.Sprintf``, ``Sprint`` and ``Sprintln``: format strings, and the blanks between operands.

How one value looks under one verb is in ``verbs``.
"""

from __future__ import annotations

from typing import Final

from ollama_nb.prompt.gotemplate.errors import TemplateRunError
from ollama_nb.prompt.gotemplate.scalars import Flags
from ollama_nb.prompt.gotemplate.values import INVALID, GoValue, type_name
from ollama_nb.prompt.gotemplate.verbs import Printer
from ollama_nb.wire.gofloats import format_float

__all__ = ["MAX_WIDTH", "show", "sprint", "sprintf", "sprintln"]

MAX_WIDTH: Final = 100_000
"""The widest width and precision that a format string may ask for."""

_TOO_LARGE: Final = 1_000_000
"""Where Go itself stops to read a number."""

_SHORTEST_FORM: Final = 3


def show(value: GoValue) -> str:
    """A value as ``%v`` prints it."""
    if isinstance(value, str):
        return value
    if value is True or value is False:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return format_float(value, "g")
    printer = Printer()
    printer.value(value, "v")
    return printer.text()


def sprint(*values: GoValue) -> str:
    """The values one after the other, with a blank where neither neighbour is a string."""
    parts: list[str] = []
    after_string = True
    for value in values:
        is_string = isinstance(value, str)
        if parts and not is_string and not after_string:
            parts.append(" ")
        parts.append(show(value))
        after_string = is_string
    return "".join(parts)


def sprintln(*values: GoValue) -> str:
    """The values with blanks between them and a line's end behind."""
    return " ".join(map(show, values)) + "\n"


def sprintf(template: str, *values: GoValue) -> str:
    """The format string with its verbs filled in; raises TemplateRunError past a limit."""
    return _Formatter(template, values).run()


class _Formatter:
    def __init__(self, template: str, values: tuple[GoValue, ...]) -> None:
        self.template = template
        self.values = values
        self.printer = Printer()
        self.position = 0
        self.last_bracket = template.rfind("]")
        self.argument = 0
        # Go's bookkeeping of explicit indexes such as %[2]d.
        self.reordered = False
        self.good_index = True
        self.after_index = False

    def run(self) -> str:
        template, printer = self.template, self.printer
        while True:
            percent = template.find("%", self.position)
            if percent < 0:
                printer.write(template[self.position :])
                break
            printer.write(template[self.position : percent])
            self.position = percent + 1
            if not self.verb():
                printer.write("%!(NOVERB)")
                break
        if not self.reordered and self.argument < len(self.values):
            self.extra()
        return printer.text()

    def verb(self) -> bool:
        """One verb behind its percent sign; False where the format string ends before it."""
        flags = self.printer.flags = Flags()
        self.good_index, self.after_index = True, False
        self.read_flags(flags)
        self.index()
        self.read_width(flags)
        if self.at("."):
            self.read_precision(flags)
        if not self.after_index:
            self.index()
        if self.position >= len(self.template):
            return False
        verb = self.template[self.position]
        self.position += 1
        self.check(flags)
        self.fill(verb, flags)
        return True

    def fill(self, verb: str, flags: Flags) -> None:
        printer = self.printer
        if verb == "%":
            printer.write("%")
        elif not self.good_index:
            printer.write(f"%!{verb}(BADINDEX)")
        elif self.argument >= len(self.values):
            printer.write(f"%!{verb}(MISSING)")
        else:
            if verb == "v":
                flags.sharp_v, flags.sharp = flags.sharp, False
                flags.plus_v, flags.plus = flags.plus, False
            value = self.values[self.argument]
            self.argument += 1
            printer.value(value, verb)

    def extra(self) -> None:
        """What Go adds for values that no verb took."""
        printer = self.printer
        printer.flags = Flags()
        printer.write("%!(EXTRA ")
        for number, value in enumerate(self.values[self.argument :]):
            if number:
                printer.write(", ")
            if value is None or value is INVALID:
                printer.write("<nil>")
            else:
                printer.write(f"{type_name(value)}=")
                printer.value(value, "v")
        printer.write(")")

    def check(self, flags: Flags) -> None:
        if max(flags.width or 0, flags.precision or 0) > MAX_WIDTH:
            raise TemplateRunError(f"printf: a width or precision of more than {MAX_WIDTH}")

    # -- the parts of a verb ----------------------------------------------------------------------------------

    def at(self, char: str) -> bool:
        """Whether the character stands here; it is taken then."""
        if self.template.startswith(char, self.position):
            self.position += 1
            return True
        return False

    def read_flags(self, flags: Flags) -> None:
        while True:
            if self.at("#"):
                flags.sharp = True
            elif self.at("0"):
                flags.zero = not flags.minus
            elif self.at("+"):
                flags.plus = True
            elif self.at("-"):
                flags.minus, flags.zero = True, False
            elif self.at(" "):
                flags.space = True
            else:
                return

    def read_width(self, flags: Flags) -> None:
        if self.at("*"):
            flags.width = self.argument_number()
            if flags.width is None:
                self.printer.write("%!(BADWIDTH)")
            elif flags.width < 0:
                flags.width, flags.minus, flags.zero = -flags.width, True, False
            self.after_index = False
            return
        flags.width = self.number()
        if self.after_index and flags.width is not None:
            self.good_index = False

    def read_precision(self, flags: Flags) -> None:
        if self.after_index:
            self.good_index = False
        self.index()
        if self.at("*"):
            flags.precision = self.argument_number()
            if flags.precision is None or flags.precision < 0:
                flags.precision = None
                self.printer.write("%!(BADPREC)")
            self.after_index = False
            return
        flags.precision = self.number() or 0

    def number(self) -> int | None:
        """The digits here as a number; None for none, or for one that is too large, which swallows the rest."""
        template, start = self.template, self.position
        value = 0
        while self.position < len(template) and "0" <= template[self.position] <= "9":
            if value > _TOO_LARGE:
                self.position = len(template)
                return None
            value = value * 10 + int(template[self.position])
            self.position += 1
        return value if self.position > start else None

    def argument_number(self) -> int | None:
        """The next value, as a width or precision."""
        if self.argument >= len(self.values):
            return None
        value = self.values[self.argument]
        self.argument += 1
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _TOO_LARGE:
            return None
        return value

    def index(self) -> None:
        """An explicit index ``[n]``, if one stands here."""
        self.after_index = False
        if not self.template.startswith("[", self.position):
            return
        self.reordered = True
        start = self.position + 1
        end = self.template.find("]", start) if self.last_bracket >= start else -1
        if end < 0 or len(self.template) - self.position < _SHORTEST_FORM:
            self.good_index = False
            self.position += 1
            return
        digits = self.template[start:end]
        self.position = end + 1
        number = int(digits) - 1 if digits.isascii() and digits.isdecimal() and len(digits) <= len("1000000") else None
        if number is not None and 0 <= number < len(self.values):
            self.argument, self.after_index = number, True
            return
        self.good_index = False
        # A number that no value has still counts as an index that was read.
        self.after_index = number is not None
