"""Long texts in parts that are tokenised as if they were one.

llama.cpp looks for every special token from the end of the one before to the end of the text, which takes the square
of the length where there are many, as in a long conversation. A part begins with a special token, where no other token
can reach across. Nothing here knows a model.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["LONG_TEXT", "Seams"]

LONG_TEXT: Final = 1 << 14
"""Characters behind which a part ends at the next seam."""


class Seams:
    """Where a text may be cut: before the ``marks``, of all the ``special`` texts that the tokenizer looks for.

    A mark must not be part of another special text, nor overlap one. It cannot, if its first character begins special
    texts only and its last one ends them only, as angle brackets do.
    """

    def __init__(self, marks: Iterable[str], special: Iterable[str]) -> None:
        inner: Counter[str] = Counter()
        beyond_first: Counter[str] = Counter()
        for text in special:
            inner.update(text[:-1])
            beyond_first.update(text[1:])
        usable = [text for text in marks if len(text) > 1 and not beyond_first[text[0]] and not inner[text[-1]]]
        # The longest first, as the tokenizer does.
        found = sorted(usable, key=len, reverse=True)
        self._mark = re.compile("|".join(map(re.escape, found))) if found else None

    def parts(self, text: str) -> Iterator[str]:
        """The text in parts, of which none is empty unless the text is."""
        start = 0
        if self._mark is not None:
            while seam := self._mark.search(text, start + LONG_TEXT):
                yield text[start : seam.start()]
                start = seam.start()
        yield text[start:]
