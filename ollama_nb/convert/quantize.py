"""Which quantizations there are and what they can be made of: all that is known from a name and a header.

The names are llama.cpp's file types (``gguf.ggml_types.FILE_TYPES``), in large or small letters. Making the file is
left to ``engine.quantizer``, in a process of its own.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from ollama_nb.gguf.ggml_types import FILE_TYPES
from ollama_nb.wire.errors import BadRequestError

if TYPE_CHECKING:
    from ollama_nb.gguf.header import Header

__all__ = ["FLOAT_TYPES", "NEED_IMATRIX", "QUANTIZATIONS", "quantization", "require_source"]

FLOAT_TYPES: Final = ("F32", "F16", "BF16")
"""What a model may be quantized from; going from one of them to another works too."""

NEED_IMATRIX: Final = frozenset(
    {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"}
)
"""Types that llama.cpp makes with an importance matrix only, since without one the model talks nonsense."""

_NOT_MADE: Final = frozenset({"NVFP4"})
"""Types that llama.cpp reads and does not make."""

QUANTIZATIONS: Final = tuple(name for name in FILE_TYPES.values() if name not in NEED_IMATRIX | _NOT_MADE)
"""The types that models can be given here."""

_ALIASES: Final = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4_MOE": "MXFP4"}
"""Short names of llama.cpp; ``Q4_K`` is Ollama's too."""

_INTEGERS: Final = frozenset({"I8", "I16", "I32", "I64"})
"""Tables that belong to some models and are left as they are."""

_MATRIX: Final = 2
_HINT: Final = "choose one of " + ", ".join(QUANTIZATIONS)


def quantization(name: str) -> str:
    """The type that a request means, as in ``FILE_TYPES``: ``Q4_K_M`` for ``q4_K``. Raises ``BadRequestError``."""
    given = name.upper()
    wanted = _ALIASES.get(given, given)
    if wanted in NEED_IMATRIX:
        raise BadRequestError(
            f"quantization type {wanted} needs an importance matrix, measured on texts with the original model",
            hint=f"Q2_K, IQ3_S and Q3_K_S are the smallest that need none; {_HINT}",
        )
    if wanted not in QUANTIZATIONS:
        raise BadRequestError(
            f"unsupported quantization type {given} - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0", hint=_HINT
        )
    return wanted


def require_source(header: Header, wanted: str) -> str:
    """The type that a model has, ``F32``, ``F16`` or ``BF16``; where it is ``wanted``, nothing is to be done.

    Raises ``BadRequestError`` for a model that is quantized already, and where ``wanted`` would not do to this one what
    it says. Ollama takes no model of F32 whose file says so; that is no reason here.
    """
    have = _float_type(header)
    if have is None:
        shown = header.file_type
        raise BadRequestError(
            "quantization is only supported for F16 and F32 models",
            hint=f"this one is {shown}, and making it smaller from there would spoil it: start from its F32, F16 or "
            "BF16 file",
        )
    experts = header.get("expert_count")
    if wanted == "MXFP4" and not (isinstance(experts, int) and experts > 0):
        raise BadRequestError(
            "quantization type MXFP4 is for models that are mixtures of experts, which this one is not",
            hint="choose Q4_K_M for a file of that size",
        )
    return have


def _float_type(header: Header) -> str | None:
    """What the file says if its tensors bear it out, else the type of most weights; None for a quantized model."""
    weights: Counter[str] = Counter()
    for tensor in header.tensors:
        if tensor.type in _INTEGERS:
            continue
        if tensor.type not in FLOAT_TYPES:
            return None
        if len(tensor.shape) >= _MATRIX:
            weights[tensor.type] += tensor.elements
    if not weights:
        return None
    return header.file_type if header.file_type in FLOAT_TYPES else weights.most_common(1)[0][0]
