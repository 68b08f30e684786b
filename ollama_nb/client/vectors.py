"""Texts and their vectors, as a client sends and gets them: any sequence of texts in, one numpy array out.

A reply of thousands of vectors is decoded row by row, so that no more than one row of it stands in memory as Python
numbers. numpy is loaded when the first reply is read, for importing the package must stay cheap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from ollama_nb.client.reply import UnreadableError, read
from ollama_nb.wire.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import numpy.typing as npt

__all__ = ["Embeddings", "list_texts", "read_embeddings"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """Unit vectors, one a text, and what it took. Durations in ns.

    ``embeddings`` is a float32 array of shape (texts, dimensions). The result itself is an array wherever one is
    asked for: ``numpy.asarray(result)``, ``result @ result.embeddings.T``.
    """

    texts: tuple[str, ...] = field(repr=False)
    embeddings: npt.NDArray[np.float32] = field(repr=False)
    model: str = ""
    prompt_eval_count: int = 0
    total_duration: int = 0
    load_duration: int = 0

    def __len__(self) -> int:
        return len(self.embeddings)

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        return iter(self.embeddings)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - whatever numpy takes and gives
        return self.embeddings[index]

    def __matmul__(self, other: Any) -> Any:  # noqa: ANN401 - the same
        return self.embeddings @ other

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        import numpy as np  # noqa: PLC0415 - loaded already: there is an array

        return np.array(self.embeddings, dtype=dtype, copy=copy) if copy else np.asarray(self.embeddings, dtype=dtype)


class _Reply(msgspec.Struct):
    """``/api/embed``'s reply, its vectors still JSON."""

    embeddings: list[msgspec.Raw] | None = None
    model: str = ""
    prompt_eval_count: int = 0
    total_duration: int = 0
    load_duration: int = 0


def list_texts(texts: str | Iterable[str]) -> list[str]:
    """The texts of a request: one text is a list of one. Raises ``BadRequestError`` for what is no text."""
    if isinstance(texts, str):
        return [str(texts)]
    found: list[str] = []
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise BadRequestError(
                f"{text!r:.60} at position {place} is no text", hint="Every item must be a text; a Series: dropna()."
            )
        found.append(str(text))  # numpy's texts have a type of their own
    return found


def read_embeddings(body: bytes, texts: list[str]) -> Embeddings:
    """The reply to a request for the vectors of ``texts``; raises ``OllamaError`` if it cannot be read."""
    reply = read(body, _Reply)
    try:
        vectors = _rows(reply.embeddings or [])
    except ValueError as error:  # also msgspec's
        raise UnreadableError(error) from error
    return Embeddings(
        texts=tuple(texts),
        embeddings=vectors,
        model=reply.model,
        prompt_eval_count=reply.prompt_eval_count,
        total_duration=reply.total_duration,
        load_duration=reply.load_duration,
    )


def _rows(rows: list[msgspec.Raw]) -> npt.NDArray[np.float32]:
    """JSON lists of numbers, all of one length, as an array; raises ``ValueError`` for anything else."""
    import numpy as np  # noqa: PLC0415 - see the module's docstring

    decoder = msgspec.json.Decoder(list[float])
    width = len(decoder.decode(rows[0])) if rows else 0
    vectors = np.empty((len(rows), width), dtype=np.float32)
    for number, row in enumerate(rows):
        numbers = decoder.decode(row)
        if len(numbers) != width:
            raise ValueError(f"vector {number} has {len(numbers)} numbers, the first one {width}")
        vectors[number] = numbers
    return vectors
