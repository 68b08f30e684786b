"""One value by one verb of Go's ``fmt``: flags, width, precision, and what stands where a verb does not fit.

``format`` reads format strings and calls this. Lists, maps and structs are printed element by element with the
same flags, as Go does it, so ``printf "%03d"`` of a list pads each number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ollama_nb.prompt.gotemplate.errors import TemplateRunError
from ollama_nb.prompt.gotemplate.scalars import (
    Flags,
    bool_text,
    bytes_text,
    complex_text,
    integer_text,
    pad,
    real_text,
    string_text,
)
from ollama_nb.prompt.gotemplate.values import (
    INVALID,
    Byte,
    GoList,
    GoMap,
    GoValue,
    Struct,
    field_names,
    is_nil,
    sorted_items,
    type_name,
)
from ollama_nb.wire.gostrings import go_string

__all__ = ["MAX_OUTPUT", "Printer"]

MAX_OUTPUT: Final = 64 * 1024 * 1024
"""Characters that a template, or one function in it, may make."""


_ADDRESS: Final = "0xc000000000"
"""What stands for the address of anything, so that the same data prints the same each time."""


def _scalar(flags: Flags, value: str | complex, verb: str) -> str | None:
    """A value without parts; None where the verb does not fit."""
    if isinstance(value, str):
        return string_text(flags, value, verb)
    if isinstance(value, bool):
        return bool_text(flags, value, verb)
    if isinstance(value, int):
        return integer_text(flags, value, verb)
    if isinstance(value, float):
        return real_text(flags, value, verb)
    return complex_text(flags, value, verb)


@dataclass
class Printer:
    """Collects output. ``flags`` are those of the verb at work."""

    flags: Flags = field(default_factory=Flags)
    parts: list[str] = field(default_factory=list)
    room: int = MAX_OUTPUT
    # While the value of a wrong verb is shown, its own String method stays out.
    erroneous: bool = False

    def write(self, text: str) -> None:
        """Add to the output; raises TemplateRunError past the limit."""
        self.room -= len(text)
        if self.room < 0:
            raise TemplateRunError(f"more than {MAX_OUTPUT} characters of output")
        self.parts.append(text)

    def text(self) -> str:
        """All that was written."""
        return "".join(self.parts)

    # -- one value --------------------------------------------------------------------------------------------

    def value(self, value: GoValue, verb: str, depth: int = 0) -> None:
        """Write a value; ``depth`` counts the lists, maps and structs around it."""
        if value is None or value is INVALID:
            self.nothing(verb, depth)
        elif verb == "T" and depth == 0:
            self.write(string_text(self.flags, type_name(value), "s") or "")
        elif verb == "p" and depth == 0:
            self.pointer(value)
        elif isinstance(value, (str, int, float, complex)):
            text = _scalar(self.flags, value, verb)
            if text is None:
                self.wrong(value, verb)
            else:
                self.write(text)
        elif not self.own_string(value, verb):
            self.composite(value, verb, depth)

    def own_string(self, value: GoValue, verb: str) -> bool:
        """Write what the type's String method says, if it has one and the verb is one for text."""
        if not isinstance(value, (GoList, Struct)) or self.erroneous or self.flags.sharp_v or verb not in "vsxXq":
            return False
        said = value.go_string()
        if said is None:
            return False
        self.write(string_text(self.flags, said, verb) or "")
        return True

    def nothing(self, verb: str, depth: int) -> None:
        """Write nil."""
        if depth and self.flags.sharp_v:
            self.write("interface {}(nil)")
        elif depth:
            self.write("<nil>")
        elif verb in "Tv":
            self.write(pad(self.flags, "<nil>"))
        else:
            self.write(f"%!{verb}(<nil>)")

    def wrong(self, value: GoValue, verb: str) -> None:
        """Write what Go prints for a verb that does not fit: ``%!d(string=x)``."""
        before, self.erroneous = self.erroneous, True
        self.write(f"%!{verb}({type_name(value)}=")
        self.value(value, "v", 1)
        self.write(")")
        self.erroneous = before

    def pointer(self, value: GoValue) -> None:
        """Write an address, for what has one."""
        if isinstance(value, (list, dict)) or getattr(value, "pointer", False):
            self.write(pad(self.flags, "0x0" if is_nil(value) else _ADDRESS))
        else:
            self.wrong(value, "p")

    # -- lists, maps and structs ------------------------------------------------------------------------------

    def composite(self, value: GoValue, verb: str, depth: int) -> None:
        """Write what has elements."""
        if isinstance(value, bytes):
            self.byte_list(value, verb, depth)
        elif isinstance(value, (list, tuple)):
            self.sequence(value, verb, depth)
        elif isinstance(value, dict):
            self.mapping(value, verb, depth)
        elif field_names(type(value)):
            self.struct(value, verb, depth)
        else:
            raise TemplateRunError(f"can't print a value of type {type_name(value)}")

    def byte_list(self, value: bytes, verb: str, depth: int) -> None:
        """Write bytes: as a string by its verbs, else as a list of numbers."""
        if verb in "xX":
            self.write(bytes_text(self.flags, value, verb))
        elif verb in "sq":
            self.write(string_text(self.flags, go_string(value), verb) or "")
        else:
            self.sequence([Byte(byte) for byte in value], verb, depth)

    def sequence(self, value: list[GoValue] | tuple[GoValue, ...], verb: str, depth: int) -> None:
        """Write a list."""
        sharp_v = self.flags.sharp_v
        if sharp_v and is_nil(value):
            self.write(f"{type_name(value)}(nil)")
            return
        self.write(f"{type_name(value)}{{" if sharp_v else "[")
        for number, item in enumerate(value):
            if number:
                self.write(", " if sharp_v else " ")
            self.value(item, verb, depth + 1)
        self.write("}" if sharp_v else "]")

    def mapping(self, value: dict[str, GoValue], verb: str, depth: int) -> None:
        """Write a map, its keys in order."""
        sharp_v = self.flags.sharp_v
        if sharp_v and isinstance(value, GoMap) and value.is_nil:
            self.write(f"{type_name(value)}(nil)")
            return
        self.write(f"{type_name(value)}{{" if sharp_v else "map[")
        for number, (key, item) in enumerate(sorted_items(value)):
            if number:
                self.write(", " if sharp_v else " ")
            self.value(key, verb, depth + 1)
            self.write(":")
            self.value(item, verb, depth + 1)
        self.write("}" if sharp_v else "]")

    def struct(self, value: GoValue, verb: str, depth: int) -> None:
        """Write a struct, or a pointer to one, which within others is an address only."""
        flags = self.flags
        if isinstance(value, Struct) and value.pointer:
            if depth:
                self.write(_ADDRESS)
                return
            self.write("&")
        self.write(f"{type_name(value).removeprefix('*')}{{" if flags.sharp_v else "{")
        unprinted = value.unprinted if isinstance(value, Struct) else frozenset()
        first = True
        for name in field_names(type(value)):
            item = getattr(value, name)
            if name in unprinted and not item:
                continue
            if not first:
                self.write(", " if flags.sharp_v else " ")
            first = False
            if flags.plus_v or flags.sharp_v:
                self.write(f"{name}:")
            self.value(item, verb, depth + 1)
        self.write("}")
